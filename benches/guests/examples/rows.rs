//! The counter in the message world: one message, one read, one write and one send a call.

use wasm_host_sdk::prelude::*;

struct Rows {
    state: Store<Raw, Fixed<24>>,
    out: Output<Raw, Raw>,
}

#[task]
impl Rows {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            state: cx.store("counts")?,
            out: cx.output("out"),
        })
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let key = message.need_key()?;
        let value = message.need_value()?;
        let mut entry = self.state.get(key)?.unwrap_or([0; 24]);
        let sent = wasm_host_bench_guests::count(key, value, &mut entry);
        self.state.put(key, &entry)?;
        self.out.send(key, &sent)
    }
}
