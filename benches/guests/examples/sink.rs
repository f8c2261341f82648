//! Does nothing with what it is given.

use wasm_host_sdk::prelude::*;

struct Sink;

#[task]
impl Sink {
    fn open(_: &Context) -> Result<Self, Error> {
        Ok(Self)
    }

    fn batch(&mut self, _: &Batch<'_>) -> Result<(), Error> {
        Ok(())
    }
}
