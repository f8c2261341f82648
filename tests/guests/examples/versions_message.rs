//! As `versions`, one message at a time.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::say_version;

#[derive(Default)]
struct VersionsMessage;

#[task]
impl VersionsMessage {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        say_version(message.need_value()?, message.key(), cx)
    }
}
