//! Passes on what is not empty, one message at a time. It exports `message-handler` alone, and imports no state.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Relay;

#[task]
impl Relay {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let value = message.need_value()?;
        if value.is_empty() {
            reject!("the value is empty");
        }
        cx.output::<Raw, Raw>("out").send_value(value)
    }
}
