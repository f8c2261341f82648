//! The first version: flights and minutes.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct V1;

#[task]
impl V1 {
    fn message(&mut self, flight: &Message<'_>, cx: &Context) -> Result<(), Error> {
        hot_swap::count(flight, cx, |_, _| Ok(None))
    }
}
