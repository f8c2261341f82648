//! Does what each message says, one at a time.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::follow_script;

#[derive(Default)]
struct Script;

#[task]
impl Script {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        follow_script(message.need_value()?, message.key(), cx)
    }
}
