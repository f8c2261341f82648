//! The conformance guest, a batch a call.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

use wasm_host_language_guests::columns::{entries, headers_of, offsets, timestamps};
use wasm_host_language_guests::conformance::{self, Refused};

wit_bindgen::generate!({
    path: "../wit",
    world: "wasm-host-tests:languages/conformance-batch",
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
use exports::wasm_host::task::lifecycle;

struct Conformance;

impl batch_handler::Guest for Conformance {
    fn process(batch: Batch) -> Result<Vec<Rejection>, String> {
        let messages = &batch.messages;
        let offsets: Vec<u64> = offsets(&batch.offsets).collect();
        let timestamps: Vec<i64> = timestamps(&messages.timestamps).collect();
        let keys: Vec<_> = match &messages.keys {
            Some(keys) => entries(keys).collect(),
            None => vec![None; offsets.len()],
        };
        let headers = match &messages.headers {
            Some(headers) => headers_of(headers),
            None => vec![Vec::new(); offsets.len()],
        };
        let mut rejections = Vec::new();
        for (index, value) in entries(&messages.values).enumerate() {
            let seen = conformance::Message {
                input: batch.input,
                partition: batch.partition,
                offset: offsets[index],
                timestamp: timestamps[index],
                key: keys[index],
                value,
                headers: &headers[index],
            };
            match conformance::carry_out(&seen) {
                Ok(()) => {}
                Err(Refused::Call(reason)) => return Err(reason),
                Err(Refused::Message { reason, detail }) => rejections.push(Rejection {
                    index: index as u32,
                    reason,
                    detail,
                }),
            }
        }
        Ok(rejections)
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
