//! The task as it was deployed: the capacity of Atlanta is missing.

use wasm_host_sdk::prelude::*;

fn capacity(origin: &str) -> u32 {
    match origin {
        "ATL" => 0,
        "ORD" | "DFW" => 2_400,
        "LAX" | "PHX" => 1_500,
        _ => 800,
    }
}

#[derive(Default)]
struct First;

#[task]
impl First {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        poison::count(batch, cx, capacity)
    }
}
