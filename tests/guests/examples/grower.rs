//! Takes memory where nothing processes messages: `bytes-in-open` of them in `open`, and a megabyte in each of 20 calls of `on-end`, which
//! sends `megabytes-at-end` as well.

use wasm_host_sdk::prelude::*;

struct Grower {
    taken: Vec<Vec<u8>>,
}

#[task]
impl Grower {
    fn open(cx: &Context) -> Result<Self, Error> {
        let bytes = cx.config_as::<usize>("bytes-in-open")?.unwrap_or_default();
        Ok(Self {
            taken: vec![vec![1; bytes]],
        })
    }

    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        for message in batch.iter() {
            cx.output::<Raw, Raw>("out")
                .send_value(message.need_value()?)?;
        }
        Ok(())
    }

    fn on_end(&mut self, cx: &Context) -> Result<Progress, Error> {
        self.taken.push(vec![1; 1_000_000]);
        let large = vec![1; 1 << 20];
        for _ in 0..cx
            .config_as::<usize>("megabytes-at-end")?
            .unwrap_or_default()
        {
            cx.output::<Raw, Raw>("out").send_value(&large)?;
        }
        let calls = cx.store::<Raw, I64>("counts")?.increment(b"calls", 1)?;
        cx.output::<Raw, Raw>("out")
            .send_value(calls.to_string().as_bytes())?;
        Ok(if calls < 20 {
            Progress::Again
        } else {
            Progress::Done
        })
    }
}
