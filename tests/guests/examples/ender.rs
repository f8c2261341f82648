//! Counts, and at the end of the input sends the sum in as many calls as the sum has digits.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Ender;

#[task]
impl Ender {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let store = cx.store::<Raw, I64>("counts")?;
        store.increment(b"messages", batch.len() as i64).map(|_| ())
    }

    /// Fails as long as the file in `end-needs` and with the number of the partition is not there.
    fn on_end(&mut self, cx: &Context) -> Result<Progress, Error> {
        if let Some(path) = cx.config_as::<String>("end-needs")?
            && !std::path::Path::new(&format!("{path}{}", cx.partition())).exists()
        {
            return Err(Error::new("a file is not there"));
        }
        let store = cx.store::<Raw, I64>("counts")?;
        let sum = store.get(b"messages")?.unwrap_or_default().to_string();
        let said = store.increment(b"said", 1)? as usize;
        let digit = sum.as_bytes().get(said - 1).copied().unwrap_or(b'?');
        cx.output::<Raw, Raw>("out").send_value(&[digit])?;
        Ok(if said < sum.len() {
            Progress::Again
        } else {
            Progress::Done
        })
    }
}
