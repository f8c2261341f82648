//! The position of a reader in a partition.

use std::sync::Arc;

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// In a format of the system's own, with a version; `None` if the offset is enough.
    pub detail: Option<Detail>,
}

/// Bytes that may be long and are rarely read: stored like a list of bytes, and made of shared parts, so
/// that a place that differs little from the last one takes little work.
#[derive(Debug, Clone)]
pub struct Detail {
    length: usize,
    part: Part,
}

#[derive(Debug, Clone)]
enum Part {
    Bytes(Arc<[u8]>),
    Joined(Arc<[Detail]>),
}

impl Detail {
    /// One after the other, not copied.
    pub fn join(details: Vec<Detail>) -> Detail {
        Detail {
            length: details.iter().map(|detail| detail.length).sum(),
            part: Part::Joined(details.into()),
        }
    }

    /// All bytes together.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length);
        let all: Result<(), std::convert::Infallible> = self.each(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        });
        match all {
            Ok(()) => bytes,
        }
    }

    /// Takes the parts in order.
    fn each<E>(&self, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match &self.part {
            Part::Bytes(bytes) => take(bytes),
            Part::Joined(details) => details.iter().try_for_each(|detail| detail.each(take)),
        }
    }

    /// How much is new in this detail, given the details that `seen` was filled from: the parts that they do not have,
    /// and the references in them.
    #[cfg(test)]
    pub(crate) fn new_parts(&self, seen: &mut std::collections::HashSet<usize>) -> usize {
        let address = match &self.part {
            Part::Bytes(bytes) => bytes.as_ptr().addr(),
            Part::Joined(details) => details.as_ptr().addr(),
        };
        match &self.part {
            _ if !seen.insert(address) => 1,
            Part::Bytes(bytes) => bytes.len(),
            Part::Joined(details) => details.iter().map(|detail| detail.new_parts(seen)).sum(),
        }
    }
}

impl Default for Detail {
    fn default() -> Detail {
        Detail::from(Vec::new())
    }
}

impl From<Vec<u8>> for Detail {
    fn from(bytes: Vec<u8>) -> Detail {
        Detail {
            length: bytes.len(),
            part: Part::Bytes(bytes.into()),
        }
    }
}

impl PartialEq for Detail {
    fn eq(&self, other: &Detail) -> bool {
        self.length == other.length && self.to_vec() == other.to_vec()
    }
}

impl Eq for Detail {}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = to.serialize_seq(Some(self.length))?;
        self.each(&mut |part| {
            part.iter()
                .try_for_each(|byte| bytes.serialize_element(byte))
        })?;
        bytes.end()
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Detail, D::Error> {
        Vec::deserialize(from).map(Detail::from)
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
    /// Where the consumer group stands that the input was told of.
    Group,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_parts_are_stored_like_one_list_of_bytes() {
        let shared = Detail::from(vec![2; 300]);
        let inner = Detail::join(vec![shared.clone(), Detail::default(), shared]);
        let joined = Detail::join(vec![vec![1].into(), inner, vec![3].into()]);
        let bytes = [vec![1], vec![2; 600], vec![3]].concat();
        assert_eq!(joined.to_vec(), bytes);
        assert_eq!(joined, Detail::from(bytes.clone()));
        assert_ne!(joined, Detail::from(vec![2; 602]));
        assert_ne!(joined, Detail::from(vec![1; 3]));
        let position = |detail| Position { next: 7, detail };
        for (detail, plain) in [(None, None), (Some(joined), Some(bytes))] {
            let stored = postcard::to_stdvec(&position(detail.clone())).unwrap();
            assert_eq!(stored, postcard::to_stdvec(&(7_u64, plain)).unwrap());
            assert_eq!(
                postcard::from_bytes::<Position>(&stored).unwrap(),
                position(detail)
            );
        }
    }
}
