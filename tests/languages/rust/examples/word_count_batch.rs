//! The word count, a batch of lines a call: one read, one write and one send, however many words there are.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

use std::collections::BTreeMap;

use wasm_host_language_guests::bindings::wasm_host::task::output;
use wasm_host_language_guests::bindings::wasm_host::task::types::Messages;
use wasm_host_language_guests::columns::{column, entries};
use wasm_host_language_guests::words::{counts, json, parse, send_top, words};

wit_bindgen::generate!({
    path: "../wit",
    world: "wasm-host-tests:languages/word-count-batch",
    with: {
        "wasm-host:task/types@0.1.1": wasm_host_language_guests::bindings::wasm_host::task::types,
        "wasm-host:task/state@0.1.1": wasm_host_language_guests::bindings::wasm_host::task::state,
        "wasm-host:task/output@0.1.1": wasm_host_language_guests::bindings::wasm_host::task::output,
        "wasm-host:task/context@0.1.1": wasm_host_language_guests::bindings::wasm_host::task::context,
        "wasm-host:task/metrics@0.1.1": wasm_host_language_guests::bindings::wasm_host::task::metrics,
        "wasi:config/store@0.2.0-rc.1": wasm_host_language_guests::bindings::wasi::config::store,
        "wasi:logging/logging@0.1.0-draft": wasm_host_language_guests::bindings::wasi::logging::logging,
    },
});

use exports::wasm_host::task::batch_handler::{self, Batch, Rejection};
use exports::wasm_host::task::end_of_input::{self, Progress};

struct WordCount;

impl batch_handler::Guest for WordCount {
    fn process(batch: Batch) -> Result<Vec<Rejection>, String> {
        let words: Vec<String> = entries(&batch.messages.values)
            .flat_map(|line| words(line.unwrap_or_default()))
            .collect();
        let mut seen: BTreeMap<&str, u64> = words.iter().map(|word| (word.as_str(), 0)).collect();
        let keys = column(seen.keys().map(Some));
        let store = counts();
        let stored = store.get_many(&keys);
        for (count, stored) in seen.values_mut().zip(entries(&stored)) {
            *count = parse(stored);
        }
        let mut values = Vec::with_capacity(words.len());
        for word in &words {
            let count = seen.entry(word).or_default();
            *count += 1;
            values.push(Some(json(word, *count)));
        }
        let new = column(seen.values().map(|count| Some(count.to_string())));
        store.put_many(&keys, &new, None);
        let messages = Messages {
            keys: Some(column(words.iter().map(Some))),
            values: column(values),
            timestamps: Vec::new(),
            headers: None,
        };
        output::send_many("counts", &messages, None);
        Ok(Vec::new())
    }
}

impl end_of_input::Guest for WordCount {
    fn on_end() -> Result<Progress, String> {
        send_top();
        Ok(Progress::Done)
    }
}

export!(WordCount);
