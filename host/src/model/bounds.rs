//! What a place refuses of the messages that are sent to it, as far as that is known before they are.

use super::{MessageRef, TimestampMs};

/// What a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageBounds {
    /// The most bytes of a record, with all that belongs to it.
    pub bytes: u64,
    /// Every message must have a key.
    pub needs_key: bool,
    /// How much older than now a timestamp may be, ms.
    pub older_ms: i64,
    /// How much later than now a timestamp may be, ms.
    pub later_ms: i64,
}

/// What a record of Kafka has at most beside its parts, and the batch that it is in: format 2 of its message sets.
const RECORD_BYTES: u64 = 61 + 36;
/// The same of a header.
const HEADER_BYTES: u64 = 10;

impl MessageBounds {
    /// Nothing is refused but what Kafka cannot express.
    pub const NONE: MessageBounds = MessageBounds {
        bytes: u64::MAX,
        needs_key: false,
        older_ms: i64::MAX,
        later_ms: i64::MAX,
    };

    /// Why a message is refused, as the end of a sentence.
    pub fn refuses(&self, message: &MessageRef<'_>, now: TimestampMs) -> Option<String> {
        let bytes = record_bytes(message);
        if bytes > self.bytes {
            return Some(format!(
                "its topic takes records of {} bytes (`max.message.bytes`), and this one has {bytes}",
                self.bytes
            ));
        }
        if self.needs_key && message.key.is_none() {
            return Some(
                "its topic is compacted (`cleanup.policy`), and takes no message without a key"
                    .to_owned(),
            );
        }
        self.refuses_time(message.timestamp, now)
    }

    fn refuses_time(&self, timestamp: TimestampMs, now: TimestampMs) -> Option<String> {
        let time = match timestamp {
            ..0 => "Kafka has no timestamps before 1970",
            _ if timestamp < now.saturating_sub(self.older_ms) => {
                "its timestamp is older than its topic takes (`message.timestamp.before.max.ms`)"
            }
            _ if timestamp > now.saturating_add(self.later_ms) => {
                "its timestamp is later than its topic takes (`message.timestamp.after.max.ms`)"
            }
            _ => return None,
        };
        Some(format!("{time}: {timestamp}"))
    }

    /// A timestamp that is not refused.
    #[must_use]
    pub fn fitting_time(&self, timestamp: TimestampMs, now: TimestampMs) -> TimestampMs {
        match self.refuses_time(timestamp, now) {
            Some(_) => now,
            None => timestamp,
        }
    }

    /// How many bytes of a value there is room for beside the rest of a message. `None`: for not even that.
    pub fn room(&self, message: &MessageRef<'_>) -> Option<usize> {
        let value = message.value.map_or(0, <[u8]>::len) as u64;
        let room = self.bytes.checked_sub(record_bytes(message) - value)?;
        Some(usize::try_from(room).unwrap_or(usize::MAX))
    }
}

/// The bytes of a record with a message, at most.
fn record_bytes(message: &MessageRef<'_>) -> u64 {
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
    let headers = message.headers();
    let headers = headers.map(|(name, value)| HEADER_BYTES + name.len() as u64 + length(value));
    RECORD_BYTES + length(message.key) + length(message.value) + headers.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: MessageBounds = MessageBounds {
        bytes: 1000,
        needs_key: true,
        older_ms: 50,
        later_ms: 10,
    };

    #[test]
    fn what_a_topic_refuses_is_refused_and_what_it_takes_is_not() {
        let long = vec![0; 902];
        let refused = |key, value, time| {
            let message = MessageRef::new(key, value, time);
            BOUNDS.refuses(&message, 1000).is_some()
        };
        let key = Some(&b"k"[..]);
        assert!(!refused(key, Some(&long), 1000));
        assert!(refused(Some(b"kk"), Some(&long), 1000));
        assert!(refused(None, Some(b""), 1000));
        for (time, is_refused) in [(949, true), (950, false), (1010, false), (1011, true)] {
            assert_eq!(refused(key, None, time), is_refused, "{time}");
            let fitting = BOUNDS.fitting_time(time, 1000);
            assert!(!refused(key, None, fitting), "{time}");
        }
        let unbounded = MessageBounds {
            older_ms: i64::MAX,
            later_ms: i64::MAX,
            ..BOUNDS
        };
        let old = MessageRef::new(key, None, -1);
        assert!(unbounded.refuses(&old, 1000).is_some());
    }

    #[test]
    fn there_is_room_for_what_is_taken() {
        let long = vec![0; 2000];
        let room = BOUNDS.room(&MessageRef::new(Some(b"k"), Some(&long), 1000));
        let room = room.expect("it has room for a key");
        let with = |bytes| MessageRef::new(Some(b"k"), Some(&long[..bytes]), 1000);
        assert_eq!(BOUNDS.refuses(&with(room), 1000), None);
        assert!(BOUNDS.refuses(&with(room + 1), 1000).is_some());
        assert_eq!(BOUNDS.room(&MessageRef::new(Some(&long), None, 1000)), None);
    }
}
