//! As `script`, with all messages of a batch in a call.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::follow_script;

#[derive(Default)]
struct ScriptBatch;

#[task]
impl ScriptBatch {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        for message in batch.iter() {
            let value = message.need_value()?;
            // What is rejected has changed nothing: with all messages in a call the guest itself sees to that.
            if String::from_utf8_lossy(value).split(' ').nth(1) == Some("reject") {
                cx.reject(&message, Error::new("it says reject"))?;
                continue;
            }
            follow_script(value, message.key(), cx)?;
        }
        Ok(())
    }
}
