//! Where a reader of a partition stands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The place of a message in its partition.
pub type Offset = u64;

/// Milliseconds since the Unix epoch, UTC.
pub type TimestampMs = i64;

/// Where reading goes on. `next` is the offset of the first message not yet processed. `detail` is the system's own
/// account of a place at or before it (a file's identity and byte position, say): the reader finds `detail` first,
/// then passes over what lies before `next`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The offset of the next message.
    pub next: Offset,
    /// In a format of the system's own, with a version; `None` where the offset says it all.
    #[serde(with = "detail")]
    pub detail: Option<Arc<[u8]>>,
}

/// Shared bytes, stored like a list of bytes.
mod detail {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        detail: &Option<Arc<[u8]>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        detail.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<[u8]>>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(from)?.map(Arc::from))
    }
}

/// Where to begin in a partition for which no position is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StartAt {
    /// At the first message there is.
    #[default]
    Oldest,
    /// After the last message there is.
    Latest,
    /// At an offset.
    Offset(Offset),
    /// At the first message whose timestamp is not earlier.
    Time(TimestampMs),
}
