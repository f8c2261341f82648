//! What an epoch sends to a partition, as its outbox holds it until it is delivered.
//!
//! A parcel (numbers little-endian, lengths in LEB128):
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | then, for each message: 1 | 1: it has a key, 2: it has a value, 4: it has headers; added up |
//! | 8 | timestamp, ms since the Unix epoch |
//! | | length and bytes of the key, then of the value, as far as it has them |
//! | | if it has headers: how many; of each the length and bytes of its name, then 0 (it has no value) or the length + 1 and bytes of its value |

use crate::model::{HeadersColumn, MessageRef, Messages};

const VERSION: u8 = 1;
const KEY: u8 = 1;
const VALUE: u8 = 2;
const HEADERS: u8 = 4;

/// Adds messages to a parcel.
pub(super) fn encode(messages: &Messages, into: &mut Vec<u8>) {
    if into.is_empty() {
        into.push(VERSION);
    }
    into.reserve(messages.data_len() + messages.len() * 16);
    for index in 0..messages.len() {
        let message = messages.get(index);
        let headers = message.headers().count();
        let has = |present: bool, bit: u8| if present { bit } else { 0 };
        into.push(
            has(message.key.is_some(), KEY)
                | has(message.value.is_some(), VALUE)
                | has(headers > 0, HEADERS),
        );
        into.extend_from_slice(&message.timestamp.to_le_bytes());
        for part in [message.key, message.value].into_iter().flatten() {
            put(part, into);
        }
        if headers > 0 {
            number(headers, into);
            for (name, value) in message.headers() {
                put(name, into);
                match value {
                    None => into.push(0),
                    Some(value) => {
                        number(value.len() + 1, into);
                        into.extend_from_slice(value);
                    }
                }
            }
        }
    }
}

fn put(bytes: &[u8], into: &mut Vec<u8>) {
    number(bytes.len(), into);
    into.extend_from_slice(bytes);
}

fn number(mut number: usize, into: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return into.push(low);
        }
        into.push(low | 0x80);
    }
}

/// Gives each message of a parcel to `take`, in order, until that returns an error.
///
/// # Errors
/// That error; or the bytes are no parcel.
pub(super) fn each<E: From<Damaged>>(
    parcel: &[u8],
    take: &mut dyn FnMut(&MessageRef<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = match parcel {
        [] => return Ok(()),
        [VERSION, rest @ ..] => Rest(rest),
        _ => return Err(Damaged.into()),
    };
    let mut headers = HeadersColumn::default();
    while !rest.0.is_empty() {
        let has = rest.take(1)?[0];
        let timestamp = rest
            .take(8)?
            .first_chunk()
            .map(|bytes| i64::from_le_bytes(*bytes));
        let timestamp = timestamp.ok_or(Damaged)?;
        let key = rest.part(has & KEY != 0)?;
        let value = rest.part(has & VALUE != 0)?;
        let message = MessageRef::new(key, value, timestamp);
        if has & HEADERS == 0 {
            take(&message)?;
            continue;
        }
        headers.truncate(0);
        for _ in 0..rest.number()? {
            let length = rest.number()?;
            headers.names.push(Some(rest.take(length)?));
            let value = match rest.number()?.checked_sub(1) {
                None => None,
                Some(length) => Some(rest.take(length)?),
            };
            headers.values.push(value);
        }
        headers
            .ends
            .push(u32::try_from(headers.names.len()).map_err(|_| Damaged)?);
        take(&message.with_headers(&headers, 0))?;
    }
    Ok(())
}

/// Bytes that are no parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn part(&mut self, is_there: bool) -> Result<Option<&'a [u8]>, Damaged> {
        if !is_there {
            return Ok(None);
        }
        let length = self.number()?;
        self.take(length).map(Some)
    }

    fn number(&mut self) -> Result<usize, Damaged> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Messages {
        let mut messages = Messages::default();
        let long = vec![7; 300];
        messages.push(MessageRef::new(Some(b"k"), Some(b"v"), 1));
        messages.push(MessageRef::new(None, None, -1));
        messages.push(MessageRef::new(Some(b""), Some(b""), i64::MAX));
        messages.push(MessageRef::new(None, Some(&long), 2));
        let mut headers = HeadersColumn::default();
        let list: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", None), (b"a", Some(b"")), (b"", Some(&long))];
        headers.push(list.into_iter());
        messages.push(MessageRef::new(Some(&long), None, 3).with_headers(&headers, 0));
        messages
    }

    fn decoded(parcel: &[u8]) -> Result<Messages, Damaged> {
        let mut messages = Messages::default();
        each::<Damaged>(parcel, &mut |message| {
            messages.push(*message);
            Ok(())
        })?;
        Ok(messages)
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut parcel = Vec::new();
        encode(&messages(), &mut parcel);
        assert_eq!(decoded(&parcel), Ok(messages()));
        assert_eq!(decoded(&[]), Ok(Messages::default()));
    }

    #[test]
    fn its_bytes_are_frozen() {
        let (mut parcel, mut one) = (Vec::new(), Messages::default());
        let mut headers = HeadersColumn::default();
        let list: [(&[u8], Option<&[u8]>); 2] = [(b"n", None), (b"m", Some(b"x"))];
        headers.push(list.into_iter());
        one.push(MessageRef::new(Some(b"k"), Some(b"vv"), 258).with_headers(&headers, 0));
        encode(&one, &mut parcel);
        let frozen = b"\x01\x07\x02\x01\0\0\0\0\0\0\x01k\x02vv\x02\x01n\0\x01m\x02x";
        assert_eq!(parcel, frozen);
    }

    #[test]
    fn what_is_cut_or_of_another_version_is_refused() {
        let mut parcel = Vec::new();
        encode(&messages(), &mut parcel);
        let whole = (1..=messages().len()).map(|count| {
            let (mut some, mut bytes) = (Messages::default(), Vec::new());
            some.extend_from(&messages(), 0..count);
            encode(&some, &mut bytes);
            bytes.len()
        });
        let whole: Vec<usize> = whole.chain([1]).collect();
        for length in (1..parcel.len()).filter(|length| !whole.contains(length)) {
            assert_eq!(decoded(&parcel[..length]), Err(Damaged), "{length}");
        }
        parcel[0] = 2;
        assert_eq!(decoded(&parcel), Err(Damaged));
    }
}
