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
        wasm_host_bench_guests::count_batch(&self.state, &self.out, batch)
    }
}
