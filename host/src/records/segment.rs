//! A file of the embedded log: how much of it exists.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::SegmentId;

/// A segment. What is in the file beyond `end` does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Its length.
    pub end: u64,
    /// Bytes of the chunks in it that have not been deleted.
    pub live: u64,
}

impl Record for SegmentRecord {
    type Key = SegmentId;
    const KIND: Kind = Kind::Segment;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = SegmentRecord {
            end: 70_000,
            live: 300,
        };
        assert_stored_as(
            &SegmentId(258),
            &record,
            ("7365676d656e742f0000000000000102", "01f0a204ac02"),
        );
    }
}
