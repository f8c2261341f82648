//! The keyed update of the counters, and no component of its own.

use wasm_host_sdk::prelude::*;

/// Counts a batch, and sends each new entry.
///
/// # Errors
/// The SDK's, for a message without key or value.
pub fn count_batch(
    state: &Store<Raw, Fixed<24>>,
    out: &Output<Raw, Raw>,
    batch: &Batch<'_>,
) -> Result<(), Error> {
    state.update(batch, Message::need_key, |message, entry| {
        let entry = entry.get_or_insert([0; 24]);
        let key = message.need_key()?;
        out.send(key, &count(key, message.need_value()?, entry))
    })
}

/// Counts a value under its key: count, sum of the last bytes, and maximum, in 24 bytes. What is sent: the first 16 bytes of the key, and
/// the entry.
pub fn count(key: &[u8], value: &[u8], entry: &mut [u8; 24]) -> [u8; 40] {
    let mut numbers = [0u64; 3];
    for (number, bytes) in numbers.iter_mut().zip(entry.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    let seen = u64::from(value[value.len() - 1]);
    let numbers = [numbers[0] + 1, numbers[1] + seen, numbers[2].max(seen)];
    for (bytes, number) in entry.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
    let mut sent = [0; 40];
    sent[..16].copy_from_slice(&key[..16]);
    sent[16..].copy_from_slice(entry);
    sent
}
