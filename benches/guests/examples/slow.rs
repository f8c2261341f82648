//! Takes a millisecond for each message, and sends it on.

use wasm_host_sdk::prelude::*;

struct Slow {
    out: Output<Raw, Raw>,
}

#[task]
impl Slow {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            out: cx.output("out"),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        batch.iter().try_for_each(|message| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.out.send_value(message.need_value()?)
        })
    }
}
