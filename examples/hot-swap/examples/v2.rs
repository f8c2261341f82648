//! The second: with the median of the last flights, for which it keeps them in a store that the first did not have.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct V2;

#[task]
impl V2 {
    fn message(&mut self, flight: &Message<'_>, cx: &Context) -> Result<(), Error> {
        hot_swap::count(flight, cx, |origin, delay| {
            hot_swap::median(origin, delay, cx)
        })
    }
}
