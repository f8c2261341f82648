//! The counter in the batch world, by the keyed update: count, sum and maximum in 24 bytes, 40 bytes out.

use wasm_host_sdk::prelude::*;

struct Columns {
    state: Store<Raw, Fixed<24>>,
    out: Output<Raw, Raw>,
}

#[task]
impl Columns {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            state: cx.store("counts")?,
            out: cx.output("out"),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let out = &self.out;
        self.state
            .update(batch, Message::need_key, |message, entry| {
                let entry = entry.get_or_insert([0; 24]);
                let key = message.need_key()?;
                let value = message.need_value()?;
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
                sent[16..].copy_from_slice(&entry[..]);
                out.send(key, &sent)
            })
    }
}
