//! What is known of deliveries that happen together, outside of the database.

use serde::{Deserialize, Serialize};

use super::CommitKey;

/// The settings of a topic of marks, in which only the last one matters, by Kafka's names. With the time of appending, a host whose clock is
/// wrong delivers all the same.
pub const MARKS_SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "1048576"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("message.timestamp.type", "LogAppendTime"),
];

/// Names a write of the database whose output is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its number.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Tells apart two writes that claim the same number.
    pub nonce: u64,
}

impl Mark {
    /// That of a write.
    pub fn of(key: &CommitKey) -> Mark {
        Mark {
            seq: key.seq.0,
            epoch: key.epoch.0,
            nonce: key.nonce.0,
        }
    }
}

/// What the database has recorded of deliveries to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// The id of the state directory.
    pub state: [u8; 16],
    /// The last write that is recorded as delivered.
    pub delivered: Option<Mark>,
    /// The write that is still to be delivered, or was delivered and that is not recorded yet.
    pub pending: Option<Mark>,
}
