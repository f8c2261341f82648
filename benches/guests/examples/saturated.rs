//! The counter in the batch world, and how long the stream stood: the time between two batches, where it is more than 2 ms, goes to a
//! second output, in microseconds.

use std::time::{Duration, Instant};

use wasm_host_sdk::prelude::*;

const GAP: Duration = Duration::from_millis(2);

struct Saturated {
    state: Store<Raw, Fixed<24>>,
    out: Output<Raw, Raw>,
    gaps: Output<Raw, Str>,
    last: Option<Instant>,
}

#[task]
impl Saturated {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            state: cx.store("counts")?,
            out: cx.output("out"),
            gaps: cx.output("gaps"),
            last: None,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        if let Some(gap) = self.last.map(|last| last.elapsed())
            && gap > GAP
        {
            self.gaps.send_value(&gap.as_micros().to_string())?;
        }
        wasm_host_bench_guests::count_batch(&self.state, &self.out, batch)?;
        self.last = Some(Instant::now());
        Ok(())
    }
}
