//! A component on `wasi:keyvalue@0.2.0-draft2`, `wasi:config` and `wasi:logging`: does what each message says, and sends the answer.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: ["../wit/keyvalue-draft2", "../../wit"],
    inline: "package test:keyvalue; world draft2 {
        import wasi:keyvalue/store@0.2.0-draft2;
        import wasi:keyvalue/atomics@0.2.0-draft2;
        import wasi:keyvalue/batch@0.2.0-draft2;
        import wasi:config/store@0.2.0-rc.1;
        import wasi:logging/logging@0.1.0-draft;
        import wasm-host:task/output@0.1.1;
        export wasm-host:task/message-handler@0.1.1;
    }",
    world: "test:keyvalue/draft2",
    generate_all,
});

include!("keyvalue/common.rs");

use wasi::keyvalue::atomics::{self, Cas, CasError};

export!(KeyValue);

fn given(cursor: &String) -> &str {
    cursor
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
                .map(|(key, value)| format!("{key}={}", shown(value)));
            Ok(found.collect::<Vec<_>>().join(" "))
        }
        // Nobody comes between.
        ["swap", key, value] => {
            let cas = Cas::new(bucket, key)?;
            let before = shown(cas.current()?);
            match atomics::swap(cas, value.as_bytes()) {
                Ok(()) => Ok(format!("swapped {before}")),
                Err(_) => Ok("failed".to_owned()),
            }
        }
        // Another write comes between; the new handle succeeds.
        ["swap-late", key, between, value] => {
            let cas = Cas::new(bucket, key)?;
            bucket.set(key, between.as_bytes())?;
            match atomics::swap(cas, value.as_bytes()) {
                Ok(()) => Ok("swapped at once".to_owned()),
                Err(CasError::StoreError(error)) => Err(error),
                Err(CasError::CasFailed(again)) => {
                    let before = shown(again.current()?);
                    let swapped = atomics::swap(again, value.as_bytes()).is_ok();
                    Ok(format!("failed, then {before}, then {swapped}"))
                }
            }
        }
        other => Ok(format!("unknown: {other:?}")),
    }
}
