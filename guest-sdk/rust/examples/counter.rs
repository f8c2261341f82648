//! Counts the messages of each key. It exports `batch-handler` alone.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Counter;

#[task]
impl Counter {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let counts = cx.store::<Raw, I64>("counts")?;
        counts.update(batch, Message::need_key, |_, count| {
            *count.get_or_insert_default() += 1
        })
    }
}
