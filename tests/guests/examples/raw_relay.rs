//! Without the SDK: a message handler from the WIT alone. Counts by key and sends on, headers included.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package test:raw; world raw-relay { include wasm-host:task/imports@0.1.1; export wasm-host:task/message-handler@0.1.1; }",
    world: "test:raw/raw-relay",
    generate_all,
});

use exports::wasm_host::task::message_handler::{Guest, Message};
use wasm_host::task::output;
use wasm_host::task::state::Store;
use wasm_host::task::types::Outgoing;

struct RawRelay;

impl Guest for RawRelay {
    fn process(message: Message) -> Result<(), String> {
        let store = Store::open("counts").map_err(|_| "no store")?;
        let key = message.key.clone().unwrap_or_default();
        let count = store.increment(&key, 1);
        let value = format!(
            "{count} {}",
            String::from_utf8_lossy(message.value.as_deref().unwrap_or_default())
        );
        output::send(
            "out",
            &Outgoing {
                key: message.key,
                value: Some(value.into_bytes()),
                headers: message.headers,
                timestamp: None,
                partition: None,
            },
        );
        Ok(())
    }
}

export!(RawRelay);
