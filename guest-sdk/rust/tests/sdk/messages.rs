//! Reading messages, in batches and one at a time.

use serde::Deserialize;
use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Incoming, Setup};

#[derive(Deserialize)]
struct Named<'a> {
    name: &'a str,
    id: u64,
}

fn describe(msg: &Message<'_>) -> Result<String, Error> {
    let headers: Vec<String> = msg
        .headers()
        .map(|(name, value)| format!("{name}={:?}", value.map(<[u8]>::len)))
        .collect();
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or("-".to_owned(), |bytes| {
            String::from_utf8_lossy(bytes).into_owned()
        })
    };
    Ok(format!(
        "{}/{}@{} t{} {} {} [{}]",
        msg.input(),
        msg.partition(),
        msg.offset(),
        msg.timestamp_ms(),
        text(msg.key()),
        text(msg.value()),
        headers.join(" ")
    ))
}

#[derive(Default)]
struct InBatches;

#[task]
impl InBatches {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let out = cx.output::<Raw, Str>("out");
        assert_eq!(batch.len(), batch.iter().len());
        assert!(batch.get(batch.len()).is_none());
        cx.for_each(batch, |msg| {
            assert_eq!(
                batch.get(msg.index()).map(|msg| msg.offset()),
                Some(msg.offset())
            );
            out.send_value(&describe(msg)?)
        })
    }
}

#[derive(Default)]
struct OneByOne;

#[task]
impl OneByOne {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        cx.output::<Raw, Str>("out").send_value(&describe(message)?)
    }
}

fn setup() -> Setup {
    Setup::new()
        .input("left")
        .input("right")
        .output("out", 1)
        .partition(2, 3)
        .clock_ms(-5)
}

fn messages() -> Vec<Incoming> {
    vec![
        Incoming::new("k", "v"),
        Incoming::value("").timestamp_ms(9).header("h", "1"),
        Incoming::tombstone("")
            .header("h", "12")
            .header("h", "")
            .header("other", "123"),
        Incoming::default(),
    ]
}

const DESCRIBED: [&str; 4] = [
    "1/2@0 t-5 k v []",
    "1/2@1 t9 -  [h=Some(1)]",
    "1/2@2 t-5  - [h=Some(2) h=Some(0) other=Some(3)]",
    "1/2@3 t-5 - - []",
];

#[test]
fn both_shapes_show_the_same_messages() {
    let mut batches = setup().start::<InBatches>().unwrap();
    assert!(batches.feed_input(1, messages()).rejected.is_empty());
    let mut single = setup().start::<OneByOne>().unwrap();
    assert!(single.feed_input(1, messages()).rejected.is_empty());
    for sent in [batches.sent("out"), single.sent("out")] {
        assert_eq!(
            sent.iter()
                .map(|sent| sent.value_as::<Str>())
                .collect::<Vec<_>>(),
            DESCRIBED
        );
    }
}

/// Rejects by three kinds of error.
#[derive(Default)]
struct Strict;

#[task]
impl Strict {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        cx.store::<Str, Json<u64>>("ids")?.put("last", &0)?;
        cx.output::<Str, Json<u64>>("out").send("any", &0)?;
        let named: Named<'_> = message.json()?;
        let limit: u64 = cx.need_config("limit")?;
        if named.id > limit {
            reject!("{} has id {} over {limit}", named.name, named.id);
        }
        cx.store::<Str, Json<u64>>("ids")?
            .put(named.name, &named.id)?;
        if message.header("refuse").is_some() {
            cx.reject(message, Error::new("refused"))?;
        }
        Ok(())
    }
}

#[test]
fn an_err_rejects_a_message_and_undoes_it() {
    let setup = Setup::new()
        .store("ids")
        .output("out", 1)
        .config("limit", u64::MAX - 1);
    let mut task = setup.start::<Strict>().unwrap();
    let fed = task.feed([
        Incoming::value(format!(r#"{{"name":"a","id":{}}}"#, u64::MAX - 1)),
        Incoming::value("{"),
        Incoming::value(format!(r#"{{"name":"c","id":{}}}"#, u64::MAX)),
        Incoming::value(r#"{"name":"d","id":1}"#).header("refuse", ""),
        Incoming::value(r#"{"name":"e","id":18446744073709551616}"#),
    ]);
    let reasons: Vec<_> = fed
        .rejected
        .iter()
        .map(|r| (r.offset, r.reason.as_str()))
        .collect();
    assert_eq!(
        reasons[..3],
        [
            (
                1,
                "the value: EOF while parsing an object at line 1 column 1"
            ),
            (2, "c has id 18446744073709551615 over 18446744073709551614"),
            (3, "refused"),
        ]
    );
    assert_eq!(reasons[3].0, 4);
    assert!(
        reasons[3].1.contains("expected u64"),
        "one more than 64 bits hold is refused, not rounded"
    );
    let ids = task.store::<Str, Json<u64>>("ids").all();
    assert_eq!(
        ids,
        [("a".to_owned(), u64::MAX - 1), ("last".to_owned(), 0)]
    );
    assert_eq!(task.sent("out").len(), 1);
}

/// Counts one message at a time, by the same update as a batch.
#[derive(Default)]
struct Single;

#[task]
impl Single {
    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let counts = cx.store::<Str, I64>("counts")?;
        counts.increment("all", 1)?;
        counts.update([*message], Message::key_str, |msg, count| {
            *count.get_or_insert_default() += 1;
            if msg.value() == Some(b"no") {
                reject!("no");
            }
            Ok(())
        })
    }
}

#[test]
fn an_update_of_one_message_rejects_the_call() {
    let mut task = Setup::new().store("counts").start::<Single>().unwrap();
    let fed = task.feed([("a", ""), ("a", "no"), ("b", "")]);
    let reasons: Vec<_> = fed
        .rejected
        .iter()
        .map(|r| (r.offset, r.reason.as_str()))
        .collect();
    assert_eq!(reasons, [(1, "no")]);
    let counts = task.store::<Str, I64>("counts").all();
    assert_eq!(
        counts,
        [
            ("a".to_owned(), 1),
            ("all".to_owned(), 2),
            ("b".to_owned(), 1)
        ]
    );
}
