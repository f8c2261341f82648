//! Changes everything that a guest can change, a little with `keep` and much with any other message; then it ends as the message
//! says: `reject`, `trap`. Without the SDK, which sends nothing for a call that fails.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package test:raw; world meddler { include wasm-host:task/imports@0.1.1; export wasm-host:task/message-handler@0.1.1; }",
    world: "test:raw/meddler",
    generate_all,
});

use exports::wasm_host::task::message_handler::{Guest, Message};
use wasm_host::task::state::{Range, Store};
use wasm_host::task::{context, metrics, output};

struct Meddler;

impl Guest for Meddler {
    fn process(message: Message) -> Result<(), String> {
        let value = message.value.unwrap_or_default();
        let how = String::from_utf8_lossy(&value);
        let keeps = how == "keep";
        for name in ["counts", "more"] {
            let store = Store::open(name).map_err(|_| "no store")?;
            let count = store.increment(b"count", 1);
            store.put(format!("by-{how}-{count}").as_bytes(), b"kept", None);
            if !keeps {
                store.put(b"count", &[7; 8], None);
                store.put(b"by-keep-1", &[b'x'; 100], None);
                store.delete(b"by-keep-1");
                store.delete_range(&Range {
                    start: None,
                    end: None,
                });
                store.put(b"after the range", b"x", None);
            }
        }
        for _ in 0..if keeps { 1 } else { 2 } {
            for (key, partition) in [
                (None, None),
                (Some(b"a key".to_vec()), None),
                (None, Some(2)),
            ] {
                output::send(
                    "out",
                    &output::Outgoing {
                        key,
                        value: Some(value.clone()),
                        headers: Vec::new(),
                        timestamp: None,
                        partition,
                    },
                );
            }
        }
        metrics::counter_add("meddled", 1);
        metrics::histogram_record("meddled-size", 1.0);
        metrics::gauge_set("meddled-level", if keeps { 1.0 } else { 2.0 });
        if !keeps {
            context::request_checkpoint();
            context::request_stop("it must not be heard");
        }
        match &*how {
            "reject" => Err("undo all of it".into()),
            "trap" => panic!("undo all of it"),
            _ => Ok(()),
        }
    }
}

export!(Meddler);
