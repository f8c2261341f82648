//! Does much in one call, as each message says, and sends the word with how many microseconds it took. Keys are numbers.

use std::fs::File;
use std::time::Instant;

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Greedy {
    files: Vec<File>,
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn delete(store: &Store<Raw, Raw>, from: u64, until: u64) -> Result<(), Error> {
    store.range().from(&key(from)).until(&key(until)).delete()
}

#[task]
impl Greedy {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let text = message.value_str()?;
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| -> u64 {
            let word = words.get(at).copied().unwrap_or_default();
            word.parse().unwrap_or_default()
        };
        let store = cx.store::<Raw, Raw>("counts")?;
        let began = Instant::now();
        let mut found = String::new();
        match words[0] {
            "fill" => store.put_many((number(1)..number(2)).map(|at| (key(at), *b"value")))?,
            "take" => store.delete_many((number(1)..number(2)).map(key))?,
            "first" => {
                if let Some((key, _)) = store.range().first()? {
                    found = format!("{:?} ", key);
                }
            }
            "scans" => {
                for _ in 0..number(1) {
                    drop(store.range().scan()?);
                }
            }
            // So many, each of so many keys, with a key between them.
            "ranges" => {
                let (from, ranges, width) = (number(1), number(2), number(3));
                for at in 0..ranges {
                    let from = from + at * (width + 1);
                    delete(&store, from, from + width)?;
                }
            }
            "undone" => {
                delete(&store, number(1), number(1) + 1)?;
                return Err(Error::new("as it was told"));
            }
            "hold" => {
                let more = (0..number(2)).flat_map(|_| File::open(words[1]));
                self.files.extend(more);
                found = format!("{} ", self.files.len());
            }
            "now" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                found = format!("{} ", now.unwrap_or_default().as_micros());
            }
            _ => {}
        }
        let line = format!("{text}: {found}{}", began.elapsed().as_micros());
        cx.output::<Raw, Raw>("out").send_value(line.as_bytes())
    }
}
