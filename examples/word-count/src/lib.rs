//! How often each word of a text occurs.
//!
//! A message is a line. Each word of it sends how often it has been seen by now; at the end of the text, the most frequent
//! words are sent.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasm_host_sdk::prelude::*;

#[cfg(test)]
mod tests;

/// How many words are sent at the end.
const TOP: usize = 20;

/// A word, and how often it has been seen.
#[derive(Serialize, Deserialize)]
struct Count {
    word: String,
    count: u64,
}

#[derive(Default)]
struct WordCount;

#[task]
impl WordCount {
    fn batch(&mut self, lines: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let store = cx.store::<Str, Json<u64>>("counts")?;
        let output = cx.output::<Str, Json<Count>>("counts");

        let words: Vec<String> = lines
            .iter()
            .filter_map(|line| line.value())
            .flat_map(words)
            .collect();

        // However many words there are: one read, and one write.
        let mut counts: BTreeMap<&str, u64> = words.iter().map(|word| (word.as_str(), 0)).collect();
        let stored = store.get_many(counts.keys().copied())?;
        for (count, stored) in counts.values_mut().zip(stored) {
            *count = stored.unwrap_or(0);
        }
        for word in &words {
            let count = counts.entry(word).or_default();
            *count += 1;
            let count = Count {
                word: word.clone(),
                count: *count,
            };
            output.send(word, &count)?;
        }
        store.put_many(counts)
    }

    fn on_end(&mut self, cx: &Context) -> Result<(), Error> {
        let store = cx.store::<Str, Json<u64>>("counts")?;
        let top = cx.output::<Str, Json<Count>>("top");

        let mut counts = store.range().scan()?.collect::<Result<Vec<_>, _>>()?;
        // The sort is stable, and a scan goes by the alphabet: so do words that are equally frequent.
        counts.sort_by_key(|(_, count)| Reverse(*count));
        for (word, count) in counts.into_iter().take(TOP) {
            let count = Count { word, count };
            top.send(&count.word, &count)?;
        }
        Ok(())
    }
}

/// The words of a line, in lower case. A word is a run of the letters A to Z and of apostrophes, without the apostrophes at
/// its ends, which are quotation marks.
fn words(line: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(line)
        .split(|c: char| !c.is_ascii_alphabetic() && c != '\'')
        .map(|word| word.trim_matches('\'').to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}
