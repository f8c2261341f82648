//! A batch handler that rejects what says `reject`, and fails as a whole where one message says `err`.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Picky;

#[task]
impl Picky {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let out = cx.output::<Raw, Raw>("out");
        for message in batch.iter() {
            let value = message.need_value()?;
            match value {
                b"err" => {
                    out.send_value(b"must not be seen")?;
                    return Err(Error::new("one of them says err"));
                }
                b"reject" => cx.reject(&message, Error::new("it says reject"))?,
                value => out.send_value(value)?,
            }
        }
        Ok(())
    }
}
