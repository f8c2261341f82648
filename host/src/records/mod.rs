//! Every durable record of the column family `meta`: one file each, with its key, its version and its fields.
//!
//! A record is stored under the tag of its [`Kind`] and its key. The value is one byte of version, then the fields in their
//! order in postcard's wire format. An unknown version is refused; older ones are read by
//! [`Record::upgrade`]. The database's other contents have layouts of their own: values of stores, log chunks and outbox
//! chunks.

mod carrier;
mod checkpoint;
mod commit;
mod hold;
mod key;
mod letter;
mod log;
mod outbox;
mod segment;
mod stage;
mod stream;
mod swap;
mod task;
mod topic;
mod unwitnessed;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use checkpoint::CheckpointRecord;
pub use hold::{HeldTask, HoldPhase, HoldRecord};
pub use key::RecordKey;
pub use letter::LetterRecord;
pub use log::LogRecord;
pub use outbox::OutboxRecord;
pub use segment::SegmentRecord;
pub use stage::{Code, StageRecord};
pub use stream::StreamRecord;
pub use swap::{Outcomes, Probation, SwapCounts, SwapMode, SwapRecord, SwapState};
pub use task::{Failing, FaultCounts, Held, TaskRecord};
pub use topic::TopicRecord;
pub use unwitnessed::Unwitnessed;

use crate::state::{Db, Family, Order, Snapshot, StateError, WriteSet, keys};

/// The kinds of records. A tag is never used for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`CommitKey`](crate::model::CommitKey): the last synced write.
    Commit,
    /// [`Unwitnessed`]: present while commits are not synced.
    Unwitnessed,
    /// [`StageRecord`], by name.
    Stage,
    /// [`StreamRecord`], by name.
    Stream,
    /// [`TaskRecord`], by task.
    Task,
    /// [`LogRecord`], by stream and partition.
    Log,
    /// [`OutboxRecord`], by stream and partition.
    Outbox,
    /// [`SegmentRecord`], by number.
    Segment,
    /// [`CheckpointRecord`], by epoch; the last 100.
    Checkpoint,
    /// [`LetterRecord`], by stream, partition and offset of the letter.
    Letter,
    /// [`SwapRecord`], by number; the last 100.
    Swap,
    /// [`HoldRecord`], by stage.
    Hold,
    /// [`HeldTask`], by task.
    HeldTask,
    /// [`TopicRecord`], by the name of the stream.
    Topic,
    /// [`Account`](crate::model::Account), by the name of the place.
    Carrier,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::Commit,
        Kind::Unwitnessed,
        Kind::Stage,
        Kind::Stream,
        Kind::Task,
        Kind::Log,
        Kind::Outbox,
        Kind::Segment,
        Kind::Checkpoint,
        Kind::Letter,
        Kind::Swap,
        Kind::Hold,
        Kind::HeldTask,
        Kind::Topic,
        Kind::Carrier,
    ];

    /// What the keys of its records begin with.
    pub fn tag(self) -> &'static str {
        match self {
            Kind::Commit => "commit",
            Kind::Unwitnessed => "unwitnessed",
            Kind::Stage => "stage/",
            Kind::Stream => "stream/",
            Kind::Task => "task/",
            Kind::Log => "log/",
            Kind::Outbox => "outbox/",
            Kind::Segment => "segment/",
            Kind::Checkpoint => "checkpoint/",
            Kind::Letter => "letter/",
            Kind::Swap => "swap/",
            Kind::Hold => "hold/",
            Kind::HeldTask => "held/",
            Kind::Topic => "topic/",
            Kind::Carrier => "carrier/",
        }
    }
}

/// A durable record.
pub trait Record: Serialize + DeserializeOwned {
    /// The key that distinguishes records of this kind.
    type Key: RecordKey;
    /// Its kind.
    const KIND: Kind;
    /// The version that is written.
    const VERSION: u8;

    /// Reads the fields of an older version. `None`: this version was never written.
    fn upgrade(_version: u8, _fields: &[u8]) -> Option<Result<Self, postcard::Error>> {
        None
    }
}

