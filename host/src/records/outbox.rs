//! A partition of an output outside of the database: what has been delivered and what has not.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Offset, PartitionId, StreamId};

/// A partition of an output outside of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// The first chunk that is not recorded as delivered.
    pub first: u64,
    /// The number of the next chunk.
    pub next: u64,
    /// Bytes in these chunks, as they will be delivered.
    pub bytes: u64,
    /// The offset of the next message.
    pub next_offset: Offset,
    /// The sink's own account of what it has delivered.
    pub sink: Option<Vec<u8>>,
}

impl Record for OutboxRecord {
    type Key = (StreamId, PartitionId);
    const KIND: Kind = Kind::Outbox;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = OutboxRecord {
            first: 1,
            next: 2,
            bytes: 300,
            next_offset: 70_000,
            sink: Some(vec![1, 2, 3]),
        };
        assert_stored_as(
            &(StreamId(1), PartitionId(2)),
            &record,
            ("6f7574626f782f000100000002", "010102ac02f0a2040103010203"),
        );
    }
}
