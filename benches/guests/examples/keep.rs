//! Keeps the last value of each key, and sends on what it is given.

use wasm_host_sdk::prelude::*;

struct Keep {
    state: Store<Raw, Raw>,
    out: Output<Raw, Raw>,
}

#[task]
impl Keep {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            state: cx.store("counts")?,
            out: cx.output("out"),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        batch.iter().try_for_each(|message| {
            let (key, value) = (message.need_key()?, message.need_value()?);
            self.state.put(key, value)?;
            self.out.send(key, value)
        })
    }
}
