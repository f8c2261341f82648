//! A chunk of a log partition: messages in columns, with a checksum. The value under [`super::keys::log_chunk`].
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1..5 | CRC-32C of all that follows |
//! | 5..13 | time of append, milliseconds since the Unix epoch |
//! | 13..17 | number of messages |
//! | 17 | flags: bit 0, keys; bit 1, headers |
//! | then | timestamps (8 each), keys if any, values, headers if any: ends (4 each), names, values |
//!
//! A column is: number of entries, number of absent ones, bytes of data (4 each); ends (4 each); absent (4 each);
//! data. Numbers are little-endian. The offset of the first message is in the key; offsets are dense.

use super::StateError;
use crate::model::{Column, HeadersColumn, Messages, TimestampMs};

const VERSION: u8 = 1;
const KEYS: u8 = 1;
const HEADERS: u8 = 2;
const PREFIX: usize = 5;

/// A decoded chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// When it was appended.
    pub appended: TimestampMs,
    /// Its messages.
    pub messages: Messages,
}

/// The stored form of messages appended at `appended`.
pub fn encode(appended: TimestampMs, messages: &Messages) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, appended, messages);
    out
}

/// Appends the stored form of messages.
pub fn encode_into(out: &mut Vec<u8>, appended: TimestampMs, messages: &Messages) {
    let (len, begin) = (messages.len(), out.len());
    out.reserve(64 + len * 24 + messages.data_len());
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    out.extend_from_slice(&appended.to_le_bytes());
    put_u32(out, len);
    let keys = messages.keys.as_ref().map_or(0, |_| KEYS);
    let headers = messages.headers.as_ref().map_or(0, |_| HEADERS);
    out.push(keys | headers);
    assert_eq!(
        messages.timestamps.len(),
        len,
        "a message without timestamp is appended"
    );
    for timestamp in &messages.timestamps {
        out.extend_from_slice(&timestamp.to_le_bytes());
    }
    if let Some(keys) = &messages.keys {
        put_column(out, keys);
    }
    put_column(out, &messages.values);
    if let Some(headers) = &messages.headers {
        headers
            .ends
            .iter()
            .for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
        put_column(out, &headers.names);
        put_column(out, &headers.values);
    }
    let crc = crc32c::crc32c(&out[begin + PREFIX..]);
    out[begin + 1..begin + PREFIX].copy_from_slice(&crc.to_le_bytes());
}

/// When a stored chunk was appended and how many messages it has, without reading the rest.
///
/// # Errors
/// It is not a chunk of a known version.
pub fn peek(stored: &[u8]) -> Result<(TimestampMs, usize), StateError> {
    let mut reader = Reader::new(stored)?;
    let appended = i64::from_le_bytes(reader.array()?);
    Ok((appended, reader.u32()?))
}

/// The same chunk, appended at another time.
pub fn appended_at(stored: &[u8], now: TimestampMs) -> Vec<u8> {
    let mut chunk = stored.to_vec();
    if let Some(when) = chunk.get_mut(5..13) {
        when.copy_from_slice(&now.to_le_bytes());
        let crc = crc32c::crc32c(&chunk[5..]);
        chunk[1..5].copy_from_slice(&crc.to_le_bytes());
    }
    chunk
}

/// The checksum of a stored chunk, as it says itself.
pub fn checksum(stored: &[u8]) -> u32 {
    let crc = stored.get(1..).and_then(<[u8]>::first_chunk);
    crc.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Reads a stored chunk.
///
/// # Errors
/// It is not what was written.
pub fn decode(stored: &[u8]) -> Result<Chunk, StateError> {
    let mut reader = Reader::new(stored)?;
    if crc32c::crc32c(reader.rest) != checksum(stored) {
        return Err(damaged("its checksum does not match"));
    }
    let appended = i64::from_le_bytes(reader.array()?);
    let len = reader.u32()?;
    let [flags] = reader.array()?;
    let (timestamps, _) = reader.take(len * 8)?.as_chunks::<8>();
    let timestamps = timestamps
        .iter()
        .map(|bytes| i64::from_le_bytes(*bytes))
        .collect();
    let keys = match flags & KEYS {
        0 => None,
        _ => Some(reader.column()?),
    };
    let values = reader.column()?;
    let headers = match flags & HEADERS {
        0 => None,
        _ => Some(HeadersColumn {
            ends: reader.u32s(len)?,
            names: reader.column()?,
            values: reader.column()?,
        }),
    };
    let messages = Messages {
        keys,
        values,
        timestamps,
        headers,
    };
    if messages.len() != len || !reader.rest.is_empty() {
        return Err(damaged("its columns have another length than it says"));
    }
    messages.check().map_err(|what| damaged(&what))?;
    Ok(Chunk { appended, messages })
}

fn damaged(what: &str) -> StateError {
    StateError::Damaged(format!("a log chunk: {what}"))
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    match u32::try_from(number) {
        Ok(number) => out.extend_from_slice(&number.to_le_bytes()),
        Err(_) => panic!("a chunk exceeds 4 GiB"),
    }
}

fn put_column(out: &mut Vec<u8>, column: &Column) {
    let (ends, data, absent) = column.parts();
    put_u32(out, ends.len());
    put_u32(out, absent.len());
    put_u32(out, data.len());
    for number in ends.iter().chain(absent) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(data);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(stored: &'a [u8]) -> Result<Reader<'a>, StateError> {
        match stored.split_at_checked(PREFIX) {
            Some((prefix, rest)) if prefix[0] == VERSION => Ok(Reader { rest }),
            Some((prefix, _)) => Err(damaged(&format!("unknown version {}", prefix[0]))),
            None => Err(damaged("it is cut")),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| damaged("it is cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| damaged("it is cut"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<usize, StateError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn u32s(&mut self, count: usize) -> Result<Vec<u32>, StateError> {
        let (words, _) = self.take(count * 4)?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn column(&mut self) -> Result<Column, StateError> {
        let (entries, absent, data) = (self.u32()?, self.u32()?, self.u32()?);
        let ends = self.u32s(entries)?;
        let absent = self.u32s(absent)?;
        let data = self.take(data)?.to_vec();
        Column::from_parts(ends, data, absent).map_err(|error| damaged(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageRef;

    fn sample() -> Messages {
        let mut messages = Messages::default();
        messages.push(MessageRef::new(Some(b"k"), Some(b"v"), 1));
        messages.push(MessageRef::new(None, None, -2));
        let mut headers = HeadersColumn::default();
        headers.push([(&b"a"[..], Some(&b"1"[..])), (b"b", None)].into_iter());
        headers.push(std::iter::empty());
        messages.headers = Some(headers);
        messages
    }

    #[test]
    fn what_is_written_is_read() {
        let chunk = decode(&encode(99, &sample())).map_err(|error| error.to_string());
        let expected = Chunk {
            appended: 99,
            messages: sample(),
        };
        assert_eq!(chunk, Ok(expected));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let stored = encode(99, &sample());
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..stored.len() {
            assert!(decode(&stored[..len]).is_err(), "cut to {len}");
        }
    }
}
