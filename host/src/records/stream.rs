//! A stream by its name: its number, its partitions, its system.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::StreamId;

/// A stream that the state directory knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its number.
    pub id: StreamId,
    /// Its partitions, fixed if the state directory holds any of its data.
    pub partitions: u32,
    /// The system it belonged to.
    pub system: String,
}

impl StreamRecord {
    /// The system of the embedded log, as it is stored.
    pub const LOG: &str = "log";

    /// The name of the replay queue of a stage. No name in a job file has a colon.
    pub fn replay_queue(stage: &str) -> String {
        format!("replay:{stage}")
    }

    /// Whether a stream is the host's own, and not shown.
    pub fn is_hidden(name: &str) -> bool {
        name.contains(':')
    }

    /// Whether its messages are in the embedded log.
    pub fn is_in_log(&self) -> bool {
        self.system == StreamRecord::LOG
    }
}

impl Record for StreamRecord {
    type Key = String;
    const KIND: Kind = Kind::Stream;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let record = StreamRecord {
            id: StreamId(3),
            partitions: 4,
            system: "log".to_owned(),
        };
        assert_stored_as(
            &"words".to_owned(),
            &record,
            ("73747265616d2f776f726473", "010304036c6f67"),
        );
    }
}
