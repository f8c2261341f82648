//! Messages as a test writes and reads them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Codec;
use crate::backend::types;
use crate::column::{Column as _, index};

/// A message to feed to a task. A pair of key and value becomes one, and so does a value alone in [`Incoming::value`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch; `None`: the harness's clock.
    pub timestamp_ms: Option<i64>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Incoming {
    /// A message with a key and a value.
    pub fn new(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self {
            key: Some(key.as_ref().to_vec()),
            ..Self::value(value)
        }
    }

    /// A message without a key.
    pub fn value(value: impl AsRef<[u8]>) -> Self {
        Self {
            value: Some(value.as_ref().to_vec()),
            ..Self::default()
        }
    }

    /// A tombstone.
    pub fn tombstone(key: impl AsRef<[u8]>) -> Self {
        Self {
            key: Some(key.as_ref().to_vec()),
            ..Self::default()
        }
    }

    /// A message without a key, whose value is JSON. It panics if the value cannot be written as JSON.
    #[track_caller]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::value(json),
            Err(error) => panic!("the value is not JSON: {error}"),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> From<(K, V)> for Incoming {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

/// A message that a task has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition, explicit or found from the key.
    pub partition: u32,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sent {
    /// The key, read by a codec. It panics if there is none or it is wrong.
    #[track_caller]
    pub fn key_as<C: Codec>(&self) -> C::Owned {
        expect_decoded::<C>("key", self.key.as_deref())
    }

    /// The value, read by a codec. It panics if there is none or it is wrong.
    #[track_caller]
    pub fn value_as<C: Codec>(&self) -> C::Owned {
        expect_decoded::<C>("value", self.value.as_deref())
    }

    /// The value, read as JSON. It panics if there is none or it is wrong.
    #[track_caller]
    pub fn json<T: Serialize + DeserializeOwned + 'static>(&self) -> T {
        self.value_as::<crate::Json<T>>()
    }
}

#[track_caller]
pub(super) fn expect_decoded<C: Codec>(what: &str, bytes: Option<&[u8]>) -> C::Owned {
    let Some(bytes) = bytes else {
        panic!("there is no {what}")
    };
    match C::decode(bytes) {
        Ok(value) => value,
        Err(error) => panic!("the {what} {:?}: {error}", String::from_utf8_lossy(bytes)),
    }
}

/// A message that a task has rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The message's offset: the place in all that the input was fed, counted from 0.
    pub offset: u64,
    /// Why.
    pub reason: String,
    /// What the task added.
    pub detail: Option<Vec<u8>>,
    /// The message.
    pub message: Incoming,
}

/// A batch of the contract. `timestamp_ms` is for messages that have none.
pub(super) fn batch(
    messages: &[Incoming],
    input: u32,
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
) -> types::Batch {
    let mut keys = types::BytesColumn::empty();
    let mut values = types::BytesColumn::empty();
    let mut headers = types::HeadersColumn {
        ends: Vec::new(),
        names: types::BytesColumn::empty(),
        values: types::BytesColumn::empty(),
    };
    let push = |column: &mut types::BytesColumn, bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => column.push(bytes),
        None => column.push_absent(),
    };
    for message in messages {
        push(&mut keys, &message.key);
        push(&mut values, &message.value);
        for (name, value) in &message.headers {
            headers.names.push(name.as_bytes());
            push(&mut headers.values, value);
        }
        let end = index(headers.names.count());
        headers.ends.extend_from_slice(&end.to_le_bytes());
    }
    // What all messages lack is left out, as a host does.
    let keys = (keys.absent.len() < keys.ends.len()).then_some(keys);
    let headers = (headers.names.count() > 0).then_some(headers);
    types::Batch {
        input,
        partition,
        offsets: (offset..)
            .take(messages.len())
            .flat_map(u64::to_le_bytes)
            .collect(),
        messages: types::Messages {
            keys,
            values,
            timestamps: messages
                .iter()
                .map(|message| message.timestamp_ms.unwrap_or(timestamp_ms))
                .flat_map(i64::to_le_bytes)
                .collect(),
            headers,
        },
    }
}

/// A message of the contract.
pub(super) fn row(
    message: &Incoming,
    input: u32,
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
) -> types::Message {
    types::Message {
        input,
        partition,
        offset,
        timestamp: message.timestamp_ms.unwrap_or(timestamp_ms),
        key: message.key.clone(),
        value: message.value.clone(),
        headers: message
            .headers
            .iter()
            .map(|(name, value)| types::Header {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
    }
}