/// A record as it will be stored, under its key.
#[derive(Debug, Clone)]
pub struct Encoded {
    key: Vec<u8>,
    /// `None`: all of its kind below this key are to be removed.
    value: Option<Vec<u8>>,
}

impl Encoded {
    /// Encodes a record.
    pub fn new<R: Record>(key: &R::Key, record: &R) -> Encoded {
        let value = match postcard::to_extend(record, vec![R::VERSION]) {
            Ok(value) => value,
            Err(error) => panic!("a record of {:?} cannot be encoded: {error}", R::KIND),
        };
        Encoded {
            key: stored_key::<R>(key),
            value: Some(value),
        }
    }

    /// The removal of all records of a kind whose keys are below one.
    pub fn none_below<R: Record>(key: &R::Key) -> Encoded {
        Encoded {
            key: stored_key::<R>(key),
            value: None,
        }
    }

    /// Whether it takes the place of another record.
    pub fn replaces(&self, other: &Encoded) -> bool {
        self.key == other.key
    }

    /// Adds it to a write.
    pub fn write_into(&self, writes: &mut WriteSet<'_>) {
        match &self.value {
            Some(value) => writes.put(Family::Meta, &self.key, value),
            None => {
                let tag = self.key.iter().position(|byte| *byte == b'/');
                let first = &self.key[..tag.map_or(0, |at| at + 1)];
                writes.delete_range(Family::Meta, first, &self.key);
            }
        }
    }
}

/// Reads the record under a key.
///
/// # Errors
/// The database cannot be read, or the record is damaged or of a later version.
pub fn get<R: Record>(db: &Db, key: &R::Key) -> Result<Option<R>, StateError> {
    let key = stored_key::<R>(key);
    db.get_with(Family::Meta, &key, |stored| {
        stored.map(|stored| decode(stored, &key)).transpose()
    })?
}

/// All records of a kind, by their keys, in the order of their stored keys.
///
/// # Errors
/// As of [`get`].
pub fn list<R: Record>(db: &Db) -> Result<Vec<(R::Key, R)>, StateError> {
    let tag = R::KIND.tag().as_bytes();
    let mut found = Vec::new();
    let mut walk = db.walk(
        Family::Meta,
        tag.to_vec(),
        keys::end_of_prefix(tag),
        Order::Up,
    );
    while let Some(entry) = walk.entry()? {
        found.push(read(entry)?);
        walk.advance();
    }
    Ok(found)
}

/// The record under a key, as it was at one moment.
///
/// # Errors
/// As of [`get`].
pub fn get_at<R: Record>(snapshot: &Snapshot, key: &R::Key) -> Result<Option<R>, StateError> {
    let stored_key = stored_key::<R>(key);
    let decode = |stored: Option<&[u8]>| stored.map(|stored| decode(stored, &stored_key));
    snapshot
        .get_with(Family::Meta, &stored_key, decode)?
        .transpose()
}

/// Sets the record under a key.
pub fn put<R: Record>(writes: &mut WriteSet<'_>, key: &R::Key, record: &R) {
    Encoded::new(key, record).write_into(writes);
}

/// Removes the records whose keys are from `start` on and before `end`.
pub fn delete_range<R: Record>(writes: &mut WriteSet<'_>, start: &R::Key, end: &R::Key) {
    writes.delete_range(Family::Meta, &stored_key::<R>(start), &stored_key::<R>(end));
}

/// The first record whose key is not below `start` and is below `end`.
///
/// # Errors
/// As of [`get`].
pub fn first<R: Record>(
    db: &Db,
    start: &R::Key,
    end: &R::Key,
) -> Result<Option<(R::Key, R)>, StateError> {
    let (lower, upper) = (stored_key::<R>(start), stored_key::<R>(end));
    let walk = db.walk(Family::Meta, lower, upper, Order::Up);
    walk.entry()?.map(|entry| read::<R>(entry)).transpose()
}

