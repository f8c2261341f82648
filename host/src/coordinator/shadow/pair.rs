//! Both codes of a shadow on the same batch: what each has sent, what its stores have afterwards, and whether it has failed.

use std::collections::BTreeSet;

use super::report::{Difference, Made, ShadowReport};
use super::side::{Rejected, Side};
use crate::model::{Batch, MessageRef, Offset, OutputIndex, PartitionId, StreamId, TimestampMs};
use crate::state::{Order, ScanOptions, StateError, Written};

/// Entries of a deleted range that are compared, and messages and entries of a difference that are shown.
const RANGE_ENTRIES: usize = 10_000;
const SHOWN: usize = 10;
/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 256;
/// Differing messages of a task that each code processes twice, to see whether it differs from itself.
pub(super) const TWICE: u32 = 100;

/// The code that runs, and the new code.
pub(super) struct Pair {
    pub(super) control: Side,
    pub(super) candidate: Side,
    /// Whether stores are compared: state of another version has another form.
    pub(super) compares_state: bool,
    /// Of the next differing messages, how many are processed twice.
    pub(super) twice: u32,
}

/// A batch, and what is the same for both.
pub(super) struct Given<'a> {
    pub(super) task: &'a str,
    pub(super) stream: &'a str,
    pub(super) batch: &'a Batch,
    pub(super) now: TimestampMs,
    /// Messages before this offset were compared before.
    pub(super) new_from: Offset,
    /// Whether it is over: then the rest of the batch is left.
    pub(super) is_over: &'a dyn Fn() -> bool,
    /// The names of the streams that are written.
    pub(super) streams: &'a dyn Fn(StreamId) -> String,
}

impl Given<'_> {
    /// A difference at a message of the batch.
    fn difference(&self, index: usize, [control, candidate]: [Made; 2]) -> Difference {
        Difference {
            task: self.task.to_owned(),
            stream: self.stream.to_owned(),
            offset: self.batch.offsets[index],
            key: self.batch.messages.key(index).map(shown),
            kinds: Vec::new(),
            control,
            candidate,
        }
    }
}

/// A key of a store.
type Place = (String, Vec<u8>);

impl Pair {
    /// Has both process a batch, and compares.
    ///
    /// # Errors
    /// State cannot be read.
    pub(super) fn process(
        &mut self,
        given: &Given<'_>,
        report: &mut ShadowReport,
    ) -> Result<(), StateError> {
        let (batch, len) = (given.batch, given.batch.len());
        let ran = self.run_both(batch, given.now);
        let (kinds, places) = self.differ_in([&ran.0, &ran.1])?;
        if kinds.is_empty() && ran.0.is_ok() {
            self.keep();
            let new = batch
                .offsets
                .iter()
                .filter(|offset| **offset >= given.new_from);
            report.note_equal(new.count() as u64);
            self.note_spent(report);
            return Ok(());
        }
        let whole = self.made([&ran.0, &ran.1].map(outcome), &places, given)?;
        self.undo();
        let differing = report.differing;
        for index in 0..len {
            if (given.is_over)() {
                self.note_spent(report);
                return Ok(());
            }
            self.process_one(given, index, report)?;
        }
        let was_new = batch.offsets[len - 1] >= given.new_from;
        if !kinds.is_empty() && report.differing == differing && was_new {
            // What instances remember of the messages before makes the difference, or how many they have processed.
            report.note_of_batch(Difference {
                kinds: vec!["batch"],
                ..given.difference(0, whole)
            });
        }
        self.note_spent(report);
        Ok(())
    }

