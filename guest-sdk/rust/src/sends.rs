//! What a call has sent so far, in columns, one buffer for each output port.
//!
//! Nothing leaves before the handler returns `Ok`: then each port takes one `send-many` (more, where messages with and
//! without a timestamp or an explicit partition mix, because a column has them for all or for none). A journal of
//! the ports in the order of the sends lets the sends of one message be taken back.

use crate::backend::{output, types};
use crate::column::{Column as _, RETAIN_BYTES, index};
use crate::{Error, packed};

/// A message on its way into a buffer, but for key and value, which are encoded in place.
#[derive(Default)]
pub(crate) struct Envelope<'a> {
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) partition: Option<u32>,
}

/// How a column of messages leaves: the import of the contract.
type SendMany = fn(&str, &types::Messages, Option<&[u8]>);

#[derive(Default)]
pub(crate) struct Sends {
    ports: Vec<Port>,
    /// Known from the first port on, so that a task without outputs has no import for them.
    send_many: Option<SendMany>,
    journal: Vec<u32>,
    /// The timestamp of sends that give none, while the message that causes them is known.
    pub(crate) timestamp_ms: Option<i64>,
}

struct Port {
    name: String,
    runs: Vec<Run>,
}

/// Messages that all have a timestamp or none, and all a partition or none.
struct Run {
    messages: types::Messages,
    /// Packed, one for each message or none.
    partitions: Vec<u8>,
}

impl Sends {
    /// The number of a port.
    pub(crate) fn port(&mut self, name: &str) -> u32 {
        self.send_many = Some(output::send_many);
        let known = self.ports.iter().position(|port| port.name == name);
        index(known.unwrap_or_else(|| {
            self.ports.push(Port {
                name: name.to_owned(),
                runs: Vec::new(),
            });
            self.ports.len() - 1
        }))
    }

    /// How many messages are waiting: a mark for [`undo`](Self::undo).
    #[inline]
    pub(crate) fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Adds a message. `key` and `value` append their bytes and say whether there is one at all.
    pub(crate) fn push(
        &mut self,
        port: u32,
        envelope: &Envelope<'_>,
        key: impl FnOnce(&mut Vec<u8>) -> Result<bool, Error>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let timestamp_ms = envelope.timestamp_ms.or(self.timestamp_ms);
        let Some(runs) = self.ports.get_mut(port as usize).map(|port| &mut port.runs) else {
            return Ok(());
        };
        if !runs
            .last()
            .is_some_and(|run| run.takes(timestamp_ms.is_some(), envelope.partition.is_some()))
        {
            runs.push(Run::new());
        }
        if let Some(run) = runs.last_mut() {
            run.push(envelope, timestamp_ms, key, value)?;
            self.journal.push(port);
        }
        Ok(())
    }

    /// Takes back what was sent since a mark.
    pub(crate) fn undo(&mut self, mark: usize) {
        for port in self.journal.drain(mark.min(self.journal.len())..).rev() {
            let Some(runs) = self.ports.get_mut(port as usize).map(|port| &mut port.runs) else {
                continue;
            };
            if let Some(run) = runs.last_mut() {
                run.pop();
                if run.count() == 0 && runs.len() > 1 {
                    runs.pop();
                }
            }
        }
    }

    /// Hands everything to the host.
    pub(crate) fn flush(&mut self) {
        let (false, Some(send_many)) = (self.journal.is_empty(), self.send_many) else {
            return;
        };
        for port in &mut self.ports {
            for run in &mut port.runs {
                if run.count() > 0 {
                    run.send(&port.name, send_many);
                }
            }
            port.runs.truncate(1);
            if let Some(run) = port.runs.first_mut() {
                run.reset();
            }
        }
        self.journal.clear();
    }
}

impl Run {
    fn new() -> Self {
        Self {
            messages: types::Messages {
                keys: None,
                values: types::BytesColumn::empty(),
                timestamps: Vec::new(),
                headers: None,
            },
            partitions: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        self.messages.values.count()
    }

    #[inline]
    fn takes(&self, timestamp: bool, partition: bool) -> bool {
        self.count() == 0
            || (self.messages.timestamps.is_empty() != timestamp
                && self.partitions.is_empty() != partition)
    }

    fn push(
        &mut self,
        envelope: &Envelope<'_>,
        timestamp_ms: Option<i64>,
        key: impl FnOnce(&mut Vec<u8>) -> Result<bool, Error>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let before = self.count();
        let keys = self
            .messages
            .keys
            .get_or_insert_with(types::BytesColumn::empty);
        let values = &mut self.messages.values;
        // Both are encoded before either is counted, so that an error leaves no half of a message.
        let encoded = key(&mut keys.data).and_then(|key| Ok((key, value(&mut values.data)?)));
        let (has_key, has_value) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                keys.discard();
                values.discard();
                return Err(error);
            }
        };
        if has_key {
            keys.close()
        } else {
            keys.push_absent()
        }
        if has_value {
            values.close()
        } else {
            values.push_absent()
        }
        if let Some(timestamp_ms) = timestamp_ms {
            let timestamps = &mut self.messages.timestamps;
            timestamps.extend_from_slice(&timestamp_ms.to_le_bytes());
        }
        if let Some(partition) = envelope.partition {
            self.partitions.extend_from_slice(&partition.to_le_bytes());
        }
        if self.messages.headers.is_some() || !envelope.headers.is_empty() {
            let headers = self
                .messages
                .headers
                .get_or_insert_with(|| types::HeadersColumn {
                    ends: vec![0; before * size_of::<u32>()],
                    names: types::BytesColumn::empty(),
                    values: types::BytesColumn::empty(),
                });
            for (name, value) in envelope.headers {
                headers.names.push(name.as_bytes());
                match value {
                    Some(value) => headers.values.push(value),
                    None => headers.values.push_absent(),
                }
            }
            let end = index(headers.names.count());
            headers.ends.extend_from_slice(&end.to_le_bytes());
        }
        Ok(())
    }

    fn pop(&mut self) {
        if let Some(keys) = &mut self.messages.keys {
            keys.pop();
        }
        self.messages.values.pop();
        packed::pop::<8>(&mut self.messages.timestamps);
        packed::pop::<4>(&mut self.partitions);
        if let Some(headers) = &mut self.messages.headers {
            packed::pop::<4>(&mut headers.ends);
            let left = packed::last(&headers.ends).map_or(0, u32::from_le_bytes) as usize;
            while headers.names.count() > left {
                headers.names.pop();
                headers.values.pop();
            }
        }
    }

    fn send(&mut self, port: &str, send_many: SendMany) {
        // A column of nothing but absent keys is legal and a waste.
        let keyless = self
            .messages
            .keys
            .take_if(|keys| keys.absent.len() == keys.ends.len());
        let partitions = (!self.partitions.is_empty()).then_some(self.partitions.as_slice());
        send_many(port, &self.messages, partitions);
        if keyless.is_some() {
            self.messages.keys = keyless;
        }
    }

    fn reset(&mut self) {
        if let Some(keys) = &mut self.messages.keys {
            keys.reset();
        }
        self.messages.values.reset();
        self.messages.headers = None;
        if self.messages.timestamps.capacity() > RETAIN_BYTES {
            *self = Self::new();
        }
        self.messages.timestamps.clear();
        self.partitions.clear();
    }
}
