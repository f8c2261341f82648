//! Breaks the rules of the contract in ways that the SDK does not allow.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package test:raw; world hostile { include wasm-host:task/imports@0.1.1; export wasm-host:task/message-handler@0.1.1; }",
    world: "test:raw/hostile",
    generate_all,
});

use std::cell::RefCell;

use exports::wasm_host::task::message_handler::{Guest, Message};
use wasm_host::task::state::{BytesColumn, Cursor, Range, ScanOptions, Store};
use wasm_host::task::types::{HeadersColumn, Messages};
use wasm_host::task::{metrics, output};

struct Hostile;

thread_local! {
    static KEPT: RefCell<Vec<Cursor>> = const { RefCell::new(Vec::new()) };
    static STORES: RefCell<Vec<Store>> = const { RefCell::new(Vec::new()) };
}

fn scan(store: &Store) -> Cursor {
    let range = Range {
        start: None,
        end: None,
    };
    store.scan(
        &range,
        ScanOptions {
            reverse: false,
            keys_only: false,
        },
    )
}

fn packed(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().copied().flat_map(u32::to_le_bytes).collect()
}

/// One message to `out` with these headers.
fn send_with(headers: HeadersColumn) {
    let messages = Messages {
        keys: None,
        values: column(&[1], b"a", &[]),
        timestamps: vec![0; 8],
        headers: Some(headers),
    };
    output::send_many("out", &messages, None);
}

fn headers(ends: &[u32], names: BytesColumn, values: BytesColumn) -> HeadersColumn {
    HeadersColumn {
        ends: packed(ends),
        names,
        values,
    }
}

fn column(ends: &[u32], data: &[u8], absent: &[u32]) -> BytesColumn {
    BytesColumn {
        ends: packed(ends),
        data: data.to_vec(),
        absent: packed(absent),
    }
}

impl Guest for Hostile {
    fn process(message: Message) -> Result<(), String> {
        let store = Store::open("counts").map_err(|_| "no store")?;
        let text = String::from_utf8(message.value.unwrap_or_default()).unwrap_or_default();
        match text.as_str() {
            "keep-cursor" => KEPT.with_borrow_mut(|kept| kept.push(scan(&store))),
            "use-cursor" => {
                // A new one first, so that the old handle could be mistaken for it.
                let _new = scan(&store);
                KEPT.with_borrow(|kept| kept[0].next(1, 1));
            }
            "many-cursors" => {
                for _ in 0..17 {
                    KEPT.with_borrow_mut(|kept| kept.push(scan(&store)));
                }
            }
            "many-stores" => {
                for _ in 0..1001 {
                    if let Ok(store) = Store::open("counts") {
                        STORES.with_borrow_mut(|stores| stores.push(store));
                    }
                }
            }
            "decreasing" => {
                store.get_many(&column(&[2, 1], b"ab", &[]));
            }
            "too-long" => {
                store.get_many(&column(&[9], b"ab", &[]));
            }
            "cut-end" => {
                let mut keys = column(&[1, 2], b"ab", &[]);
                keys.ends.pop();
                store.get_many(&keys);
            }
            "cut-absent" => {
                let mut keys = column(&[1], b"a", &[]);
                keys.absent.push(0);
                store.get_many(&keys);
            }
            "cut-time" | "cut-partition" => {
                let messages = Messages {
                    keys: None,
                    values: column(&[1], b"a", &[]),
                    timestamps: vec![0; if text == "cut-time" { 7 } else { 8 }],
                    headers: None,
                };
                output::send_many("out", &messages, Some(&[0, 0]));
            }
            "one-header" => {
                let one = || column(&[1], b"n", &[]);
                send_with(headers(&[1], one(), one()));
            }
            "two-metrics" => {
                metrics::counter_add("one", 1);
                metrics::counter_add("two", 1);
            }
            "headers-of-two" => {
                let one = || column(&[1], b"n", &[]);
                send_with(headers(&[1, 1], one(), one()));
            }
            "headers-beyond" => {
                let one = || column(&[1], b"n", &[]);
                send_with(headers(&[2], one(), one()));
            }
            "headers-uneven" => {
                let two = column(&[1, 2], b"nn", &[]);
                send_with(headers(&[1], column(&[1], b"n", &[]), two));
            }
            "header-without-name" => {
                let none = column(&[0], b"", &[0]);
                send_with(headers(&[1], none, column(&[1], b"v", &[])));
            }
            "header-not-text" => {
                let name = column(&[1], b"\xff", &[]);
                send_with(headers(&[1], name, column(&[1], b"v", &[])));
            }
            "many-keys" => {
                store.get_many(&column(&vec![0; 2_097_153], b"", &[]));
            }
            "slow-keys" => loop {
                store.get_many(&column(&vec![0; 2_000_000], b"", &[]));
            },
            "long-line" => {
                let line = "x".repeat(70_000_000);
                wasi::logging::logging::log(wasi::logging::logging::Level::Info, "", &line);
            }
            "absent-key" => {
                store.get_many(&column(&[0], b"", &[0]));
            }
            "uneven" => {
                store.put_many(&column(&[1, 2], b"ab", &[]), &column(&[1], b"a", &[]), None)
            }
            "zero-entries" => {
                scan(&store).next(0, 1);
            }
            "bad-counter" => {
                store.put(b"c", b"123", None);
                store.increment(b"c", 1);
            }
            "overflow" => {
                store.increment(b"o", i64::MAX);
                store.increment(b"o", 1);
            }
            _ => {}
        }
        Ok(())
    }
}

export!(Hostile);