    /// In what they differ, and in which keys.
    fn differ_in(
        &mut self,
        ran: [&Result<Rejected, String>; 2],
    ) -> Result<(Vec<&'static str>, Vec<Place>), StateError> {
        let [control, candidate] = ran.map(|ran| ran.as_ref().ok());
        let mut kinds = Vec::new();
        if control.is_none() && candidate.is_none() {
            // What a fault says of the place in the code is another text in other code, and nothing else is left of it.
            return Ok((kinds, Vec::new()));
        }
        let places = self.differing_keys()?;
        if control != candidate {
            kinds.push("outcome");
        }
        if !self.have_sent_the_same() {
            kinds.push("output");
        }
        if !places.is_empty() {
            kinds.push("state");
        }
        Ok((kinds, places))
    }

    fn process_one(
        &mut self,
        given: &Given<'_>,
        index: usize,
        report: &mut ShadowReport,
    ) -> Result<(), StateError> {
        let one = given.batch.slice(index..index + 1);
        let (control, candidate) = self.run_both(&one, given.now);
        let (kinds, places) = self.differ_in([&control, &candidate])?;
        let outcomes = [&control, &candidate].map(outcome);
        let is_new = one.offsets[0] >= given.new_from;
        report.failing += u64::from(is_new && control.is_err() && candidate.is_err());
        if is_new && kinds.is_empty() {
            report.note_equal(1);
        } else if is_new {
            let made = self.made(outcomes, &places, given)?;
            report.note(Difference {
                kinds,
                ..given.difference(index, made.clone())
            });
            if self.twice > 0 {
                self.twice -= 1;
                self.undo();
                let (first, second) = self.run_both(&one, given.now);
                let again = self.made([outcome(&first), outcome(&second)], &places, given)?;
                report.is_unstable |= again != made;
            }
        }
        self.keep();
        if self.control.has_instance() != self.candidate.has_instance() {
            // One has failed: both go on with instances that remember nothing.
            self.control.forget();
            self.candidate.forget();
        }
        Ok(())
    }

    fn made(
        &mut self,
        [control, candidate]: [String; 2],
        places: &[Place],
        given: &Given<'_>,
    ) -> Result<[Made; 2], StateError> {
        Ok([
            made(&mut self.control, control, places, given)?,
            made(&mut self.candidate, candidate, places, given)?,
        ])
    }

    fn run_both(
        &mut self,
        batch: &Batch,
        now: TimestampMs,
    ) -> (Result<Rejected, String>, Result<Rejected, String>) {
        let latest = batch.messages.timestamps.iter().copied().max();
        let seed = batch.offsets[0];
        let run = |side: &mut Side| {
            side.begin(now, latest.unwrap_or_default(), seed);
            side.run(batch)
        };
        (run(&mut self.control), run(&mut self.candidate))
    }

    fn keep(&mut self) {
        self.control.keep();
        self.candidate.keep();
    }

    fn undo(&mut self) {
        self.control.undo();
        self.candidate.undo();
    }

    fn note_spent(&mut self, report: &mut ShadowReport) {
        report.spent_ns[0] += std::mem::take(&mut self.control.spent_ns);
        report.spent_ns[1] += std::mem::take(&mut self.candidate.spent_ns);
    }

    /// Bytes that both have written above what is committed.
    pub(super) fn bytes(&mut self) -> usize {
        self.control.context().open_bytes() + self.candidate.context().open_bytes()
    }

    fn have_sent_the_same(&self) -> bool {
        let ports = (&self.control.ports, &self.candidate.ports);
        let (control, candidate) = (self.control.sent(), self.candidate.sent());
        let place = |ports: &[StreamId], (port, partition): (OutputIndex, PartitionId)| {
            (ports[port.index()], partition)
        };
        let routes = control.routes.iter().zip(&candidate.routes);
        let mut same = routes.map(|(a, b)| place(ports.0, *a) == place(ports.1, *b));
        let [these, those] = [&control.messages, &candidate.messages];
        // Columns that are absent say the same as columns that have nothing.
        control.len() == candidate.len()
            && same.all(|same| same)
            && (these == those
                || (0..control.len()).all(|at| is_same(these.get(at), those.get(at))))
    }

