//! Sending: columns, partitions, timestamps.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Incoming, Setup};

/// Sends one message in every way that there is.
#[derive(Default)]
struct Every;

#[task]
impl Every {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let out = cx.output::<Str, Json<u64>>("out");
        out.send("abc", &u64::MAX)?;
        out.send_value(&2)?;
        out.send_tombstone("abc")?;
        out.draft().key("k").value(&4).timestamp_ms(-4).send()?;
        out.draft().value(&5).partition(2).send()?;
        out.draft()
            .value(&6)
            .partition(1)
            .header("a", Some(b"1"))
            .header("a", None)
            .send()?;
        out.draft().key("k").value(&7).send()?;
        cx.for_each(batch, |msg| {
            let out = cx.output::<Raw, Raw>("other");
            out.send(msg.need_key()?, b"")?;
            out.draft().timestamp_ms(1).key(msg.need_key()?).send()
        })
    }
}

#[test]
fn every_way_to_send() {
    let mut task = Setup::new()
        .output("out", 3)
        .output("other", 7)
        .start::<Every>()
        .unwrap();
    let messages =
        [100, 300, 200].map(|timestamp_ms| Incoming::new("foobar", "").timestamp_ms(timestamp_ms));
    assert!(task.feed(messages).rejected.is_empty());

    let sent = task.sent("out");
    let values: Vec<_> = sent
        .iter()
        .map(|sent| sent.value.as_ref().map(|_| sent.json::<u64>()))
        .collect();
    assert_eq!(
        values,
        [
            Some(u64::MAX),
            Some(2),
            None,
            Some(4),
            Some(5),
            Some(6),
            Some(7)
        ]
    );
    let keys: Vec<_> = sent
        .iter()
        .map(|sent| sent.key.as_ref().map(|_| sent.key_as::<Str>()))
        .collect();
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(
        keys,
        [key("abc"), None, key("abc"), key("k"), None, None, key("k")]
    );
    // What gives none has the latest of the batch.
    let timestamps: Vec<_> = sent.iter().map(|sent| sent.timestamp_ms).collect();
    assert_eq!(timestamps, [300, 300, 300, -4, 300, 300, 300]);
    assert_eq!(
        sent[5].headers,
        [
            ("a".to_owned(), Some(b"1".to_vec())),
            ("a".to_owned(), None)
        ]
    );
    assert!(
        sent.iter()
            .enumerate()
            .all(|(n, sent)| n == 5 || sent.headers.is_empty())
    );
    // murmur2("abc") is 479470107.
    assert_eq!(sent[0].partition, 479_470_107 % 3);
    assert_eq!((sent[4].partition, sent[5].partition), (2, 1));

    // What a message causes has its timestamp. murmur2("foobar") is -790332482.
    let other: Vec<_> = task
        .sent("other")
        .iter()
        .map(|sent| (sent.timestamp_ms, sent.partition))
        .collect();
    let partition = (-790_332_482_i32 as u32 & 0x7fff_ffff) % 7;
    assert_eq!(
        other,
        [100, 1, 300, 1, 200, 1].map(|timestamp_ms| (timestamp_ms, partition))
    );
    // Four runs for "out", where timestamps and partitions are now given and now not; one for "other".
    assert_eq!(task.calls().send_many, 4 + 1);
}

#[test]
fn keyless_messages_go_round() {
    #[derive(Default)]
    struct Copy;
    #[task]
    impl Copy {
        fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
            let out = cx.output::<Raw, Raw>("out");
            cx.for_each(batch, |msg| out.send_value(msg.need_value()?))
        }
    }
    let mut task = Setup::new().output("out", 3).start::<Copy>().unwrap();
    task.feed([
        Incoming::value("1"),
        Incoming::default(),
        Incoming::value("2"),
    ]);
    task.feed([Incoming::value("3"), Incoming::value("4")]);
    assert_eq!(
        task.sent("out")
            .iter()
            .map(|sent| sent.partition)
            .collect::<Vec<_>>(),
        [0, 1, 2, 0]
    );
    assert_eq!(task.calls().send_many, 2);
}

#[test]
fn a_value_that_cannot_be_encoded_is_not_half_sent() {
    #[derive(Default)]
    struct Maps;
    #[task]
    impl Maps {
        fn batch(&mut self, _batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
            let out = cx.output::<Str, Json<std::collections::BTreeMap<Vec<u8>, u8>>>("out");
            let error = out
                .send("lost", &[(vec![1], 1)].into())
                .err()
                .map(|error| error.reason().to_owned());
            assert_eq!(error.as_deref(), Some("key must be a string"));
            out.send("kept", &[].into())
        }
    }
    let mut task = Setup::new().output("out", 1).start::<Maps>().unwrap();
    assert!(task.feed([("", "")]).rejected.is_empty());
    let sent = task.sent("out");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (
            sent[0].key_as::<Str>().as_str(),
            sent[0].value_as::<Str>().as_str()
        ),
        ("kept", "{}")
    );
}

#[test]
#[should_panic(expected = "trap: the stage declares no output \"elsewhere\"")]
fn an_unknown_port_traps() {
    #[derive(Default)]
    struct Lost;
    #[task]
    impl Lost {
        fn message(&mut self, _message: &Message<'_>, cx: &Context) -> Result<(), Error> {
            cx.output::<Raw, Raw>("elsewhere").send_value(b"")
        }
    }
    Setup::new()
        .output("out", 1)
        .start::<Lost>()
        .unwrap()
        .feed([("", "")]);
}