/// Calls `each` with the records whose keys are from `start` on and before `end`, in the order of their keys.
///
/// # Errors
/// As of [`get`].
pub fn each<R: Record>(
    db: &Db,
    start: &R::Key,
    end: &R::Key,
    mut each: impl FnMut(R::Key, R),
) -> Result<(), StateError> {
    while_each(db, start, end, |key, record| {
        each(key, record);
        true
    })
}

/// As [`each`], as long as it says `true`.
///
/// # Errors
/// As of [`get`].
pub fn while_each<R: Record>(
    db: &Db,
    start: &R::Key,
    end: &R::Key,
    mut each: impl FnMut(R::Key, R) -> bool,
) -> Result<(), StateError> {
    let (lower, upper) = (stored_key::<R>(start), stored_key::<R>(end));
    let mut walk = db.walk(Family::Meta, lower, upper, Order::Up);
    while let Some(entry) = walk.entry()? {
        let (key, record) = read::<R>(entry)?;
        if !each(key, record) {
            break;
        }
        walk.advance();
    }
    Ok(())
}

fn read<R: Record>((key, stored): (&[u8], &[u8])) -> Result<(R::Key, R), StateError> {
    let tag = R::KIND.tag().as_bytes();
    let read = R::Key::read(&key[tag.len()..]).ok_or_else(|| damaged(key, "has an invalid key"))?;
    Ok((read, decode(stored, key)?))
}

/// Removes the record under a key.
pub fn delete<R: Record>(writes: &mut WriteSet<'_>, key: &R::Key) {
    writes.delete(Family::Meta, &stored_key::<R>(key));
}

fn stored_key<R: Record>(key: &R::Key) -> Vec<u8> {
    let mut stored = R::KIND.tag().as_bytes().to_vec();
    key.write(&mut stored);
    stored
}

fn decode<R: Record>(stored: &[u8], key: &[u8]) -> Result<R, StateError> {
    let Some((version, fields)) = stored.split_first() else {
        return Err(damaged(key, "is empty"));
    };
    let read = if *version == R::VERSION {
        postcard::from_bytes(fields)
    } else {
        R::upgrade(*version, fields).ok_or_else(|| {
            let what = format!("has version {version}, which this version does not know");
            damaged(key, &what)
        })?
    };
    read.map_err(|error| damaged(key, &format!("cannot be read: {error}")))
}

fn damaged(key: &[u8], what: &str) -> StateError {
    StateError::Damaged(format!("the record of {} {what}", key.escape_ascii()))
}

#[cfg(test)]
pub(crate) mod testing {
    use std::fmt::Debug;

    use super::{Encoded, Record, decode, stored_key};

    /// A record is stored as these bytes, in hexadecimal, and read from them; neither its key nor its value may change while its
    /// version does not.
    pub(crate) fn assert_stored_as<R>(key: &R::Key, record: &R, stored_as: (&str, &str))
    where
        R: Record + PartialEq + Debug,
        R::Key: PartialEq + Debug,
    {
        let encoded = Encoded::new(key, record);
        let value = encoded.value.expect("it is no removal");
        let found = (&*hex(&encoded.key), &*hex(&value));
        assert_eq!(found, stored_as);
        let read: R = decode(&value, &encoded.key).expect("it can be read");
        assert_eq!(&read, record);
        let tag = R::KIND.tag().len();
        let key_read = <R::Key as super::RecordKey>::read(&stored_key::<R>(key)[tag..]);
        assert_eq!(key_read.as_ref(), Some(key));
        let mut later = value.clone();
        later[0] = R::VERSION + 1;
        for wrong in [&later[..], &value[..value.len() - 1], &[]] {
            assert!(decode::<R>(wrong, &encoded.key).is_err());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tag_begins_with_another() {
        for kind in Kind::ALL {
            for other in Kind::ALL {
                assert!(kind == other || !kind.tag().starts_with(other.tag()));
            }
        }
    }

    #[test]
    fn formats_names_every_kind() {
        let formats = include_str!("../../../docs/formats.md");
        for kind in Kind::ALL {
            assert!(formats.contains(&format!("| `{}`", kind.tag())), "{kind:?}");
        }
    }
}
