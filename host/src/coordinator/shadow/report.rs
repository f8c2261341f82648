//! What a shadow has found. No thread, clock or disk.

use std::collections::BTreeMap;

/// How many differences are shown in full.
const SHOWN: usize = 20;

/// So many messages must have been compared before their cost says anything.
const COST_LEAST: u64 = 1_000;

/// What has come of new code beside the code that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowReport {
    /// Messages that both have processed.
    pub compared: u64,
    /// Of these, where both failed.
    pub failing: u64,
    /// Of these, where they did not do the same.
    pub differing: u64,
    /// How many messages differed in what.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Given the same message twice, one of the two did something else: differences may mean nothing.
    pub is_unstable: bool,
    /// Processor time that each has spent in calls, nanoseconds: the code that runs, and the new code.
    pub spent_ns: [u64; 2],
}

/// A message of which both make something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The task.
    pub task: String,
    /// The stream of the message.
    pub stream: String,
    /// Its offset.
    pub offset: u64,
    /// Its key, as text.
    pub key: Option<String>,
    /// In what they differ: `outcome`, `output` or `state`; `batch`: only in the batch that begins with it, and in no message alone.
    pub kinds: Vec<&'static str>,
    /// What the code that runs makes of it.
    pub control: Made,
    /// What the new code makes of it.
    pub candidate: Made,
}

/// What code makes of a message: the first of it, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Whether it passes, and why not.
    pub outcome: String,
    /// What is sent: stream, key and value.
    pub sent: Vec<[String; 3]>,
    /// Entries that differ afterwards: store, key and value.
    pub state: Vec<[String; 3]>,
}

impl ShadowReport {
    /// Messages of which both have made the same.
    pub(super) fn note_equal(&mut self, messages: u64) {
        self.compared += messages;
    }

    /// Messages of which both have made the same.
    pub fn equal(&self) -> u64 {
        self.compared - self.differing
    }

    /// A message of which they have not.
    pub(super) fn note(&mut self, difference: Difference) {
        self.compared += 1;
        self.note_of_batch(difference);
    }

    /// Messages that were compared of which they have not made the same together, although they have of each alone: one of them differs.
    pub(super) fn note_of_batch(&mut self, difference: Difference) {
        self.differing += 1;
        for kind in &difference.kinds {
            *self.kinds.entry(kind).or_default() += 1;
        }
        if self.differences.len() < SHOWN {
            self.differences.push(difference);
        }
    }

    /// Adds what was found after it.
    pub(super) fn add(&mut self, more: ShadowReport) {
        self.compared += more.compared;
        self.differing += more.differing;
        self.failing += more.failing;
        for (kind, count) in more.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.is_unstable |= more.is_unstable;
        let room = SHOWN - self.differences.len();
        let first = more.differences.into_iter().take(room);
        self.differences.extend(first);
        for (all, more) in self.spent_ns.iter_mut().zip(more.spent_ns) {
            *all += more;
        }
    }

    /// What it comes to, in a sentence.
    pub fn sentence(&self) -> String {
        let ShadowReport {
            compared,
            differing,
            ..
        } = self;
        let each = |ns: u64| ns as f64 / 1e3 / (*compared).max(1) as f64;
        let [control, candidate] = self.spent_ns.map(each);
        let mut text = match differing {
            0 => format!("{compared} messages were compared, and all are equal"),
            _ => format!("{differing} of {compared} messages that were compared differ"),
        };
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter();
            let kinds: Vec<String> = kinds
                .map(|(kind, count)| format!("{count} in {kind}"))
                .collect();
            text += &format!(" ({})", kinds.join(", "));
        }
        if self.failing > 0 {
            text += &format!("; both fail at {} of them", self.failing);
        }
        if *compared >= COST_LEAST {
            text += &format!(
                "; a message takes {candidate:.1} us, and {control:.1} us under the code that runs"
            );
        }
        if self.is_unstable {
            text += "; given the same message twice, the same code did something else, so differences may mean nothing";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differences_are_shown_and_all_are_counted() {
        let difference = |offset| Difference {
            task: "s/0".into(),
            stream: "in".into(),
            offset,
            key: None,
            kinds: vec!["output", "state"],
            control: Made::default(),
            candidate: Made::default(),
        };
        let mut report = ShadowReport::default();
        report.note_equal(1_000);
        assert!(report.sentence().contains("all are equal"));
        (0..50).for_each(|offset| report.note(difference(offset)));
        assert_eq!((report.compared, report.differing), (1_050, 50));
        assert_eq!(report.differences.len(), SHOWN);
        assert_eq!(report.differences[0].offset, 0);
        assert_eq!(report.kinds["state"], 50);
        assert!(
            report.sentence().contains(
                "50 of 1050 messages that were compared differ (50 in output, 50 in state)"
            )
        );
    }
}
