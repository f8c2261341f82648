//! The task with its table mended.

use wasm_host_sdk::prelude::*;

fn capacity(origin: &str) -> u32 {
    match origin {
        "ATL" => 2600,
        "ORD" | "DFW" => 2_400,
        "LAX" | "PHX" => 1_500,
        _ => 800,
    }
}

#[derive(Default)]
struct Mended;

#[task]
impl Mended {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        poison::count(batch, cx, capacity)
    }
}
