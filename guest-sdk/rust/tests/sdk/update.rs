//! The keyed update: how often it calls the host, and what it reads and writes.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Harness, Incoming, Setup};

// The ten lines of the README.
#[derive(Default)]
struct Counter;

#[task]
impl Counter {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let counts = cx.store::<Raw, I64>("counts")?;
        counts.update(batch, Message::need_key, |_, count| {
            *count.get_or_insert_default() += 1
        })
    }
}

#[test]
fn a_counter_makes_two_state_calls_a_batch() {
    let mut task = Setup::new().store("counts").start::<Counter>().unwrap();
    for round in 1..=3 {
        let keys = (0..500).map(|n| format!("key-{}", n % 37));
        let fed = task.feed(keys.map(|key| (key, "")));
        assert_eq!(fed.rejected, []);
        assert_eq!(
            (task.calls().get_many, task.calls().put_many),
            (round, round)
        );
        assert_eq!(task.calls().state(), 2 * round);
        assert_eq!(task.calls().open, 1, "a store is opened once");
    }
    let counts = task.store::<Str, I64>("counts").all();
    assert_eq!(counts.len(), 37);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<i64>(), 1500);
    // 500 = 13 * 37 + 19: the first 19 keys come once more in each batch.
    assert_eq!(task.store::<Str, I64>("counts").get("key-18"), Some(42));
    assert_eq!(task.store::<Str, I64>("counts").get("key-19"), Some(39));
}

/// Applies values to text: "+x" appends, "-" deletes, "=" changes nothing, "!" appends and fails.
#[derive(Default)]
struct Editor;

#[task]
impl Editor {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let texts = cx.store::<Raw, Str>("texts")?;
        let edits = cx.output::<Raw, Str>("edits");
        texts.update(
            batch,
            |msg| msg.need_key(),
            |msg, text| {
                match msg.value_str()?.split_at(1) {
                    ("+", more) => text.get_or_insert_default().push_str(more),
                    ("-", _) => *text = None,
                    ("=", _) => {}
                    (_, reason) => {
                        text.get_or_insert_default().push_str("never seen");
                        edits.send(msg.need_key()?, "never sent")?;
                        reject!("{reason}");
                    }
                }
                edits.send(msg.need_key()?, text.as_deref().unwrap_or("(none)"))
            },
        )
    }
}

fn editor() -> Harness<Editor> {
    Setup::new()
        .store("texts")
        .output("edits", 1)
        .start()
        .unwrap()
}

fn edits(task: &Harness<Editor>) -> Vec<String> {
    task.sent("edits")
        .iter()
        .map(|sent| sent.value_as::<Str>())
        .collect()
}

#[test]
fn messages_of_a_key_see_each_other_in_order() {
    let mut task = editor();
    task.store::<Str, Str>("texts").put("a", "old");
    task.feed([
        ("a", "+1"),
        ("b", "+2"),
        ("a", "+3"),
        ("b", "-"),
        ("a", "+4"),
        ("b", "+5"),
    ]);
    assert_eq!(
        edits(&task),
        ["old1", "2", "old13", "(none)", "old134", "5"]
    );
    let texts = task.store::<Str, Str>("texts").all();
    assert_eq!(
        texts,
        [
            ("a".to_owned(), "old134".to_owned()),
            ("b".to_owned(), "5".to_owned())
        ]
    );
    assert_eq!(task.calls().state(), 2);
    assert_eq!(task.calls().send_many, 1);
}

#[test]
fn none_deletes() {
    let mut task = editor();
    task.store::<Str, Str>("texts").put("a", "old");
    task.feed([("a", "-"), ("b", "-")]);
    assert_eq!(task.store::<Str, Str>("texts").all(), []);
    assert_eq!(task.calls().put_many, 1);
}

#[test]
fn what_has_not_changed_is_not_written() {
    let mut task = editor();
    task.store::<Str, Str>("texts").put("a", "old");
    task.feed([("a", "="), ("b", "="), ("c", "-")]);
    assert_eq!(edits(&task), ["old", "(none)", "(none)"]);
    assert_eq!((task.calls().get_many, task.calls().put_many), (1, 0));
}

