//! The third: it also wants to say where each airport is. Somebody forgot Chicago.

use wasm_host_sdk::prelude::*;

const STATES: [(&str, &str); 4] = [("ATL", "GA"), ("DFW", "TX"), ("LAX", "CA"), ("PHX", "AZ")];
const SMALL: &str = "elsewhere";

/// Where an airport is. Those with few flights are not in the table.
fn state(origin: &str) -> &'static str {
    let is_large = matches!(origin, "ATL" | "DFW" | "LAX" | "ORD" | "PHX");
    let found = STATES.iter().find(|(airport, _)| *airport == origin);
    match found {
        Some((_, state)) => state,
        None if !is_large => SMALL,
        None => panic!("no state is known for {origin}"),
    }
}

#[derive(Default)]
struct V3;

#[task]
impl V3 {
    fn message(&mut self, flight: &Message<'_>, cx: &Context) -> Result<(), Error> {
        wasm_host_sdk::debug!("a flight from {}", state(flight.key_str()?));
        hot_swap::count(flight, cx, |origin, delay| {
            hot_swap::median(origin, delay, cx)
        })
    }
}
