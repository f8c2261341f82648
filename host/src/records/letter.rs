//! What became of a dead letter, where something did: a letter without a record is open.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Offset, PartitionId, StreamId};

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterRecord {
    /// It is in a replay queue: processed once the task's position there is beyond it.
    Queued {
        /// The queue.
        queue: StreamId,
        /// The task's partition, and the queue's.
        partition: PartitionId,
        /// The offset in the queue.
        offset: Offset,
    },
    /// Somebody gave it up.
    Dropped,
}

impl Record for LetterRecord {
    type Key = (StreamId, PartitionId, Offset);
    const KIND: Kind = Kind::Letter;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let key = (StreamId(1), PartitionId(258), 70_000);
        let queued = LetterRecord::Queued {
            queue: StreamId(2),
            partition: PartitionId(3),
            offset: 300,
        };
        let stored_key = "6c65747465722f00010000010200000000000\
                          11170";
        assert_stored_as(&key, &queued, (stored_key, "01000203ac02"));
        assert_stored_as(&key, &LetterRecord::Dropped, (stored_key, "0101"));
    }
}
