//! A component on `wasi:keyvalue@0.2.0-draft`, `wasi:config` and `wasi:logging`: does what each message says, and sends the answer.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: ["../wit/keyvalue-draft", "../../wit"],
    inline: "package test:keyvalue; world draft {
        import wasi:keyvalue/store@0.2.0-draft;
        import wasi:keyvalue/atomics@0.2.0-draft;
        import wasi:keyvalue/batch@0.2.0-draft;
        import wasi:config/store@0.2.0-rc.1;
        import wasi:logging/logging@0.1.0-draft;
        import wasm-host:task/output@0.1.1;
        export wasm-host:task/message-handler@0.1.1;
    }",
    world: "test:keyvalue/draft",
    generate_all,
});

include!("keyvalue/common.rs");

use wasi::keyvalue::atomics;

export!(KeyValue);

fn given(cursor: &u64) -> u64 {
    *cursor
}

fn more(bucket: &Bucket, words: &[&str]) -> Result<String, Error> {
    match words {
        ["increment", key, by] => {
            let by = by.parse().unwrap_or_default();
            Ok(atomics::increment(bucket, key, by)?.to_string())
        }
        ["get-many", keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let found = batch::get_many(bucket, &keys)?
                .into_iter()
                .map(|entry| match entry {
                    Some((key, value)) => format!("{key}={}", shown(Some(value))),
                    None => "absent".to_owned(),
                });
            Ok(found.collect::<Vec<_>>().join(" "))
        }
        other => Ok(format!("unknown: {other:?}")),
    }
}
