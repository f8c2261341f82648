//! What an error undoes: of one message, of a call, and of a message that was written for before it was rejected.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Harness, Setup};

/// Counts in two stores, one after the other; the second refuses the value "second", `batch` itself "batch".
#[derive(Default)]
struct Twice {
    calls: u32,
}

#[task]
impl Twice {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        self.calls += 1;
        cx.count("calls", 1);
        let out = cx.output::<Raw, Raw>("out");
        for store in ["first", "second"] {
            cx.store::<Raw, I64>(store)?.update(
                batch,
                |msg| msg.need_key(),
                |msg, count| {
                    if msg.value_str()? == store {
                        return Err(Error::new(format!("no {store}")).with_detail(*b"more"));
                    }
                    *count.get_or_insert_default() += 1;
                    out.send(msg.need_key()?, store.as_bytes())
                },
            )?;
        }
        if batch.iter().any(|msg| msg.value() == Some(b"batch")) {
            reject!("no batch");
        }
        Ok(())
    }
}

fn twice() -> Harness<Twice> {
    Setup::new()
        .store("first")
        .store("second")
        .output("out", 1)
        .start()
        .unwrap()
}

fn counts(task: &Harness<Twice>, store: &str) -> Vec<(String, i64)> {
    task.store::<Str, I64>(store).all()
}

#[test]
fn an_err_undoes_the_call_and_the_messages_come_one_by_one() {
    let mut task = twice();
    let fed = task.feed([("a", ""), ("b", "batch"), ("c", "")]);
    assert_eq!(fed.replayed.as_deref(), Some("no batch"));
    assert_eq!(fed.rejected.len(), 1);
    assert_eq!(
        (fed.rejected[0].offset, fed.rejected[0].reason.as_str()),
        (1, "no batch")
    );
    assert_eq!(fed.rejected[0].message, ("b", "batch").into());
    for store in ["first", "second"] {
        assert_eq!(
            counts(&task, store),
            [("a".to_owned(), 1), ("c".to_owned(), 1)]
        );
    }
    assert_eq!(task.sent("out").len(), 4);
    assert_eq!(
        task.counter("calls"),
        Some(2),
        "figures of undone calls are dropped"
    );
    // One call for three messages, and one for each.
    assert_eq!(task.calls().get_many, 2 * 4);
}

#[test]
fn a_message_rejected_first_takes_no_part_in_what_follows() {
    let mut task = twice();
    let fed = task.feed([("a", ""), ("b", "first"), ("c", "")]);
    assert_eq!(fed.replayed, None);
    assert_eq!(
        (
            fed.rejected[0].reason.as_str(),
            fed.rejected[0].detail.as_deref()
        ),
        ("no first", Some(&b"more"[..]))
    );
    assert_eq!(
        counts(&task, "second"),
        [("a".to_owned(), 1), ("c".to_owned(), 1)]
    );
}

#[test]
fn a_message_that_was_written_for_is_rejected_by_its_call() {
    let mut task = twice();
    let fed = task.feed([("a", ""), ("b", "second"), ("c", "")]);
    assert_eq!(
        fed.replayed.as_deref(),
        Some("no second"),
        "the rest cannot keep what it shares a call with"
    );
    assert_eq!((fed.rejected.len(), fed.rejected[0].offset), (1, 1));
    for store in ["first", "second"] {
        assert_eq!(
            counts(&task, store),
            [("a".to_owned(), 1), ("c".to_owned(), 1)],
            "of b there is nothing left"
        );
    }
    assert_eq!(task.sent("out").len(), 4);
}

/// Sends everything, and rejects by the context whatever has the value "no", in one of three ways.
#[derive(Default)]
struct Sender;

#[task]
impl Sender {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let (out, log) = (cx.output::<Raw, Raw>("out"), cx.store::<Raw, Raw>("log")?);
        cx.for_each(batch, |msg| {
            out.send(msg.need_key()?, b"sent")?;
            match msg.need_value()? {
                b"error" => reject!("an error"),
                b"context" => cx.reject(msg, Error::new("by the context")),
                b"write" => {
                    log.put(b"x", b"written")?;
                    reject!("after a write")
                }
                b"swallow" => {
                    log.put(b"x", b"written")?;
                    cx.reject(msg, Error::new("first reason"))
                }
                _ => Ok(()),
            }
        })
    }
}

fn sender() -> Harness<Sender> {
    Setup::new().store("log").output("out", 1).start().unwrap()
}

fn sent_keys(task: &Harness<Sender>) -> Vec<String> {
    task.sent("out")
        .iter()
        .map(|sent| sent.key_as::<Str>())
        .collect()
}

#[test]
fn for_each_takes_back_what_a_rejected_message_sent() {
    let mut task = sender();
    let fed = task.feed([("a", ""), ("b", "error"), ("c", "context"), ("d", "")]);
    assert_eq!(fed.replayed, None);
    let reasons: Vec<_> = fed
        .rejected
        .iter()
        .map(|r| (r.offset, r.reason.as_str()))
        .collect();
    assert_eq!(reasons, [(1, "an error"), (2, "by the context")]);
    assert_eq!(sent_keys(&task), ["a", "d"]);
    assert_eq!(task.calls().send_many, 1);
}

#[test]
fn a_write_of_a_rejected_message_is_undone_by_its_call() {
    for (value, reason) in [("write", "after a write"), ("swallow", "first reason")] {
        let mut task = sender();
        let fed = task.feed([("a", ""), ("b", value), ("c", "")]);
        assert_eq!(fed.replayed.as_deref(), Some(reason));
        assert_eq!(
            (
                fed.rejected.len(),
                fed.rejected[0].offset,
                fed.rejected[0].reason.as_str()
            ),
            (1, 1, reason)
        );
        assert_eq!(task.store::<Str, Str>("log").all(), []);
        assert_eq!(sent_keys(&task), ["a", "c"]);
    }
}

/// Ignores the error of an update that could not reject a message alone.
#[derive(Default)]
struct Careless;

#[task]
impl Careless {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) {
        for round in 0..2 {
            let Ok(store) = cx.store::<Raw, I64>("counts") else {
                return;
            };
            let _ignored = store.update(
                batch,
                |msg| msg.need_key(),
                |msg, count| {
                    if round == 1 && msg.value() == Some(b"no") {
                        reject!("too late");
                    }
                    *count.get_or_insert_default() += 1;
                    Ok(())
                },
            );
        }
    }
}

#[test]
fn a_call_that_has_failed_cannot_be_talked_out_of_it() {
    let mut task = Setup::new().store("counts").start::<Careless>().unwrap();
    let fed = task.feed([("a", ""), ("b", "no")]);
    assert_eq!(fed.replayed.as_deref(), Some("too late"));
    assert_eq!((fed.rejected.len(), fed.rejected[0].offset), (1, 1));
    assert_eq!(
        task.store::<Str, I64>("counts").all(),
        [("a".to_owned(), 2)]
    );
}
