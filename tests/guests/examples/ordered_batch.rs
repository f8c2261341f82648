//! As `ordered`, with all messages of a batch in a call.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct OrderedBatch;

#[task]
impl OrderedBatch {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let out = cx.output::<Raw, Raw>("out");
        for message in batch.iter() {
            let value = message.need_value()?;
            let text = std::str::from_utf8(value).unwrap_or_default();
            if let Some((word, path)) = text.split_once("-without ")
                && !std::path::Path::new(path).exists()
            {
                match word {
                    "panic" => panic!("a file is not there"),
                    _ => cx.reject(&message, Error::new("a file is not there"))?,
                }
                continue;
            }
            match message.key() {
                Some(key) => out.send(key, value)?,
                None => out.send_value(value)?,
            }
        }
        Ok(())
    }
}
