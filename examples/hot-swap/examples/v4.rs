//! The fourth: it fails at nothing, and is wrong. Flights that were early count as late.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct V4;

#[task]
impl V4 {
    fn message(&mut self, flight: &Message<'_>, cx: &Context) -> Result<(), Error> {
        hot_swap::count(flight, cx, |origin, delay| {
            hot_swap::median(origin, delay.abs(), cx)
        })
    }
}
