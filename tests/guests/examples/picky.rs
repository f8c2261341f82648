//! A batch handler that rejects what says `reject`, fails as a whole where one message says `err`, and traps where one says `trap`;
//! `slow` takes ten milliseconds, `large` ten megabytes until the end of the call.

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Picky;

#[task]
impl Picky {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let out = cx.output::<Raw, Raw>("out");
        let mut large: Vec<Vec<u8>> = Vec::new();
        for message in batch.iter() {
            let value = message.need_value()?;
            if value.starts_with(b"large") {
                large.push(vec![1; 10_000_000]);
            }
            match value {
                b"err" => {
                    out.send_value(b"must not be seen")?;
                    return Err(Error::new("one of them says err"));
                }
                b"trap" => panic!("one of {} messages says trap", batch.len()),
                b"reject" => cx.reject(&message, Error::new("it says reject"))?,
                value => {
                    if value.starts_with(b"slow") {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    out.send_value(value)?;
                }
            }
        }
        Ok(())
    }
}
