//! Numbers the messages of a batch, and keeps the number that it has stored at hand, as a guest may. It rejects what says `reject`.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Cacher {
    number: Option<i64>,
}

#[task]
impl Cacher {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let store = cx.store::<Raw, Raw>("counts")?;
        let out = cx.output::<Raw, Raw>("out");
        let mut number = match self.number {
            Some(number) => number,
            None => store.get(b"number")?.map_or(0, |stored| {
                String::from_utf8_lossy(&stored).parse().unwrap_or_default()
            }),
        };
        for message in batch.iter() {
            if message.need_value()? == b"reject" {
                cx.reject(&message, Error::new("it says reject"))?;
                continue;
            }
            number += 1;
            out.send_value(number.to_string().as_bytes())?;
        }
        store.put(b"number", number.to_string().as_bytes())?;
        self.number = Some(number);
        Ok(())
    }
}
