//! For each airport of origin: how many flights there were, their mean delay and the worst one.
//!
//! A message is a flight, keyed by its origin, so that all flights of an airport come to one task, in their order. Each sends
//! the airport's latest figures, which are in the store as well.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

#[cfg(test)]
mod tests;

/// A row of the CSV file, which arrives as a JSON object of strings. The other columns are not needed.
#[derive(Deserialize)]
struct Flight<'a> {
    #[serde(borrow)]
    delay: Cow<'a, str>,
}

impl Flight<'_> {
    /// Minutes; negative is early.
    fn delay_minutes(&self) -> Result<i32, Error> {
        self.delay
            .parse()
            .map_err(|_| Error::new(format!("delay {:?} is no number of minutes", self.delay)))
    }
}

/// What is kept of an airport: its figures, and the sum of which the mean is made.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Airport {
    flights: u32,
    sum_delay: i64,
    mean_delay: f64,
    worst_delay: i32,
}

/// What is sent of an airport.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Delays {
    origin: String,
    flights: u32,
    mean_delay: f64,
    worst_delay: i32,
}

impl Airport {
    /// Before its first flight. Any delay is worse than none known.
    const NEW: Self = Self {
        flights: 0,
        sum_delay: 0,
        mean_delay: 0.0,
        worst_delay: i32::MIN,
    };

    fn add(&mut self, delay: i32) {
        self.flights += 1;
        self.sum_delay += i64::from(delay);
        self.mean_delay = mean(self.sum_delay, self.flights);
        self.worst_delay = self.worst_delay.max(delay);
    }

    fn delays(&self, origin: &str) -> Delays {
        Delays {
            origin: origin.to_owned(),
            flights: self.flights,
            mean_delay: self.mean_delay,
            worst_delay: self.worst_delay,
        }
    }
}

/// The mean, rounded half away from zero to one decimal.
///
/// The rounding is done in integers, where it is exact. The last step, from tenths to the nearest `f64`, is undone by JSON, which
/// writes the shortest decimal that reads back: one digit after the point, `12.0` included. Zero has no sign.
fn mean(sum: i64, count: u32) -> f64 {
    let (twice, count) = (i128::from(sum) * 20, i128::from(count));
    let tenths = (twice + count * twice.signum()) / (count * 2);
    tenths as f64 / 10.0
}

#[derive(Default)]
struct FlightDelays;

#[task]
impl FlightDelays {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let airports = cx.store::<Str, Json<Airport>>("by-origin")?;
        let delays = cx.output::<Str, Json<Delays>>("delays");
        airports.update(batch, Message::key_str, |flight, airport| {
            let delay = flight.json::<Flight<'_>>()?.delay_minutes()?;
            let origin = flight.key_str()?;
            let airport = airport.get_or_insert(Airport::NEW);
            airport.add(delay);
            delays.send(origin, &airport.delays(origin))
        })
    }
}
