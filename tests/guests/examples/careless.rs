//! Rejects messages that it must not reject, in ways that the SDK does not allow: the first message says which.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package test:raw; world careless { include wasm-host:task/imports@0.1.1; export wasm-host:task/batch-handler@0.1.1; }",
    world: "test:raw/careless",
    generate_all,
});

use exports::wasm_host::task::batch_handler::{Batch, Guest, Rejection};

struct Careless;

impl Guest for Careless {
    fn process(batch: Batch) -> Result<Vec<Rejection>, String> {
        let messages = u32::try_from(batch.messages.values.ends.len() / 4).unwrap_or_default();
        let rejection = |index| Rejection {
            index,
            reason: "x".repeat(5_000),
            detail: Some(vec![b'y'; 20_000]),
        };
        Ok(match batch.messages.values.data.first() {
            Some(b'b') => vec![rejection(messages)],
            Some(b't') => vec![rejection(0), rejection(0)],
            _ => vec![rejection(0)],
        })
    }
}

export!(Careless);
