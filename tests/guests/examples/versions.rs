//! Says with each message which component has processed it.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::say_version;

#[derive(Default)]
struct Versions;

#[task]
impl Versions {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        for message in batch.iter() {
            say_version(message.need_value()?, message.key(), cx)?;
        }
        Ok(())
    }
}
