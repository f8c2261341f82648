//! How a value is stored: one byte of flags, an expiry if the flags say so, the guest's bytes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | flags: bit 0, an expiry follows; the others are 0 |
//! | 1..9 | with bit 0: the store time from which the entry is absent, milliseconds, little-endian, signed |
//! | rest | the value |

use super::StateError;

const EXPIRES: u8 = 1;

/// Writes a value without expiry over `into`.
pub fn encode_into(value: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.push(0);
    into.extend_from_slice(value);
}

/// The guest's bytes of a stored value.
///
/// # Errors
/// It is not what this version writes.
pub fn decode(stored: &[u8]) -> Result<&[u8], StateError> {
    match stored.split_first() {
        Some((0, value)) => Ok(value),
        Some((&EXPIRES, _)) => Err(StateError::Damaged(
            "a value with an expiry, which this version does not write".into(),
        )),
        Some((flags, _)) => Err(StateError::Damaged(format!(
            "a value with unknown flags {flags:#04x}"
        ))),
        None => Err(StateError::Damaged(
            "a stored value without its flags byte".into(),
        )),
    }
}
