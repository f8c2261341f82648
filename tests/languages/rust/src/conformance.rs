//! The conformance guest: carries out the commands of a message. What they mean is in `conformance/README.md`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;

use crate::bindings::wasi::config::store as config;
use crate::bindings::wasi::logging::logging::{self, Level};
use crate::bindings::wasm_host::task::context::{self, InputKind};
use crate::bindings::wasm_host::task::metrics;
use crate::bindings::wasm_host::task::output::{self, Outgoing};
use crate::bindings::wasm_host::task::state::{
    Cursor, Entries, OpenError, PutOptions, Range, ScanOptions, Store,
};
use crate::bindings::wasm_host::task::types::{Header, Messages};
use crate::columns::{column, entries, headers_column};

/// A message, of whichever handler.
pub struct Message<'a> {
    /// Index of the input.
    pub input: u32,
    /// The partition of the input.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The timestamp, in milliseconds.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header],
}

/// Why a message has no result.
pub enum Refused {
    /// The whole call ends with this error.
    Call(String),
    /// This message is rejected.
    Message {
        /// Why.
        reason: String,
        /// For whoever handles it later.
        detail: Option<Vec<u8>>,
    },
}

/// What a guest keeps between calls, as long as its instance lives.
#[derive(Default)]
struct Kept {
    cursors: RefCell<HashMap<String, Cursor>>,
    opened: Cell<u32>,
    ends: Cell<u32>,
}

thread_local! {
    static KEPT: Kept = Kept::default();
}

/// Carries out the commands of a message, and sends their results.
pub fn carry_out(message: &Message<'_>) -> Result<(), Refused> {
    let value = message.value.unwrap_or_default();
    let script = value
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let script = if script.is_empty() { b"see" } else { script };
    let script = std::str::from_utf8(script).expect("commands are ASCII");
    let mut results = Vec::new();
    for command in script.split(';') {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
        results.push(command_result(&words, message)?);
    }
    send_result(results.join("; "));
    Ok(())
}

fn send_result(text: String) {
    let message = Outgoing {
        key: None,
        value: Some(text.into_bytes()),
        headers: Vec::new(),
        timestamp: None,
        partition: None,
    };
    output::send("results", &message);
}

