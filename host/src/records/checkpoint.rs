//! The history of checkpoints, one record each.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Epoch, TimestampMs};

/// A checkpoint of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its epoch.
    pub epoch: Epoch,
    /// What asked for it.
    pub trigger: String,
    /// When the barrier was set.
    pub time: TimestampMs,
    /// Microseconds from the barrier until the checkpoint was durable; in the newest record, until its write was built.
    pub duration_us: u64,
    /// The longest pause of a task, microseconds.
    pub pause_us: u64,
    /// Tasks in it.
    pub tasks: u64,
    /// Entries of stores written.
    pub entries: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of the write.
    pub bytes: u64,
    /// Failed attempts before it.
    pub failed_attempts: u32,
}

impl Record for CheckpointRecord {
    type Key = Epoch;
    const KIND: Kind = Kind::Checkpoint;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = CheckpointRecord {
            epoch: Epoch(300),
            trigger: "interval".to_owned(),
            time: 1_700_000_000_000,
            duration_us: 1,
            pause_us: 2,
            tasks: 3,
            entries: 4,
            messages: 5,
            bytes: 6,
            failed_attempts: 7,
        };
        assert_stored_as(
            &Epoch(300),
            &record,
            (
                "636865636b706f696e742f000000000000012c",
                "01ac0208696e74657276616c80a0abfef96201020304050607",
            ),
        );
    }
}
