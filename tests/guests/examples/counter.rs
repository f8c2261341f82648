//! Counts messages by key (by value where there is none) with the keyed update, and sends each new count.

use wasm_host_sdk::prelude::*;

struct Counter {
    counts: Store<Raw, I64>,
    out: Output<Raw, Raw>,
}

#[task]
impl Counter {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            counts: cx.store("counts")?,
            out: cx.output("out"),
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let out = &self.out;
        self.counts.update(
            batch,
            |message| message.key().map_or_else(|| message.need_value(), Ok),
            |message, count| {
                let count = count.get_or_insert_default();
                *count += 1;
                let key = message.key().or(message.value()).unwrap_or_default();
                let line = format!("{} {count}", String::from_utf8_lossy(key));
                out.send(key, line.as_bytes())
            },
        )
    }
}
