//! How busy each airport is: its flights so far, as a share of what it can handle in a day.
//!
//! The capacities are in a table that was typed in by hand. In the first version of the task one of them is zero.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

/// Flights that an airport can handle in a day.
pub type Capacity = fn(origin: &str) -> u32;

/// A row of the CSV file, which arrives as a JSON object of strings.
#[derive(Deserialize)]
struct Flight<'a> {
    #[serde(borrow)]
    delay: Cow<'a, str>,
}

/// What is kept and sent of an airport.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Airport {
    flights: u32,
    percent: u32,
}

/// Counts the flights of a batch.
pub fn count(batch: &Batch<'_>, cx: &Context, capacity: Capacity) -> Result<(), Error> {
    let airports = cx.store::<Str, Json<Airport>>("airports")?;
    let busy = cx.output::<Str, Json<Airport>>("busy");
    airports.update(batch, Message::key_str, |flight, airport| {
        let delay = flight.json::<Flight<'_>>()?.delay;
        if delay.parse::<i32>().is_err() {
            return Err(Error::new(format!(
                "delay {delay:?} is no number of minutes"
            )));
        }
        let origin = flight.key_str()?;
        let airport = airport.get_or_insert_default();
        airport.flights += 1;
        airport.percent = airport.flights * 100 / capacity(origin);
        busy.send(origin, airport)
    })
}
