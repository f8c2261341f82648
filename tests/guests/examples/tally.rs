//! Keeps the entries of each key, and clears them by a range delete when it is told so: `add N`, `clear`, and `reject`, which is rejected.
//! What it sends says how many entries there were.

use wasm_host_sdk::prelude::*;

struct Tally {
    entries: Store<Raw, I64>,
    out: Output<Raw, Raw>,
}

#[task]
impl Tally {
    fn open(cx: &Context) -> Result<Self, Error> {
        Ok(Self {
            entries: cx.store("entries")?,
            out: cx.output("out"),
        })
    }

    fn message(&mut self, message: &Message<'_>, _: &Context) -> Result<(), Error> {
        let key = message.key_str()?;
        let text = message.value_str()?;
        let prefix = format!("{key}/").into_bytes();
        match text.split_once(' ') {
            Some(("add", number)) => {
                let entry = format!("{key}/{number}");
                self.entries.increment(entry.as_bytes(), 1)?;
                Ok(())
            }
            _ if text == "clear" => {
                let range = || self.entries.range().prefix(&prefix);
                let count = range().keys()?.count();
                range().delete()?;
                let said = format!("{key} had {count}");
                self.out.send(key.as_bytes(), said.as_bytes())
            }
            _ => Err(Error::new("rejected")),
        }
    }
}