fn command_result(words: &[&str], message: &Message<'_>) -> Result<String, Refused> {
    let result = match words {
        ["see"] => see(message),
        ["context"] => context_result(),
        ["now"] => {
            let (first, second) = (context::now_ms(), context::now_ms());
            let same = first == second && first > 1_600_000_000_000;
            if same { "now same" } else { "now differs" }.to_owned()
        }
        ["open", name] => match Store::open(if *name == "." { "" } else { name }) {
            Ok(_) => "open ok",
            Err(OpenError::NoSuchStore) => "open no-such-store",
            Err(OpenError::Other(_)) => "open other",
        }
        .to_owned(),
        ["get", name, key] => format!("get {}", show(store(name).get(&bytes(key)).as_deref())),
        ["put", name, key, value] => {
            store(name).put(&bytes(key), &bytes(value), None);
            "put".to_owned()
        }
        ["put-options", name, key, value] => {
            let options = PutOptions { ttl_ms: None };
            store(name).put(&bytes(key), &bytes(value), Some(options));
            "put".to_owned()
        }
        ["delete", name, key] => {
            store(name).delete(&bytes(key));
            "delete".to_owned()
        }
        ["increment", name, key, by] => {
            let sum = store(name).increment(&bytes(key), number(by));
            format!("increment {sum}")
        }
        ["get-many", name, keys @ ..] => {
            let found = store(name).get_many(&column(keys.iter().map(|key| perhaps(key))));
            entries(&found).fold("get-many".to_owned(), |text, value| {
                text + " " + &show(value)
            })
        }
        ["put-many", name, pairs @ ..] => {
            let pairs = pairs.iter().map(|pair| assignment(pair));
            let (keys, values): (Vec<_>, Vec<_>) = pairs.unzip();
            store(name).put_many(
                &column(keys.iter().map(|key| perhaps(key))),
                &column(values.iter().map(|value| perhaps(value))),
                None,
            );
            "put-many".to_owned()
        }
        ["delete-range", name, from, to] => {
            store(name).delete_range(&range(from, to));
            "delete-range".to_owned()
        }
        ["scan", name, from, to, order, what, count, limit] => {
            let cursor = store(name).scan(&range(from, to), scan_options(order, what));
            let mut text = "scan".to_owned();
            loop {
                let next = cursor.next(number(count), number(limit));
                if next.keys.ends.is_empty() {
                    break text;
                }
                text += &entries_text(&next);
            }
        }
        ["cursor", kept, name, from, to, order, what] => {
            let cursor = store(name).scan(&range(from, to), scan_options(order, what));
            KEPT.with(|all| all.cursors.borrow_mut().insert((*kept).to_owned(), cursor));
            "cursor".to_owned()
        }
        ["next", kept, count, limit] => KEPT.with(|all| {
            let cursors = all.cursors.borrow();
            let cursor = cursors.get(*kept).expect("a cursor of that name");
            format!(
                "next{}",
                entries_text(&cursor.next(number(count), number(limit)))
            )
        }),
        ["drop", kept] => {
            KEPT.with(|all| all.cursors.borrow_mut().remove(*kept));
            "drop".to_owned()
        }
        ["send", port, key, value, timestamp, partition, headers @ ..] => {
            let message = Outgoing {
                key: perhaps(key),
                value: perhaps(value),
                headers: headers.iter().map(|text| header(text)).collect(),
                timestamp: optional(timestamp),
                partition: optional(partition),
            };
            output::send(port, &message);
            "send".to_owned()
        }
        ["send-many", port, timestamps, partitions, messages @ ..] => {
            send_many(port, timestamps, partitions, messages);
            "send-many".to_owned()
        }
        ["err", reason] => return Err(Refused::Call(text(reason))),
        ["reject", reason, detail] => {
            return Err(Refused::Message {
                reason: text(reason),
                detail: perhaps(detail),
            });
        }
        ["trap", message] => panic!("{}", text(message)),
        ["log", level, context, message] => {
            logging::log(log_level(level), &text(context), &text(message));
            "log".to_owned()
        }
        ["print", line] => {
            println!("{}", text(line));
            eprintln!("{}", text(line));
            "print".to_owned()
        }
        ["counter", name, by] => {
            metrics::counter_add(name, number(by));
            "counter".to_owned()
        }
        ["gauge", name, value] => {
            metrics::gauge_set(name, number(value));
            "gauge".to_owned()
        }
        ["histogram", name, value] => {
            metrics::histogram_record(name, number(value));
            "histogram".to_owned()
        }
        ["config", name] => {
            let value = config::get(name).expect("reading the config does not fail");
            format!("config {}", value.as_deref().unwrap_or("~"))
        }
        ["config-all"] => {
            let mut all = config::get_all().expect("reading the config does not fail");
            all.sort();
            let all: Vec<String> = all
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("config-all {}", all.join(","))
        }
        ["checkpoint"] => {
            context::request_checkpoint();
            "checkpoint".to_owned()
        }
        ["stop", reason] => {
            context::request_stop(&text(reason));
            "stop".to_owned()
        }
        ["opened"] => format!("opened {}", KEPT.with(|kept| kept.opened.get())),
        other => panic!("no such command: {other:?}"),
    };
    Ok(result)
}

fn see(message: &Message<'_>) -> String {
    let headers: Vec<String> = message
        .headers
        .iter()
        .map(|header| format!("{}={}", header.name, show(header.value.as_deref())))
        .collect();
    format!(
        "see input={} partition={} offset={} timestamp={} key={} value={} headers={}",
        message.input,
        message.partition,
        message.offset,
        message.timestamp,
        show(message.key),
        show(message.value),
        if headers.is_empty() {
            "-".to_owned()
        } else {
            headers.join(",")
        },
    )
}

fn context_result() -> String {
    let inputs: Vec<String> = context::inputs()
        .into_iter()
        .map(|input| {
            let kind = match input.kind {
                InputKind::Partitioned => "partitioned",
                InputKind::Broadcast => "broadcast",
                InputKind::Other(_) => "other",
            };
            format!("{}:{kind}", input.port)
        })
        .collect();
    format!(
        "context job={} stage={} task={} partition={} partitions={} inputs={} version={}",
        context::job(),
        context::stage(),
        context::task(),
        context::partition(),
        context::partitions(),
        inputs.join(","),
        context::component_version().len(),
    )
}

fn send_many(port: &str, timestamps: &str, partitions: &str, messages: &[&str]) {
    let (mut keys, mut values, mut headers) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        let mut parts = message.split(',');
        let (key, value) = assignment(parts.next().unwrap_or_default());
        keys.push(perhaps(key));
        values.push(perhaps(value));
        headers.push(parts.map(header).collect::<Vec<Header>>());
    }
    let has_keys = keys.iter().any(Option::is_some);
    let has_headers = headers.iter().any(|headers| !headers.is_empty());
    let messages = Messages {
        keys: has_keys.then(|| column(keys)),
        values: column(values),
        timestamps: packed(timestamps, i64::to_le_bytes).unwrap_or_default(),
        headers: has_headers.then(|| headers_column(&headers)),
    };
    output::send_many(
        port,
        &messages,
        packed(partitions, u32::to_le_bytes).as_deref(),
    );
}

