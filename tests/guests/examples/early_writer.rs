//! Writes in `open`, which is not allowed.

use wasm_host_sdk::prelude::*;

struct EarlyWriter;

#[task]
impl EarlyWriter {
    fn open(cx: &Context) -> Result<Self, Error> {
        cx.store::<Raw, Raw>("counts")?.put(b"k", b"v")?;
        Ok(Self)
    }

    fn batch(&mut self, _batch: &Batch<'_>) -> Result<(), Error> {
        Ok(())
    }
}
