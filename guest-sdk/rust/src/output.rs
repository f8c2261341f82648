//! Sending typed messages to an output port.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::call::Call;
use crate::sends::Envelope;
use crate::{Codec, Error};

/// An output port for messages with typed keys and values. Made by [`Context::output`](crate::Context::output).
///
/// A send waits in the task's memory until the handler has returned `Ok`, and goes to the host with all others of
/// its port in one `send-many`. So an error undoes it, and messages of one port keep their order. Two ports that
/// the job binds to one stream come one after the other.
///
/// Limits of the contract: a key of 8 KiB, a value of 1 MiB, 64 headers with 16 KiB together, 16 MiB for all writes and
/// sends of a call. Beyond them, and for a port that the job does not declare, the host traps.
pub struct Output<K, V> {
    call: Rc<Call>,
    port: u32,
    codecs: PhantomData<fn() -> (K, V)>,
}

impl<K: Codec, V: Codec> Output<K, V> {
    pub(crate) fn new(call: Rc<Call>, port: u32) -> Self {
        Self {
            call,
            port,
            codecs: PhantomData,
        }
    }

    /// Sends a value with a key.
    pub fn send(&self, key: &K::Borrowed, value: &V::Borrowed) -> Result<(), Error> {
        self.push(Some(key), Some(value), &Envelope::default())
    }

    /// Sends a value without a key.
    pub fn send_value(&self, value: &V::Borrowed) -> Result<(), Error> {
        self.push(None, Some(value), &Envelope::default())
    }

    /// Sends a tombstone: "this key is gone".
    pub fn send_tombstone(&self, key: &K::Borrowed) -> Result<(), Error> {
        self.push(Some(key), None, &Envelope::default())
    }

    /// Begins a message with more than key and value. It is sent by [`Draft::send`].
    #[must_use = "a draft is sent by its method `send`"]
    pub fn draft<'a>(&'a self) -> Draft<'a, K, V> {
        Draft {
            output: self,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
            partition: None,
        }
    }

    fn push(
        &self,
        key: Option<&K::Borrowed>,
        value: Option<&V::Borrowed>,
        envelope: &Envelope<'_>,
    ) -> Result<(), Error> {
        self.call.sends().push(
            self.port,
            envelope,
            |out| key.map_or(Ok(false), |key| K::encode(key, out).map(|()| true)),
            |out| value.map_or(Ok(false), |value| V::encode(value, out).map(|()| true)),
        )
    }
}

/// A message that is being put together. Made by [`Output::draft`].
pub struct Draft<'a, K: Codec, V: Codec> {
    output: &'a Output<K, V>,
    key: Option<&'a K::Borrowed>,
    value: Option<&'a V::Borrowed>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    timestamp_ms: Option<i64>,
    partition: Option<u32>,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "the type's own methods are all there is to do with it"
)]
impl<'a, K: Codec, V: Codec> Draft<'a, K, V> {
    /// The key; without one the message has none.
    pub fn key(mut self, key: &'a K::Borrowed) -> Self {
        self.key = Some(key);
        self
    }

    /// The value; without one the message is a tombstone.
    pub fn value(mut self, value: &'a V::Borrowed) -> Self {
        self.value = Some(value);
        self
    }

    /// Adds a header. Names may repeat; order is kept.
    pub fn header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Milliseconds since the Unix epoch. Default: the timestamp of the current message, inside of
    /// [`Store::update`](crate::Store::update) and [`Context::for_each`](crate::Context::for_each); elsewhere the contract's
    /// choice, the latest of the batch.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The partition; the host traps if the stream does not have it. Without: by murmur2 of the key, as Kafka's Java
    /// client does, or round robin if there is no key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sends it.
    pub fn send(self) -> Result<(), Error> {
        let envelope = Envelope {
            headers: &self.headers,
            timestamp_ms: self.timestamp_ms,
            partition: self.partition,
        };
        self.output.push(self.key, self.value, &envelope)
    }
}
