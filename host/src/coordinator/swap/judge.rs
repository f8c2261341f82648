//! Whether new code stays. Facts in, a verdict out: no thread, clock or disk.

use crate::model::ProbationLength;
use crate::records::{Outcomes, Probation, SwapCounts};

/// So many messages must have failed before their share says anything.
const FAILED_LEAST: u64 = 20;
/// Of the code before so many must be known.
pub(super) const BEFORE_LEAST: u64 = 100;
/// The share of messages that may fail more often than under the old code, in 100.
const SHARE_MORE: u64 = 1;
/// So many messages must have been measured before their cost says anything.
pub(super) const COST_LEAST: u64 = 1_000;

/// What is known of new code.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// How it is watched, and what was known before it came.
    pub(super) probation: Probation,
    /// What it has done.
    pub(super) counts: SwapCounts,
    /// What a message costs it, nanoseconds of processor time; 0: not known.
    pub(super) cost_ns: u64,
    /// So many messages were measured for that.
    pub(super) measured: u64,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is watched further.
    Watch,
    /// It stays.
    Stays,
    /// The old code comes back, for this reason.
    GoesBack(String),
}

/// Judges new code.
pub(super) fn judge(facts: &Facts) -> Verdict {
    if let Some(why) = fails_more(facts).or_else(|| is_slow(facts)) {
        return Verdict::GoesBack(why);
    }
    let (probation, processed) = (&facts.probation, facts.counts.processed);
    let is_over = match probation.length {
        ProbationLength::Messages(messages) => processed >= messages,
        ProbationLength::Time(ms) => {
            probation.elapsed_ms >= ms && processed >= ProbationLength::LEAST_MESSAGES
        }
        ProbationLength::Checkpoints(checkpoints) => probation.checkpoints >= checkpoints,
    };
    match is_over {
        true => Verdict::Stays,
        false => Verdict::Watch,
    }
}

/// Whether a larger share of messages fails than under the old code.
fn fails_more(facts: &Facts) -> Option<String> {
    let failed = facts.counts.failed;
    let processed = facts.counts.processed.max(failed);
    let Outcomes {
        processed: before,
        failed: failed_before,
    } = facts.probation.before;
    if failed < FAILED_LEAST || before < BEFORE_LEAST {
        return None;
    }
    // failed / processed > failed_before / before + SHARE_MORE / 100, in whole numbers.
    let product = |factors: [u64; 3]| factors.map(u128::from).iter().product::<u128>();
    let now = product([100, failed, before]);
    let allowed =
        product([100, failed_before, processed]) + product([SHARE_MORE, processed, before]);
    (now > allowed).then(|| {
        format!(
            "{failed} of {processed} messages failed, where {failed_before} of {before} failed under the code before"
        )
    })
}

/// Whether a message costs too much.
fn is_slow(facts: &Facts) -> Option<String> {
    let probation = &facts.probation;
    let (now, before) = (facts.cost_ns, probation.cost_before_ns);
    let percent = probation.slowdown_percent;
    let is_known = percent > 0 && before > 0 && facts.measured >= COST_LEAST;
    let allowed = u128::from(before) * u128::from(percent) / 100;
    (is_known && u128::from(now) > allowed).then(|| {
        format!(
            "a message costs {:.1} us of processor time, where it was {:.1} us under the code before, and `max-slowdown` allows {:.1} times that",
            now as f64 / 1e3,
            before as f64 / 1e3,
            f64::from(percent) / 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(processed: u64, failed: u64) -> Facts {
        Facts {
            probation: Probation {
                length: ProbationLength::Time(60_000),
                elapsed_ms: 0,
                checkpoints: 0,
                slowdown_percent: 0,
                before: Outcomes {
                    processed: 1_000,
                    failed: 20,
                },
                cost_before_ns: 1_000,
            },
            counts: SwapCounts {
                processed,
                failed,
                ..SwapCounts::default()
            },
            cost_ns: 0,
            measured: 1_000,
        }
    }

    fn goes_back(facts: &Facts) -> bool {
        matches!(judge(facts), Verdict::GoesBack(_))
    }

    #[test]
    fn a_share_of_one_point_more_is_allowed_and_few_failures_say_nothing() {
        // 2 % failed before.
        assert!(!goes_back(&facts(1_000, 30)), "3 %");
        assert!(goes_back(&facts(1_000, 31)), "3.1 %");
        assert!(!goes_back(&facts(19, 19)), "too few");
        assert!(goes_back(&facts(20, 20)));
        let mut unknown = facts(1_000, 1_000);
        unknown.probation.before.processed = 99;
        assert!(!goes_back(&unknown), "what it was before is not known");
    }

    #[test]
    fn it_stays_after_its_time_if_it_has_processed_enough() {
        let after = |elapsed_ms, processed| {
            let mut facts = facts(processed, 0);
            facts.probation.elapsed_ms = elapsed_ms;
            judge(&facts)
        };
        assert_eq!(after(59_999, 1_000), Verdict::Watch);
        assert_eq!(after(60_000, 99), Verdict::Watch);
        assert_eq!(after(60_000, 100), Verdict::Stays);
        let mut by_messages = facts(500, 0);
        by_messages.probation.length = ProbationLength::Messages(501);
        assert_eq!(judge(&by_messages), Verdict::Watch);
        by_messages.counts.processed += 1;
        assert_eq!(judge(&by_messages), Verdict::Stays);
        let mut by_checkpoints = facts(0, 0);
        by_checkpoints.probation.length = ProbationLength::Checkpoints(2);
        by_checkpoints.probation.checkpoints = 2;
        assert_eq!(judge(&by_checkpoints), Verdict::Stays);
    }

    #[test]
    fn what_costs_too_much_goes_back_where_that_is_wanted() {
        let mut facts = facts(1_000, 0);
        facts.cost_ns = 3_001;
        assert_eq!(judge(&facts), Verdict::Watch);
        facts.probation.slowdown_percent = 300;
        assert!(goes_back(&facts));
        facts.cost_ns = 3_000;
        assert!(!goes_back(&facts));
        facts.probation.cost_before_ns = 0;
        facts.cost_ns = 9_000;
        assert!(!goes_back(&facts), "what it was before is not known");
    }
}
