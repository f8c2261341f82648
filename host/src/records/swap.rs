//! A swap by its number: what took over from what, and what became of it. The last 100.

use serde::{Deserialize, Serialize};

use super::{Code, Failing, Kind, Record};
use crate::model::{Epoch, ProbationLength, TimestampMs};

/// A swap of the past, or one that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapRecord {
    /// The stage.
    pub stage: String,
    /// The code before.
    pub from: Code,
    /// The code that took over.
    pub to: Code,
    /// What may be undone of it.
    pub mode: SwapMode,
    /// When the barrier was set, on the wall clock.
    pub time: TimestampMs,
    /// The epoch with the last work of the old code; 0: it took over at a start.
    pub epoch: Epoch,
    /// Where it is.
    pub state: SwapState,
    /// Why it is there, if that needs saying.
    pub reason: String,
    /// What the new code has done so far.
    pub counts: SwapCounts,
    /// How it is watched, if it is.
    pub probation: Option<Probation>,
}

/// What may be undone of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SwapMode {
    /// The code.
    #[default]
    Code,
    /// The code, and what it has done: its output waits.
    HoldOutput,
    /// Nothing is to be undone: the code is only tried, beside the other.
    Shadow,
}

/// Where a swap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapState {
    /// The component is read and checked.
    Loading,
    /// It is compiled.
    Compiling,
    /// Instances of it are made beside the old code.
    Trying,
    /// It waits for its barrier, or for the checkpoint after that.
    Cut,
    /// The state is given another version.
    Migrating,
    /// The new code runs, and the old code is at hand.
    Probation,
    /// The same, and the output waits.
    Holding,
    /// The output that waited is released.
    Releasing,
    /// It is over, and the new code stays.
    Done,
    /// The old code comes back.
    RollingBack,
    /// The old code is back.
    RolledBack,
    /// It did not begin.
    Refused,
    /// It was given up.
    Dropped,
}

/// What the new code has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SwapCounts {
    /// Messages processed, rejected ones included.
    pub processed: u64,
    /// Messages that failed, as the breaker counts them, and that the old code does not fail at as well.
    pub failed: u64,
    /// Messages that it failed at and the old code did not.
    pub regressions: u64,
    /// The longest time that a task was away, microseconds.
    pub pause_us: u64,
}

/// How new code is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// How long.
    pub length: ProbationLength,
    /// For how many milliseconds it has run so far.
    pub elapsed_ms: u64,
    /// How many checkpoints there were so far.
    pub checkpoints: u64,
    /// How many times as much processor time a message may take as before, percent; 0: any.
    pub slowdown_percent: u32,
    /// What the old code had processed of its last messages, and failed at.
    pub before: Outcomes,
    /// What a message had cost the old code, nanoseconds of processor time; 0: not known.
    pub cost_before_ns: u64,
}

/// How many messages were processed, and how many failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Messages processed, failed ones included.
    pub processed: u64,
    /// Messages that failed.
    pub failed: u64,
}

impl Probation {
    /// One that begins.
    pub fn new(length: ProbationLength, before: Outcomes) -> Probation {
        Probation {
            length,
            elapsed_ms: 0,
            checkpoints: 0,
            slowdown_percent: 0,
            before,
            cost_before_ns: 0,
        }
    }
}

impl Outcomes {
    /// Adds what the breaker has counted of a task.
    pub fn add(&mut self, failing: &Failing) {
        self.failed += u64::from(failing.failed);
        self.processed += u64::from(failing.failed) + u64::from(failing.passed);
    }
}

impl SwapRecord {
    /// How many are remembered.
    pub const HISTORY: u64 = 100;

    /// With a swap of this number those below that one are forgotten.
    pub fn forgotten_below(id: u64) -> Option<u64> {
        (id + 1)
            .checked_sub(SwapRecord::HISTORY)
            .filter(|below| *below > 0)
    }
}

impl SwapState {
    /// Where a swap of this mode is while its code is watched.
    pub fn of_watched(mode: SwapMode) -> SwapState {
        match mode {
            SwapMode::Code | SwapMode::Shadow => SwapState::Probation,
            SwapMode::HoldOutput => SwapState::Holding,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            SwapState::Loading => "loading",
            SwapState::Compiling => "compiling",
            SwapState::Trying => "trying",
            SwapState::Cut => "cut",
            SwapState::Migrating => "migrating",
            SwapState::Probation => "probation",
            SwapState::Holding => "holding",
            SwapState::Releasing => "releasing",
            SwapState::Done => "done",
            SwapState::RollingBack => "rolling-back",
            SwapState::RolledBack => "rolled-back",
            SwapState::Refused => "refused",
            SwapState::Dropped => "dropped",
        }
    }

    /// Whether nothing comes after it.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            SwapState::Done | SwapState::RolledBack | SwapState::Refused | SwapState::Dropped
        )
    }

    /// Whether the new code has not taken over yet, and may never.
    pub fn is_before_cut(self) -> bool {
        matches!(
            self,
            SwapState::Loading | SwapState::Compiling | SwapState::Trying | SwapState::Cut
        )
    }
}

impl SwapMode {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            SwapMode::Code => "code",
            SwapMode::HoldOutput => "hold-output",
            SwapMode::Shadow => "shadow",
        }
    }
}

impl Record for SwapRecord {
    type Key = u64;
    const KIND: Kind = Kind::Swap;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let code = |component: &str, label: &str| Code {
            component: component.to_owned(),
            label: label.to_owned(),
        };
        let record = SwapRecord {
            stage: "count".to_owned(),
            from: code("ab", ""),
            to: code("cd", "v2"),
            mode: SwapMode::Code,
            time: 1_000,
            epoch: Epoch(300),
            state: SwapState::RolledBack,
            reason: "r".to_owned(),
            counts: SwapCounts {
                processed: 500,
                failed: 4,
                regressions: 1,
                pause_us: 900,
            },
            probation: Some(Probation {
                length: ProbationLength::Time(60_000),
                elapsed_ms: 5_000,
                checkpoints: 7,
                slowdown_percent: 300,
                before: Outcomes {
                    processed: 1_000,
                    failed: 2,
                },
                cost_before_ns: 2_000,
            }),
        };
        assert_stored_as(
            &258,
            &record,
            (
                "737761702f0000000000000102",
                "0105636f756e74026162000263640276320\
                 0d00fac020a0172f403040184070101e0d40388270\
                 7ac02e80702d00f",
            ),
        );
    }
}
