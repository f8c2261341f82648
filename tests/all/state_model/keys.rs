//! Keys and values of a run.

use rand::RngExt;
use rand::rngs::StdRng;

use super::operation::{Bytes, KeyRange};

/// Keys at the edges: empty, of 0x00 and of 0xFF bytes, prefixes of each other, one byte apart, long, and one that looks
/// like the prefix of a neighbouring store.
pub(super) fn nasty_keys() -> Vec<Bytes> {
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    for length in [1, 2, 3, 8, 9, 16] {
        keys.push(vec![0x00; length]);
        keys.push(vec![0xff; length]);
    }
    for key in [
        &b"\x00\xff"[..],
        b"\xff\x00",
        b"\xff\xfe",
        b"\xff\xff\x00",
        b"\x00\x00\x01",
        b"\x01",
        b"\xfe",
        b"\xfe\xff",
        b"a",
        b"a\x00",
        b"a\x00\x00",
        b"a\xff",
        b"a\xff\xff",
        b"aa",
        b"ab",
        b"b",
        b"\x00\x00\x00\x00\x00\x00\x01\x00",
        b"\x00\x00\x00\x00\x00\x00\x01\x00a",
    ] {
        keys.push(key.to_vec());
    }
    let long = vec![b'p'; 250];
    for tail in [&b""[..], b"\x00", b"\xff", b"p"] {
        keys.push([&long, tail].concat());
    }
    keys.into_iter().map(Bytes::from).collect()
}

/// The keys of a run.
#[derive(Debug, Clone)]
pub(super) struct KeySpace {
    nasty: Vec<Bytes>,
    /// How many keys there are besides: a common prefix and a number.
    numbered: u32,
}

impl KeySpace {
    /// The nasty keys, and `numbered` others.
    pub(super) fn new(numbered: u32) -> KeySpace {
        KeySpace {
            nasty: nasty_keys(),
            numbered,
        }
    }

    /// Any key.
    pub(super) fn key(&self, rng: &mut StdRng) -> Bytes {
        if self.numbered > 0 && rng.random_ratio(9, 10) {
            numbered(rng.random_range(0..self.numbered))
        } else {
            self.nasty[rng.random_range(0..self.nasty.len())].clone()
        }
    }

    /// Any range: open, empty, turned round, short and long ones.
    pub(super) fn range(&self, rng: &mut StdRng) -> KeyRange {
        match rng.random_range(0..12) {
            0 => KeyRange::ALL,
            1 => KeyRange {
                start: Some(self.key(rng)),
                end: None,
            },
            2 => KeyRange {
                start: None,
                end: Some(self.key(rng)),
            },
            3 => {
                let key = self.key(rng);
                KeyRange {
                    start: Some(key.clone()),
                    end: Some(key),
                }
            }
            4 => {
                let key = self.key(rng);
                let next = [&key[..], &[0]].concat().into();
                KeyRange {
                    start: Some(key),
                    end: Some(next),
                }
            }
            5 => KeyRange::of_prefix(&self.key(rng)),
            6..9 if self.numbered > 0 => {
                let first = rng.random_range(0..self.numbered);
                KeyRange {
                    start: Some(numbered(first)),
                    end: Some(numbered(first + rng.random_range(1..20))),
                }
            }
            _ => KeyRange {
                start: Some(self.key(rng)),
                end: Some(self.key(rng)),
            },
        }
    }
}

/// One of the other keys.
pub(super) fn numbered(number: u32) -> Bytes {
    [&b"user/"[..], &number.to_be_bytes()].concat().into()
}

/// Lengths of values, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueLengths {
    /// Most values have at most this many bytes.
    pub(super) usual_max: usize,
    /// One in a hundred has up to this many.
    pub(super) rare_max: usize,
}

impl ValueLengths {
    /// A value unlike all others of the run, where it has room for `number`.
    pub(super) fn value(&self, number: u64, rng: &mut StdRng) -> Bytes {
        let length = match rng.random_range(0..100) {
            0 => rng.random_range(0..=self.rare_max),
            1..8 => 0,
            // Counters.
            8..40 => 8,
            _ => rng.random_range(0..=self.usual_max),
        };
        if length == 8 && rng.random_ratio(1, 20) {
            return i64::MAX.to_le_bytes()[..].into();
        }
        let mut value = number.to_le_bytes().to_vec();
        value.resize(length, u8::try_from(number % 251).expect("it is small"));
        value.into()
    }
}
