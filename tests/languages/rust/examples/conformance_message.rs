//! The conformance guest, one message a call.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

use wasm_host_language_guests::conformance::{self, Refused};

wit_bindgen::generate!({
    path: "../wit",
    world: "wasm-host-tests:languages/conformance-message",
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
use exports::wasm_host::task::lifecycle;
use exports::wasm_host::task::message_handler::{self, Message};

struct Conformance;

impl message_handler::Guest for Conformance {
    fn process(message: Message) -> Result<(), String> {
        let seen = conformance::Message {
            input: message.input,
            partition: message.partition,
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &message.headers,
        };
        conformance::carry_out(&seen).map_err(|refused| match refused {
            Refused::Call(reason) | Refused::Message { reason, .. } => reason,
        })
    }
}

impl lifecycle::Guest for Conformance {
    fn open() -> Result<(), String> {
        conformance::open()
    }

    fn close() {
        conformance::close();
    }
}

impl end_of_input::Guest for Conformance {
    fn on_end() -> Result<Progress, String> {
        Ok(if conformance::end()? {
            Progress::Again
        } else {
            Progress::Done
        })
    }
}

export!(Conformance);
