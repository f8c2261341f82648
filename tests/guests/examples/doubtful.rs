//! Counts, or does not: `kind` in the configuration says whether it is right, wrong for one key, wrong in
//! large batches, slow, or moody. One that is cached keeps the
//! counts in its memory as well.

use std::collections::HashMap;
use std::fs;

use wasm_host_sdk::prelude::*;

#[derive(Default)]
struct Doubtful {
    cached: HashMap<Vec<u8>, u64>,
}

#[task]
impl Doubtful {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let kind = cx.config("kind")?.unwrap_or_default();
        let (kind, is_cached) = match kind.strip_prefix("cached ") {
            Some(kind) => (kind.to_owned(), true),
            None => (kind, false),
        };
        let counts = cx.store::<Raw, Str>("counts")?;
        assert!(
            kind != "wrong in batches" || batch.len() < 20,
            "too many at once"
        );
        for message in batch.iter() {
            if let Some(turns) = kind.strip_prefix("slow ") {
                let turns: u64 = turns.parse().unwrap_or(0);
                (0..turns).for_each(|turn| _ = std::hint::black_box(turn));
            }
            let key = message.key().unwrap_or(b"none");
            let before = match self.cached.get(key) {
                Some(cached) if is_cached => *cached,
                _ => counts
                    .get(key)?
                    .map_or(0, |count| count.parse().unwrap_or(0)),
            };
            if let Some(remainder) = kind.strip_prefix("rejects ") {
                let number: u64 = message.value_str()?[1..].parse().unwrap_or(0);
                if (number % 2).to_string() == remainder {
                    cx.reject(&message, Error::new("it is not liked"))?;
                }
                continue;
            }
            let wrong = kind.strip_prefix("wrong for ").map(str::as_bytes) == Some(key);
            let count: u64 = before + 1 + u64::from(wrong);
            counts.put(key, &count.to_string())?;
            self.cached.insert(key.to_owned(), count);
            let value = message.value_str()?;
            let mood = match kind.as_str() {
                "moody" => fs::read_to_string("/mood/now").unwrap_or_default(),
                _ => String::new(),
            };
            cx.output::<Raw, Raw>("out")
                .send(key, format!("{value} {count}{mood}").as_bytes())?;
        }
        Ok(())
    }
}
