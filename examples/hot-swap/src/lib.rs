//! How late the flights of each airport are. A message is a flight: its airport, and the minutes of its delay.
//!
//! What all versions of the task share is here; what is new in each is in its own file.

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

/// What is kept of an airport, and sent after each of its flights.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Airport {
    /// Flights so far.
    pub flights: u32,
    /// The minutes of all delays.
    pub minutes: i64,
    /// Half of the last flights were not later than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<i32>,
}

/// How many of the last flights the median is of.
pub const RECENT: usize = 51;

/// The minutes that a message says.
pub fn delay(flight: &Message<'_>) -> Result<i32, Error> {
    let text = flight.value_str()?;
    let number = text.parse();
    number.map_err(|_| Error::new(format!("{text:?} is no number of minutes")))
}

/// Adds a flight to its airport, with the median of the last ones if `recent` has them, and sends the airport.
pub fn count(
    flight: &Message<'_>,
    cx: &Context,
    median: impl FnOnce(&str, i32) -> Result<Option<i32>, Error>,
) -> Result<(), Error> {
    let (origin, delay) = (flight.key_str()?, delay(flight)?);
    let airports = cx.store::<Str, Json<Airport>>("airports")?;
    let mut airport = airports.get(origin)?.unwrap_or_default();
    airport.flights += 1;
    airport.minutes += i64::from(delay);
    airport.median = median(origin, delay)?;
    airports.put(origin, &airport)?;
    cx.output::<Str, Json<Airport>>("delays")
        .send(origin, &airport)
}

/// The median of the last delays of an airport, of which this is the newest.
pub fn median(origin: &str, delay: i32, cx: &Context) -> Result<Option<i32>, Error> {
    let store = cx.store::<Str, Json<Vec<i32>>>("recent")?;
    let mut recent = store.get(origin)?.unwrap_or_default();
    recent.push(delay);
    let more = recent.len().saturating_sub(RECENT);
    recent.drain(..more);
    store.put(origin, &recent)?;
    recent.sort_unstable();
    Ok(recent.get(recent.len() / 2).copied())
}
