//! What stands under the key of a chunk of a log: the chunk, or its place in a segment.
//!
//! | bytes of a place | what |
//! | --- | --- |
//! | 0 | version, 2: a chunk that stands here begins with 1 |
//! | 1..5 | CRC-32C of all that follows |
//! | 5..13 | time of append, milliseconds since the Unix epoch |
//! | 13..17 | number of messages |
//! | 17..25 | number of the segment |
//! | 25..33 | where the chunk begins in it |
//! | 33..37 | bytes of the chunk |
//! | 37..41 | its checksum, which it also has itself |
//!
//! Numbers are little-endian.

use crate::model::{SegmentId, TimestampMs};
use crate::state::{StateError, chunk};

const VERSION: u8 = 2;
const LEN: usize = 41;

/// What stands under the key of a chunk.
pub(super) enum Stored<'a> {
    /// The chunk.
    Here(&'a [u8]),
    /// The chunk is in a segment.
    There(Placed),
}

/// Where a chunk is in a segment, and what is asked of it most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// When it was appended.
    pub(super) appended: TimestampMs,
    /// Its messages.
    pub(super) count: u32,
    /// Its checksum.
    pub(super) crc: u32,
    /// Where it is.
    pub(super) place: Place,
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment.
    pub(super) segment: SegmentId,
    /// Its first byte.
    pub(super) at: u64,
    /// Bytes.
    pub(super) len: u32,
}

impl Stored<'_> {
    /// Reads the value under the key of a chunk.
    pub(super) fn of(value: &[u8]) -> Result<Stored<'_>, StateError> {
        match value.first() {
            Some(&VERSION) => Placed::decode(value).map(Stored::There),
            // What else there may be, the chunk's own reader knows.
            _ => Ok(Stored::Here(value)),
        }
    }

    /// Bytes of the chunk.
    pub(super) fn len(&self) -> usize {
        match self {
            Stored::Here(stored) => stored.len(),
            Stored::There(placed) => placed.place.len as usize,
        }
    }

    /// What stands under the key of the same chunk, appended at this time.
    pub(super) fn appended_at(&self, now: TimestampMs) -> Vec<u8> {
        match self {
            Stored::Here(stored) => chunk::appended_at(stored, now),
            Stored::There(placed) => {
                let placed = Placed {
                    appended: now,
                    ..*placed
                };
                placed.encode().to_vec()
            }
        }
    }

    /// When the chunk was appended, how many messages it has, and how many bytes.
    pub(super) fn peek(&self) -> Result<(TimestampMs, u64, u64), StateError> {
        match self {
            Stored::Here(stored) => {
                let (appended, count) = chunk::peek(stored)?;
                Ok((appended, count as u64, stored.len() as u64))
            }
            Stored::There(placed) => Ok((
                placed.appended,
                placed.count.into(),
                placed.place.len.into(),
            )),
        }
    }
}

impl Placed {
    /// Its stored form.
    pub(super) fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = VERSION;
        out[5..13].copy_from_slice(&self.appended.to_le_bytes());
        out[13..17].copy_from_slice(&self.count.to_le_bytes());
        out[17..25].copy_from_slice(&self.place.segment.0.to_le_bytes());
        out[25..33].copy_from_slice(&self.place.at.to_le_bytes());
        out[33..37].copy_from_slice(&self.place.len.to_le_bytes());
        out[37..].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[5..]);
        out[1..5].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(value: &[u8]) -> Result<Placed, StateError> {
        let damaged = |what: &str| StateError::Damaged(format!("a place of a log chunk: {what}"));
        let value: &[u8; LEN] = value
            .try_into()
            .map_err(|_| damaged(&format!("it has {} bytes", value.len())))?;
        let number = |from: usize, len: usize| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(&value[from..from + len]);
            u64::from_le_bytes(bytes)
        };
        let small = |from| u32::try_from(number(from, 4)).unwrap_or_default();
        if small(1) != crc32c::crc32c(&value[5..]) {
            return Err(damaged("its checksum does not match"));
        }
        Ok(Placed {
            appended: number(5, 8).cast_signed(),
            count: small(13),
            crc: small(37),
            place: Place {
                segment: SegmentId(number(17, 8)),
                at: number(25, 8),
                len: small(33),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACED: Placed = Placed {
        appended: -2,
        count: 3,
        crc: 5,
        place: Place {
            segment: SegmentId(4),
            at: 1 << 40,
            len: 70_000,
        },
    };

    #[test]
    fn the_bytes_of_a_place_are_frozen() {
        let hex: String = PLACED
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected =
            "0283f76001feffffffffffffff03000000040000000000000000000000000100007011010005000000";
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_never_otherwise() {
        let bytes = PLACED.encode();
        assert!(matches!(Stored::of(&bytes), Ok(Stored::There(placed)) if placed == PLACED));
        for at in 1..LEN {
            let mut other = bytes;
            other[at] ^= 1;
            assert!(Stored::of(&other).is_err(), "byte {at}");
            assert!(Stored::of(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