fn entries_text(found: &Entries) -> String {
    let mut values = entries(&found.values);
    entries(&found.keys).fold(String::new(), |mut text, key| {
        let _ = write!(text, " {}", show(key));
        if let Some(value) = values.next() {
            let _ = write!(text, "={}", show(value));
        }
        text
    })
}

// Words

fn store(name: &str) -> Store {
    match Store::open(name) {
        Ok(store) => store,
        Err(error) => panic!("the store {name} does not open: {error:?}"),
    }
}

fn range(from: &str, to: &str) -> Range {
    Range {
        start: perhaps(from),
        end: perhaps(to),
    }
}

fn scan_options(order: &str, what: &str) -> ScanOptions {
    ScanOptions {
        reverse: order == "down",
        keys_only: what == "keys",
    }
}

fn bytes(word: &str) -> Vec<u8> {
    if word == "." {
        return Vec::new();
    }
    if let Some((count, byte)) = word.split_once('x') {
        return vec![bytes(byte)[0]; number(count)];
    }
    (0..word.len())
        .step_by(2)
        .map(|at| match u8::from_str_radix(&word[at..at + 2], 16) {
            Ok(byte) => byte,
            Err(error) => panic!("{word} is not hexadecimal: {error}"),
        })
        .collect()
}

fn perhaps(word: &str) -> Option<Vec<u8>> {
    (word != "~").then(|| bytes(word))
}

fn number<N: std::str::FromStr>(word: &str) -> N {
    match word.parse() {
        Ok(number) => number,
        Err(_) => panic!("{word} is no number"),
    }
}

fn optional<N: std::str::FromStr>(word: &str) -> Option<N> {
    (word != "~").then(|| number(word))
}

/// Packed numbers.
fn packed<N: std::str::FromStr, const LEN: usize>(
    word: &str,
    bytes: impl Fn(N) -> [u8; LEN],
) -> Option<Vec<u8>> {
    (word != "~").then(|| {
        word.split(',')
            .flat_map(|word| bytes(number(word)))
            .collect()
    })
}

fn text(word: &str) -> String {
    word.replace('_', " ")
}

fn assignment(word: &str) -> (&str, &str) {
    match word.split_once('=') {
        Some(pair) => pair,
        None => panic!("{word} has no `=`"),
    }
}

fn header(word: &str) -> Header {
    let (name, value) = assignment(word);
    Header {
        name: name.to_owned(),
        value: perhaps(value),
    }
}

fn log_level(word: &str) -> Level {
    match word {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        "critical" => Level::Critical,
        other => panic!("{other} is no level"),
    }
}

/// Bytes as results have them.
fn show(bytes: Option<&[u8]>) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    match bytes {
        None => "~".to_owned(),
        Some([]) => ".".to_owned(),
        Some(bytes) if bytes.len() > 64 => {
            let sum: u64 = bytes.iter().copied().map(u64::from).sum();
            let (first, last) = (&bytes[..4], &bytes[bytes.len() - 4..]);
            format!("#{}:{sum}:{}:{}", bytes.len(), hex(first), hex(last))
        }
        Some(bytes) => hex(bytes),
    }
}

// The other exports

/// `lifecycle.open`.
pub fn open() -> Result<(), String> {
    KEPT.with(|kept| kept.opened.set(kept.opened.get() + 1));
    let refusal = store("a").get(&[0]);
    logging::log(Level::Info, "lifecycle", "opened");
    match refusal {
        Some(refusal) => Err(String::from_utf8_lossy(&refusal).into_owned()),
        None => Ok(()),
    }
}

/// `lifecycle.close`.
pub fn close() {
    logging::log(Level::Info, "lifecycle", "closed");
}

/// `end-of-input.on-end`: whether it wants to be called again.
pub fn end() -> Result<bool, String> {
    let call = KEPT.with(|kept| kept.ends.replace(kept.ends.get() + 1));
    match call {
        0 => {
            send_result("end again".to_owned());
            Ok(true)
        }
        1 => {
            send_result("end done".to_owned());
            Ok(false)
        }
        _ => Err("a third call".to_owned()),
    }
}