    /// The keys that have other values now, of those that either of them has written.
    fn differing_keys(&mut self) -> Result<Vec<Place>, StateError> {
        let mut differing = Vec::new();
        if !self.compares_state {
            return Ok(differing);
        }
        for name in self.control.stores.clone() {
            if self.candidate.store(&name).is_none() {
                continue;
            }
            let written = [
                written(&mut self.control, &name),
                written(&mut self.candidate, &name),
            ];
            let mut keys: BTreeSet<Vec<u8>> = BTreeSet::new();
            for Written {
                keys: of_one,
                ranges,
            } in &written
            {
                keys.extend(of_one.iter().cloned());
                for range in ranges {
                    keys.extend(keys_of(&mut self.control, &name, range)?);
                    keys.extend(keys_of(&mut self.candidate, &name, range)?);
                }
            }
            for key in keys {
                if self.control.get(&name, &key)? != self.candidate.get(&name, &key)? {
                    differing.push((name.clone(), key));
                }
            }
        }
        Ok(differing)
    }
}

fn written(side: &mut Side, store: &str) -> Written {
    match side.store(store) {
        Some(store) => side.context().state_mut().written(store),
        None => Written::default(),
    }
}

/// The first keys that a store has in a range.
fn keys_of(
    side: &mut Side,
    store: &str,
    (start, end): &(Vec<u8>, Option<Vec<u8>>),
) -> Result<Vec<Vec<u8>>, StateError> {
    let Some(store) = side.store(store) else {
        return Ok(Vec::new());
    };
    let state = side.context().state_mut();
    let options = ScanOptions {
        order: Order::Up,
        keys_only: true,
    };
    let cursor = state.scan(store, Some(start), end.as_deref(), options);
    let mut keys = Vec::new();
    while keys.len() < RANGE_ENTRIES {
        let found = state.scan_next(cursor, 1_000, 1 << 20, &mut || false)?;
        let Some(found) = found.filter(|found| !found.keys.is_empty()) else {
            break;
        };
        keys.extend(found.keys.iter().flatten().map(<[u8]>::to_vec));
    }
    state.end_call();
    Ok(keys)
}

fn is_same(this: MessageRef<'_>, that: MessageRef<'_>) -> bool {
    (this.key, this.value, this.timestamp) == (that.key, that.value, that.timestamp)
        && this.headers().eq(that.headers())
}

fn outcome(ran: &Result<Rejected, String>) -> String {
    match ran {
        Ok(rejected) => match rejected.first() {
            None => "passes".to_owned(),
            Some((_, reason)) => format!("rejects: {reason}"),
        },
        Err(fault) => format!("fails: {fault}"),
    }
}

fn made(
    side: &mut Side,
    outcome: String,
    places: &[Place],
    given: &Given<'_>,
) -> Result<Made, StateError> {
    let staged = side.sent();
    let message = |at: usize| {
        let message = staged.messages.get(at);
        let or_none = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-".to_owned(), shown);
        let stream = side.ports[staged.routes[at].0.index()];
        [
            (given.streams)(stream),
            or_none(message.key),
            or_none(message.value),
        ]
    };
    let sent = (0..staged.len().min(SHOWN)).map(message).collect();
    let mut state = Vec::new();
    for (store, key) in places.iter().take(SHOWN) {
        let value = side.get(store, key)?;
        let value = value.map_or_else(|| "-".to_owned(), |value| shown(&value));
        state.push([store.clone(), shown(key), value]);
    }
    Ok(Made {
        outcome,
        sent,
        state,
    })
}

/// Bytes as text, cut.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let text = match std::str::from_utf8(cut) {
        Ok(text) => text.to_owned(),
        Err(_) => cut.escape_ascii().to_string(),
    };
    match bytes.len() > SHOWN_BYTES {
        true => format!("{text}… ({} bytes)", bytes.len()),
        false => text,
    }
}
