//! Messages in columns.

use std::ops::Range;

use super::{Column, InputIndex, Offset, PartitionId, TimestampMs};

/// The headers of many messages; those of message `i` are entries `ends[i-1]..ends[i]` of `names` and `values`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadersColumn {
    /// Where each message's headers end.
    pub ends: Vec<u32>,
    /// Their names; none is absent.
    pub names: Column,
    /// Their values.
    pub values: Column,
}

/// The contents of many messages, in columns of equal length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Messages {
    /// `None`: no message has a key.
    pub keys: Option<Column>,
    /// An absent value is a tombstone.
    pub values: Column,
    /// One for each message; may be empty in what a guest sends.
    pub timestamps: Vec<TimestampMs>,
    /// `None`: no message has headers.
    pub headers: Option<HeadersColumn>,
}

/// Messages of one partition of one input, in their order there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The input of the stage.
    pub input: InputIndex,
    /// The partition they were read from.
    pub partition: PartitionId,
    /// Strictly increasing.
    pub offsets: Vec<Offset>,
    /// As many as there are offsets.
    pub messages: Messages,
    /// Where replayed messages were read first.
    pub origin: Option<Box<Origin>>,
}

/// Where replayed messages were read first: what a guest sees instead of the place from which they are read now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The input of the stage.
    pub input: InputIndex,
    /// The offset of each; strictly increasing.
    pub offsets: Vec<Offset>,
    /// How often each was a dead letter before.
    pub replays: Vec<u32>,
    /// They are not to be processed: somebody gave them up.
    pub drops: bool,
}

impl Origin {
    /// That of messages `range`.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Origin {
        Origin {
            input: self.input,
            offsets: self.offsets[range.clone()].to_vec(),
            replays: self.replays[range].to_vec(),
            drops: self.drops,
        }
    }
}

/// One message of a column, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct MessageRef<'a> {
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: TimestampMs,
    headers: Option<(&'a HeadersColumn, usize)>,
}

impl<'a> MessageRef<'a> {
    /// A message without headers.
    pub fn new(
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        timestamp: TimestampMs,
    ) -> MessageRef<'a> {
        MessageRef {
            key,
            value,
            timestamp,
            headers: None,
        }
    }

    /// The same message with the headers of message `index` of a column.
    #[must_use]
    pub fn with_headers(self, headers: &'a HeadersColumn, index: usize) -> MessageRef<'a> {
        MessageRef {
            headers: Some((headers, index)),
            ..self
        }
    }

    /// The headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a {
        let (column, range) = match self.headers {
            Some((column, index)) => (Some(column), column.range(index)),
            None => (None, 0..0),
        };
        range.filter_map(move |at| {
            let column = column?;
            Some((
                column.names.get(at).unwrap_or_default(),
                column.values.get(at),
            ))
        })
    }
}

impl HeadersColumn {
    /// The entries that belong to message `index`.
    pub fn range(&self, index: usize) -> Range<usize> {
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        };
        start..self.ends[index] as usize
    }

    /// Appends the headers of one more message.
    pub fn push<'h>(&mut self, headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) {
        for (name, value) in headers {
            self.names.push(Some(name));
            self.values.push(value);
        }
        self.ends
            .push(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
    }

    /// Cuts to the headers of the first `len` messages.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.ends.len() {
            return;
        }
        self.ends.truncate(len);
        let entries = self.ends.last().copied().unwrap_or(0) as usize;
        self.names.truncate(entries);
        self.values.truncate(entries);
    }

    /// The bytes of all names and values.
    pub fn data_len(&self) -> usize {
        self.names.data_len() + self.values.data_len()
    }

    /// Checks columns from outside for `messages` messages.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self, messages: usize) -> Result<(), String> {
        if self.ends.len() != messages {
            return Err(format!(
                "headers of {} messages for {messages} messages",
                self.ends.len()
            ));
        }
        if let Some(at) = self.ends.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(format!("the headers' `ends` decrease at index {}", at + 1));
        }
        let entries = self.ends.last().copied().unwrap_or(0) as usize;
        if self.names.len() != entries || self.values.len() != entries {
            return Err(format!(
                "the headers' `ends` speak of {entries} headers, but there are {} names and {} values",
                self.names.len(),
                self.values.len()
            ));
        }
        match self
            .names
            .iter()
            .position(|name| name.is_none_or(|name| std::str::from_utf8(name).is_err()))
        {
            Some(at) => Err(format!("the name of header {at} is absent or not UTF-8")),
            None => Ok(()),
        }
    }
}

impl Messages {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The bytes of keys, values and headers.
    pub fn data_len(&self) -> usize {
        self.values.data_len()
            + self.keys.as_ref().map_or(0, Column::data_len)
            + self.headers.as_ref().map_or(0, HeadersColumn::data_len)
    }

