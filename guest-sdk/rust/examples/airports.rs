//! Delays by airport: JSON in, typed state, JSON out, configuration, and a summary at the end of the input. It exports
//! `batch-handler`, `lifecycle` and `end-of-input`.

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

#[derive(Deserialize)]
struct Flight<'a> {
    origin: &'a str,
    delay_minutes: i64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Airport {
    flights: u64,
    delayed_minutes: i64,
}

struct Delays {
    airports: Store<Str, Postcard<Airport>>,
    delays: Output<Str, Json<Airport>>,
    tolerated_minutes: i64,
}

#[task]
impl Delays {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            airports: cx.store("by-origin")?,
            delays: cx.output("delays"),
            tolerated_minutes: cx.config_as("tolerated-minutes")?.unwrap_or(15),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        self.airports.update_with(
            batch,
            |msg| {
                msg.json::<Flight<'_>>()
                    .map(|flight| (flight.origin, flight))
            },
            |_, flight, airport| {
                if flight.delay_minutes > 24 * 60 {
                    reject!("a delay of {} minutes", flight.delay_minutes);
                }
                let airport = airport.get_or_insert_default();
                airport.flights += 1;
                if flight.delay_minutes > self.tolerated_minutes {
                    airport.delayed_minutes += flight.delay_minutes;
                    self.delays.send(flight.origin, airport)?;
                }
                Ok(())
            },
        )
    }

    fn on_end(&mut self, cx: &Context) -> Result<(), Error> {
        cx.gauge("airports", self.airports.range().keys()?.tally() as f64);
        Ok(())
    }

    fn close(&mut self) {
        info!("{} is closed", std::any::type_name::<Self>());
    }
}