#[test]
fn a_rejected_message_leaves_nothing_behind() {
    let mut task = editor();
    task.store::<Str, Str>("texts").put("a", "old");
    let fed = task.feed([
        ("a", "!first"),
        ("a", "+1"),
        ("a", "!between"),
        ("b", "!alone"),
        ("a", "+2"),
        ("a", "!last"),
    ]);
    let reasons: Vec<_> = fed
        .rejected
        .iter()
        .map(|r| (r.offset, r.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [(0, "first"), (2, "between"), (3, "alone"), (5, "last")]
    );
    assert_eq!(fed.replayed, None, "the others are not disturbed");
    assert_eq!(edits(&task), ["old1", "old12"]);
    assert_eq!(
        task.store::<Str, Str>("texts").all(),
        [("a".to_owned(), "old12".to_owned())]
    );
    assert_eq!(task.calls().state(), 2);
}

#[test]
fn a_batch_of_rejections_writes_nothing() {
    let mut task = editor();
    let fed = task.feed([("a", "!1"), ("a", "!2")]);
    assert_eq!(fed.rejected.len(), 2);
    assert_eq!(
        (
            task.calls().get_many,
            task.calls().put_many,
            task.calls().send_many
        ),
        (1, 0, 0)
    );
}

#[test]
fn an_error_of_the_key_rejects_the_message() {
    let mut task = editor();
    let fed = task.feed([
        Incoming::value("+1"),
        Incoming::new("a", "+2"),
        Incoming::tombstone("a"),
    ]);
    let reasons: Vec<_> = fed
        .rejected
        .iter()
        .map(|r| (r.offset, r.reason.as_str()))
        .collect();
    assert_eq!(
        reasons,
        [
            (0, "the message has no key"),
            (2, "the message has no value")
        ]
    );
    assert_eq!(
        task.store::<Str, Str>("texts").get("a").as_deref(),
        Some("2")
    );
}

#[test]
fn a_stored_value_that_cannot_be_read_rejects_its_messages() {
    let mut task = editor();
    task.store::<Str, Raw>("texts").put("bad", &[0xff]);
    let fed = task.feed([("bad", "+1"), ("good", "+2"), ("bad", "+3")]);
    assert_eq!(fed.rejected.len(), 2);
    assert!(
        fed.rejected[0]
            .reason
            .starts_with("store \"texts\": the value of key \"bad\": invalid utf-8")
    );
    assert_eq!(
        task.store::<Str, Raw>("texts").get("bad"),
        Some(vec![0xff]),
        "and stays as it is"
    );
    assert_eq!(
        task.store::<Str, Str>("texts").get("good").as_deref(),
        Some("2")
    );
}

#[test]
fn slots_of_an_earlier_batch_do_not_show() {
    let mut task = editor();
    task.feed([("a", "+long text"), ("b", "+other")]);
    task.feed([("c", "="), ("a", "+!")]);
    task.feed([("d", "="), ("b", "+!"), ("e", "+new")]);
    assert_eq!(
        edits(&task),
        [
            "long text",
            "other",
            "(none)",
            "long text!",
            "(none)",
            "other!",
            "new"
        ]
    );
}

#[test]
fn an_empty_key_is_a_key() {
    let mut task = editor();
    task.feed([("", "+1"), ("", "+2")]);
    assert_eq!(
        task.store::<Str, Str>("texts").get("").as_deref(),
        Some("12")
    );
}

#[derive(Default)]
struct Seen;

#[task]
impl Seen {
    fn batch(&mut self, batch: &Batch<'_>, cx: &mut Context) -> Result<(), Error> {
        let seen = cx.store::<Raw, Postcard<u64>>("seen")?.ttl_ms(1000);
        seen.update(
            batch,
            |msg| msg.need_key(),
            |_, seen| {
                seen.get_or_insert(7);
                Ok(())
            },
        )
    }
}

#[test]
fn a_ttl_is_renewed_by_each_batch() {
    let mut task = Setup::new().store("seen").start::<Seen>().unwrap();
    task.feed([("a", ""), ("b", "")]);
    task.advance_ms(600);
    task.feed([("a", "")]);
    task.advance_ms(600);
    let seen = task.store::<Str, Postcard<u64>>("seen");
    assert_eq!(seen.all(), [("a".to_owned(), 7)]);
    task.advance_ms(400);
    assert_eq!(seen.get("a"), None, "absent at the very millisecond");
}

/// A task of which the update's model is a map.
#[derive(Default)]
struct Sums;

#[task]
impl Sums {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let sums = cx.store::<Raw, Postcard<(u64, String)>>("sums")?;
        sums.update_with(
            batch,
            |msg| Ok((msg.need_key()?, msg.json::<u64>()?)),
            |_, by, sum| {
                let (total, digits) = sum.get_or_insert_default();
                *total += by;
                digits.push_str(&by.to_string());
                match by {
                    7 => reject!("seven"),
                    8 => *sum = None,
                    _ => {}
                }
                Ok(())
            },
        )
    }
}

#[test]
fn it_agrees_with_a_map() {
    let mut model = std::collections::BTreeMap::<Vec<u8>, (u64, String)>::new();
    let mut task = Setup::new().store("sums").start::<Sums>().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for _ in 0..200 {
        let messages: Vec<(Vec<u8>, u64)> = (0..1 + random(40))
            .map(|_| (vec![b'k'; random(12) as usize], random(10)))
            .collect();
        let fed = task.feed(
            messages
                .iter()
                .map(|(key, by)| (key.clone(), by.to_string())),
        );
        assert_eq!(
            fed.rejected.len(),
            messages.iter().filter(|(_, by)| *by == 7).count()
        );
        for (key, by) in messages {
            match by {
                7 => {}
                8 => drop(model.remove(&key)),
                _ => {
                    let sum = model.entry(key).or_default();
                    sum.0 += by;
                    sum.1.push_str(&by.to_string());
                }
            }
        }
        let expected: Vec<_> = model.clone().into_iter().collect();
        assert_eq!(
            task.store::<Raw, Postcard<(u64, String)>>("sums").all(),
            expected
        );
    }
}
