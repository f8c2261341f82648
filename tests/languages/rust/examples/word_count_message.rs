//! The word count, one line a call.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

use wasm_host_language_guests::words::{counts, parse, send, send_top, words};

wit_bindgen::generate!({
    path: "../wit",
    world: "wasm-host-tests:languages/word-count-message",
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

use exports::wasm_host::task::end_of_input::{self, Progress};
use exports::wasm_host::task::message_handler::{self, Message};

struct WordCount;

impl message_handler::Guest for WordCount {
    fn process(message: Message) -> Result<(), String> {
        let store = counts();
        for word in words(&message.value.unwrap_or_default()) {
            let count = parse(store.get(word.as_bytes()).as_deref()) + 1;
            store.put(word.as_bytes(), count.to_string().as_bytes(), None);
            send("counts", &word, count);
        }
        Ok(())
    }
}

impl end_of_input::Guest for WordCount {
    fn on_end() -> Result<Progress, String> {
        send_top();
        Ok(Progress::Done)
    }
}

export!(WordCount);
