//! The word count: what a word is, and what is said of one.

use std::cmp::Reverse;

use crate::bindings::wasm_host::task::output;
use crate::bindings::wasm_host::task::state::{Range, ScanOptions, Store};
use crate::columns::entries;

/// How many words are sent at the end.
const TOP: usize = 20;

/// The words of a line, in lower case: runs of letters and apostrophes, without the apostrophes at their ends.
pub fn words(line: &[u8]) -> impl Iterator<Item = String> {
    line.split(|byte| !byte.is_ascii_alphabetic() && *byte != b'\'')
        .map(|word| {
            String::from_utf8_lossy(word)
                .trim_matches('\'')
                .to_ascii_lowercase()
        })
        .filter(|word| !word.is_empty())
}

/// The store of the counts.
pub fn counts() -> Store {
    Store::open("counts").expect("the job declares a store `counts`")
}

/// A count as it is stored; a word that was never seen has none.
pub fn parse(stored: Option<&[u8]>) -> u64 {
    stored.map_or(0, |stored| {
        std::str::from_utf8(stored)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a stored count is a decimal number")
    })
}

/// The value of a message about a word.
pub fn json(word: &str, count: u64) -> Vec<u8> {
    format!(r#"{{"word":"{word}","count":{count}}}"#).into_bytes()
}

/// Sends the value of a message about a word, with the word as its key.
pub fn send(port: &str, word: &str, count: u64) {
    let message = output::Outgoing {
        key: Some(word.as_bytes().to_vec()),
        value: Some(json(word, count)),
        headers: Vec::new(),
        timestamp: None,
        partition: None,
    };
    output::send(port, &message);
}

/// Sends the most frequent words.
pub fn send_top() {
    let all = Range {
        start: None,
        end: None,
    };
    let up = ScanOptions {
        reverse: false,
        keys_only: false,
    };
    let cursor = counts().scan(&all, up);
    let mut found = Vec::new();
    loop {
        let next = cursor.next(1_000, 1 << 20);
        if next.keys.ends.is_empty() {
            break;
        }
        found.extend(
            entries(&next.keys)
                .zip(entries(&next.values))
                .map(|(word, count)| {
                    let word = String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
                    (word, parse(count))
                }),
        );
    }
    // The sort is stable, and a scan goes by the alphabet: so do words that are equally frequent.
    found.sort_by_key(|(_, count)| Reverse(*count));
    for (word, count) in found.iter().take(TOP) {
        send("top", word, *count);
    }
}
