// What the guests of both drafts of `wasi:keyvalue` have in common, included by each after its bindings.

use exports::wasm_host::task::message_handler::{Guest, Message};
use wasi::keyvalue::batch;
use wasi::keyvalue::store::{self, Bucket, Error};
use wasm_host::task::output;
use wasm_host::task::types::Outgoing;

struct KeyValue;

impl Guest for KeyValue {
    fn process(message: Message) -> Result<(), String> {
        let text = String::from_utf8(message.value.unwrap_or_default()).map_err(|_| "no text")?;
        let words: Vec<&str> = text.split(' ').collect();
        let answer = match words.as_slice() {
            ["open", name] => answered(store::open(name).map(|_| "opened".to_owned())),
            ["open"] => answered(store::open("").map(|_| "opened".to_owned())),
            ["config", name] => wasi::config::store::get(name)
                .map_err(|_| "config")?
                .unwrap_or_default(),
            ["log", line] => {
                wasi::logging::logging::log(wasi::logging::logging::Level::Info, "kv", line);
                "logged".to_owned()
            }
            words => answered(store::open("counts").and_then(|bucket| act(&bucket, words))),
        };
        let line = format!("{text}: {answer}");
        let message = Outgoing {
            key: None,
            value: Some(line.into_bytes()),
            headers: Vec::new(),
            timestamp: None,
            partition: None,
        };
        output::send("out", &message);
        Ok(())
    }
}

fn answered(result: Result<String, Error>) -> String {
    match result {
        Ok(answer) => answer,
        Err(Error::NoSuchStore) => "no such store".to_owned(),
        Err(Error::AccessDenied) => "access denied".to_owned(),
        Err(Error::Other(why)) => format!("error: {why}"),
    }
}

fn act(bucket: &Bucket, words: &[&str]) -> Result<String, Error> {
    let done = |()| "done".to_owned();
    match words {
        ["get", key] => Ok(shown(bucket.get(key)?)),
        ["set", key, value] => bucket.set(key, value.as_bytes()).map(done),
        ["set-long", key, bytes] => {
            let bytes = bytes.parse().unwrap_or_default();
            bucket.set(key, &vec![b'v'; bytes]).map(done)
        }
        ["get-long", bytes] => {
            let key = "k".repeat(bytes.parse().unwrap_or_default());
            Ok(shown(bucket.get(&key)?))
        }
        ["delete", key] => bucket.delete(key).map(done),
        ["exists", key] => Ok(bucket.exists(key)?.to_string()),
        ["set-many", pairs @ ..] => {
            let pair = |pair: &&str| {
                let (key, value) = pair.split_once('=').unwrap_or_default();
                (key.to_owned(), value.as_bytes().to_vec())
            };
            let pairs: Vec<(String, Vec<u8>)> = pairs.iter().map(pair).collect();
            batch::set_many(bucket, &pairs).map(done)
        }
        ["delete-many", keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            batch::delete_many(bucket, &keys).map(done)
        }
        // So many keys, all of which are listed, page by page; `list` counts the pages and compares.
        ["fill", count] => {
            for number in 0..count.parse::<u32>().unwrap_or_default() {
                bucket.set(&format!("key-{number:06}"), b"")?;
            }
            Ok("done".to_owned())
        }
        ["list"] => {
            let mut keys: Vec<String> = Vec::new();
            let (mut pages, mut cursor) = (0, None);
            loop {
                let page = bucket.list_keys(cursor.take().as_ref().map(given))?;
                keys.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let sorted = keys.is_sorted();
            let first = keys.first().cloned().unwrap_or_default();
            let last = keys.last().cloned().unwrap_or_default();
            let many = pages > 2;
            Ok(format!("{} keys {first} {last} sorted={sorted} many-pages={many}", keys.len()))
        }
        words => more(bucket, words),
    }
}

fn shown(value: Option<Vec<u8>>) -> String {
    value.map_or("absent".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}
