//! Sends on what it is given.

use wasm_host_sdk::prelude::*;

struct Relay {
    out: Output<Raw, Raw>,
}

#[task]
impl Relay {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            out: cx.output("out"),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        batch.iter().try_for_each(|message| {
            let value = message.need_value()?;
            match message.key() {
                Some(key) => self.out.send(key, value),
                None => self.out.send_value(value),
            }
        })
    }
}
