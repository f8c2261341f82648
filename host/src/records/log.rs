//! A partition of a log stream: its bounds.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Offset, PartitionId, StreamId};

/// A partition of a log stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogRecord {
    /// The first offset that still exists.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
    /// Bytes of its chunks.
    pub bytes: u64,
}

impl Record for LogRecord {
    type Key = (StreamId, PartitionId);
    const KIND: Kind = Kind::Log;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = LogRecord {
            start: 1,
            end: 300,
            bytes: 70_000,
        };
        assert_stored_as(
            &(StreamId(1), PartitionId(2)),
            &record,
            ("6c6f672f000100000002", "0101ac02f0a204"),
        );
    }
}