    /// The key of message `index`.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        self.keys.as_ref().and_then(|keys| keys.get(index))
    }

    /// Message `index`; its timestamp is 0 if it has none.
    pub fn get(&self, index: usize) -> MessageRef<'_> {
        MessageRef {
            key: self.key(index),
            value: self.values.get(index),
            timestamp: self.timestamps.get(index).copied().unwrap_or(0),
            headers: self.headers.as_ref().map(|headers| (headers, index)),
        }
    }

    /// Appends a message.
    pub fn push(&mut self, message: MessageRef<'_>) {
        let before = self.len();
        if message.key.is_some() && self.keys.is_none() {
            self.keys = Some((0..before).map(|_| None).collect());
        }
        if let Some(keys) = &mut self.keys {
            keys.push(message.key);
        }
        let has_headers = message
            .headers
            .is_some_and(|(column, at)| !column.range(at).is_empty());
        if has_headers && self.headers.is_none() {
            self.headers = Some(HeadersColumn {
                ends: vec![0; before],
                ..HeadersColumn::default()
            });
        }
        if let Some(headers) = &mut self.headers {
            headers.push(message.headers());
        }
        self.values.push(message.value);
        self.timestamps.push(message.timestamp);
    }

    /// Appends messages `range` of `other`, which must have timestamps.
    pub fn extend_from(&mut self, other: &Messages, range: Range<usize>) {
        if self.is_empty() {
            // The columns that it has been emptied of, or another's.
            self.headers = None;
            self.keys = match &other.keys {
                Some(_) => Some(self.keys.take().unwrap_or_default()),
                None => None,
            };
        }
        let plain = self.headers.is_none() && other.headers.is_none();
        if plain && self.keys.is_some() == other.keys.is_some() {
            if let (Some(mine), Some(keys)) = (&mut self.keys, &other.keys) {
                mine.extend_from(keys, range.clone());
            }
            self.values.extend_from(&other.values, range.clone());
            self.timestamps.extend_from_slice(&other.timestamps[range]);
            return;
        }
        range.for_each(|index| self.push(other.get(index)));
    }

    /// Cuts to the first `len` messages.
    pub fn truncate(&mut self, len: usize) {
        if let Some(keys) = &mut self.keys {
            keys.truncate(len);
        }
        if let Some(headers) = &mut self.headers {
            headers.truncate(len);
        }
        self.values.truncate(len);
        self.timestamps.truncate(len);
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Checks columns from outside: equal lengths, and the rules of each. `timestamps` may be empty.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let len = self.len();
        if let Some(keys) = &self.keys
            && keys.len() != len
        {
            return Err(format!("{} keys for {len} values", keys.len()));
        }
        if !self.timestamps.is_empty() && self.timestamps.len() != len {
            return Err(format!(
                "{} timestamps for {len} values",
                self.timestamps.len()
            ));
        }
        match &self.headers {
            Some(headers) => headers.check(len),
            None => Ok(()),
        }
    }
}

impl Batch {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Messages `range` as a batch of their own.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Batch {
        let mut messages = Messages::default();
        messages.extend_from(&self.messages, range.clone());
        Batch {
            input: self.input,
            partition: self.partition,
            offsets: self.offsets[range.clone()].to_vec(),
            messages,
            origin: self
                .origin
                .as_ref()
                .map(|origin| origin.slice(range).into()),
        }
    }

    /// The input and the offsets that a guest sees.
    pub fn shown(&self) -> (InputIndex, &[Offset]) {
        match &self.origin {
            Some(origin) => (origin.input, &origin.offsets),
            None => (self.input, &self.offsets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_headers(messages: &mut Messages, value: &[u8], names: &[&str]) {
        let mut one = Messages::default();
        one.push(MessageRef::new(None, Some(value), 7));
        let mut headers = HeadersColumn::default();
        headers.push(names.iter().map(|name| (name.as_bytes(), None)));
        one.headers = Some(headers);
        messages.push(one.get(0));
    }

    #[test]
    fn keys_and_headers_appear_when_the_first_message_has_one() {
        let mut messages = Messages::default();
        messages.push(MessageRef::new(None, Some(b"plain"), 1));
        with_headers(&mut messages, b"two", &["a", "b"]);
        messages.push(MessageRef::new(Some(b"k"), None, 3));
        assert_eq!(messages.check(), Ok(()));
        assert_eq!(messages.get(0).headers().count(), 0);
        let names: Vec<_> = messages.get(1).headers().map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"b"]);
        assert_eq!(messages.get(2).key, Some(&b"k"[..]));
        assert_eq!(messages.get(0).key, None);
        messages.truncate(1);
        assert_eq!(messages.check(), Ok(()));
        assert_eq!(messages.len(), 1);
    }

    #[test]
    fn extend_from_equals_push_by_push() {
        let mut source = Messages::default();
        source.push(MessageRef::new(Some(b"k"), Some(b"v"), 1));
        source.push(MessageRef::new(None, None, 2));
        with_headers(&mut source, b"three", &["h"]);
        let mut target = Messages::default();
        target.push(MessageRef::new(None, Some(b"first"), 0));
        target.extend_from(&source, 0..3);
        assert_eq!(target.check(), Ok(()));
        for index in 0..3 {
            let (a, b) = (source.get(index), target.get(index + 1));
            assert_eq!((a.key, a.value, a.timestamp), (b.key, b.value, b.timestamp));
            assert!(a.headers().eq(b.headers()));
        }
    }
}
