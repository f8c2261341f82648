//! The input of a task: batches and messages, as views that copy nothing.

use serde::Deserialize;

use crate::backend::types;
use crate::column::{Column as _, index};
use crate::{Codec, Error, OrReject as _, packed};

/// Messages of one partition of one input, in their order there; at least one.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    raw: &'a types::Batch,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(raw: &'a types::Batch) -> Self {
        Self { raw }
    }

    /// The index of the input in [`Context::inputs`](crate::Context::inputs).
    pub fn input(&self) -> u32 {
        self.raw.input
    }

    /// The partition within the input's stream.
    pub fn partition(&self) -> u32 {
        self.raw.partition
    }

    /// How many messages there are.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a batch has at least one message"
    )]
    pub fn len(&self) -> usize {
        packed::count::<8>(&self.raw.offsets)
    }

    /// A message by its place in the batch.
    pub fn get(&self, place: usize) -> Option<Message<'a>> {
        (place < self.len()).then(|| Message {
            source: Source::Batch(self.raw),
            index: index(place),
        })
    }

    /// The messages in order.
    pub fn iter(&self) -> Messages<'a> {
        Messages {
            raw: self.raw,
            next: 0,
            end: index(self.len()),
        }
    }
}

impl<'a> IntoIterator for &Batch<'a> {
    type Item = Message<'a>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

/// The messages of a batch, in order. Made by [`Batch::iter`].
#[derive(Clone)]
pub struct Messages<'a> {
    raw: &'a types::Batch,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        if self.next == self.end {
            return None;
        }
        let message = Message {
            source: Source::Batch(self.raw),
            index: self.next,
        };
        self.next += 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// A message of an input: a view as light as a reference.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    source: Source<'a>,
    index: u32,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Batch(&'a types::Batch),
    Row(&'a types::Message),
}

impl<'a> Message<'a> {
    pub(crate) fn from_row(raw: &'a types::Message) -> Self {
        Self {
            source: Source::Row(raw),
            index: 0,
        }
    }

    /// The message's place in its batch.
    #[inline]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// The index of the input in [`Context::inputs`](crate::Context::inputs).
    pub fn input(&self) -> u32 {
        match self.source {
            Source::Batch(batch) => batch.input,
            Source::Row(row) => row.input,
        }
    }

    /// The partition within the input's stream.
    pub fn partition(&self) -> u32 {
        match self.source {
            Source::Batch(batch) => batch.partition,
            Source::Row(row) => row.partition,
        }
    }

    /// The position in the partition.
    pub fn offset(&self) -> u64 {
        match self.source {
            Source::Batch(batch) => {
                packed::get(&batch.offsets, self.index()).map_or(0, u64::from_le_bytes)
            }
            Source::Row(row) => row.offset,
        }
    }

    /// Milliseconds since the Unix epoch, UTC; before 1970 they are negative.
    #[inline]
    pub fn timestamp_ms(&self) -> i64 {
        match self.source {
            Source::Batch(batch) => {
                packed::get(&batch.messages.timestamps, self.index()).map_or(0, i64::from_le_bytes)
            }
            Source::Row(row) => row.timestamp,
        }
    }

    /// The key. `None`: the message has none; an empty key is a key.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        match self.source {
            Source::Batch(batch) => batch.messages.keys.as_ref()?.entry(self.index()),
            Source::Row(row) => row.key.as_deref(),
        }
    }

    /// The value. `None`: a tombstone; an empty value is a value.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        match self.source {
            Source::Batch(batch) => batch.messages.values.entry(self.index()),
            Source::Row(row) => row.value.as_deref(),
        }
    }

    /// The key of a message that must have one.
    #[inline]
    pub fn need_key(&self) -> Result<&'a [u8], Error> {
        self.key().or_reject("the message has no key")
    }

    /// The value of a message that must not be a tombstone.
    #[inline]
    pub fn need_value(&self) -> Result<&'a [u8], Error> {
        self.value().or_reject("the message has no value")
    }

    /// The key as text.
    #[inline]
    pub fn key_str(&self) -> Result<&'a str, Error> {
        str::from_utf8(self.need_key()?).or_reject("the key")
    }

    /// The value as text.
    #[inline]
    pub fn value_str(&self) -> Result<&'a str, Error> {
        str::from_utf8(self.need_value()?).or_reject("the value")
    }

    /// The key, read by a codec.
    pub fn key_as<C: Codec>(&self) -> Result<C::Owned, Error> {
        C::decode(self.need_key()?).or_reject("the key")
    }

    /// The value, read by a codec.
    pub fn value_as<C: Codec>(&self) -> Result<C::Owned, Error> {
        C::decode(self.need_value()?).or_reject("the value")
    }

    /// The value, read as JSON. Text fields of `T` may borrow from the batch (`&'a str`, `Cow`): nothing is copied then.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.need_value()?).or_reject("the value")
    }

    /// The value, read as Postcard. Fields of `T` may borrow from the batch: nothing is copied then.
    pub fn postcard<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        postcard::from_bytes(self.need_value()?).or_reject("the value")
    }

    /// The headers in order. A name may repeat; a value may be absent.
    pub fn headers(&self) -> Headers<'a> {
        let (source, next, end) = match self.source {
            Source::Row(row) => (HeaderSource::Row(&row.headers), 0, row.headers.len()),
            Source::Batch(batch) => match &batch.messages.headers {
                None => (HeaderSource::Row(&[]), 0, 0),
                Some(column) => {
                    let end = |place: usize| {
                        packed::get(&column.ends, place).map_or(0, u32::from_le_bytes) as usize
                    };
                    let start = self.index().checked_sub(1).map_or(0, end);
                    (HeaderSource::Columns(column), start, end(self.index()))
                }
            },
        };
        Headers { source, next, end }
    }

    /// The value of the last header of a name; also `None` if that value is absent.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .filter(|header| header.0 == name)
            .last()
            .and_then(|header| header.1)
    }
}

/// The headers of a message: names and values. Made by [`Message::headers`].
#[derive(Clone)]
pub struct Headers<'a> {
    source: HeaderSource<'a>,
    next: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum HeaderSource<'a> {
    Row(&'a [types::Header]),
    Columns(&'a types::HeadersColumn),
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let place = self.next;
        self.next += 1;
        Some(match self.source {
            HeaderSource::Row(headers) => {
                let header = headers.get(place)?;
                (header.name.as_str(), header.value.as_deref())
            }
            // The contract has names in UTF-8.
            HeaderSource::Columns(column) => (
                str::from_utf8(column.names.bytes(place)).unwrap_or(""),
                column.values.entry(place),
            ),
        })
    }
}
