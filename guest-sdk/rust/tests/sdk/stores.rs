//! Stores, one operation at a time.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Harness, Setup};

/// A task whose batch is a closure of the test. It is set for the thread, because a task is made by its host.
#[derive(Default)]
struct Script;

type Scene = Box<dyn Fn(&Context) -> Result<(), Error>>;

thread_local! {
    static SCENE: std::cell::RefCell<Option<Scene>> = const { std::cell::RefCell::new(None) };
}

#[task]
impl Script {
    fn batch(&mut self, _batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        SCENE.with_borrow(|scene| scene.as_ref().map_or(Ok(()), |scene| scene(cx)))
    }
}

fn script() -> Harness<Script> {
    Setup::new().store("s").start().unwrap()
}

/// Plays a scene in a batch; the reason if it fails.
fn play(
    task: &mut Harness<Script>,
    scene: impl Fn(&Context) -> Result<(), Error> + 'static,
) -> Result<(), String> {
    SCENE.set(Some(Box::new(scene)));
    let fed = task.feed([("", "")]);
    fed.rejected
        .into_iter()
        .next()
        .map_or(Ok(()), |rejected| Err(rejected.reason))
}

#[test]
fn single_operations_see_each_other() {
    let mut task = script();
    play(&mut task, |cx| {
        let store = cx.store::<Str, Json<Vec<u32>>>("s")?;
        assert_eq!(store.get("a")?, None);
        store.put("a", &vec![1, 2])?;
        assert_eq!(store.get("a")?, Some(vec![1, 2]));
        store.delete("a")?;
        store.delete("a")?;
        assert_eq!(store.get("a")?, None);
        store.put_many([("b", vec![3]), ("c", vec![4]), ("b", vec![5])])?;
        assert_eq!(
            store.get_many(["c", "x", "b", "c"])?,
            [Some(vec![4]), None, Some(vec![5]), Some(vec![4])]
        );
        store.delete_many(["c", "x"])?;
        store.write_many([("d", Some(vec![6])), ("b", None)])?;
        Ok(())
    })
    .unwrap();
    assert_eq!(
        task.store::<Str, Json<Vec<u32>>>("s").all(),
        [("d".to_owned(), vec![6])]
    );
    assert_eq!(task.calls().state(), 10);
}

#[test]
fn counters_count() {
    let mut task = script();
    play(&mut task, |cx| {
        let counts = cx.store::<Str, I64>("s")?;
        assert_eq!(counts.increment("a", 5)?, 5);
        assert_eq!(counts.increment("a", -7)?, -2);
        assert_eq!(counts.get("a")?, Some(-2));
        counts.ttl_ms(10).put("b", &1)?;
        counts.increment("b", 1)?;
        Ok(())
    })
    .unwrap();
    assert_eq!(task.store::<Str, I64>("s").get("b"), Some(2));
    task.advance_ms(10);
    assert_eq!(
        task.store::<Str, I64>("s").all(),
        [("a".to_owned(), -2)],
        "an increment keeps the expiry"
    );
}

#[test]
#[should_panic(expected = "trap: increment: 9223372036854775807 + 1 overflows")]
fn an_overflow_traps() {
    let mut task = script();
    task.store::<Str, I64>("s").put("a", &i64::MAX);
    drop(play(&mut task, |cx| {
        cx.store::<Str, I64>("s")?.increment("a", 1).map(drop)
    }));
}

#[test]
fn scans_show_the_moment_they_were_opened() {
    let mut task = script();
    let entries = task.store::<Str, Json<usize>>("s");
    for n in 0..2000 {
        entries.put(&format!("{:04}", n), &n);
    }
    play(&mut task, |cx| {
        let store = cx.store::<Str, Json<usize>>("s")?;
        let scan = store.range().scan()?;
        store.put("0000x", &9)?;
        store.range().from("1000").delete()?;
        let found = scan.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(found.len(), 2000);
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(n, (key, value))| *key == format!("{n:04}") && *value == n)
        );
        assert_eq!(store.range().keys()?.tally(), 1001);
        assert_eq!(store.range().first()?, Some(("0000".to_owned(), 0)));
        assert_eq!(store.range().last()?, Some(("0999".to_owned(), 999)));
        let prefixed: Vec<_> = store
            .range()
            .prefix("012")
            .scan_reverse()?
            .map(|entry| Ok(entry?.1))
            .collect::<Result<_, Error>>()?;
        assert_eq!(prefixed, (120..130).rev().collect::<Vec<_>>());
        let between: Vec<_> = store
            .range()
            .from("0001")
            .until("0003")
            .keys()?
            .collect::<Result<_, _>>()?;
        assert_eq!(between, ["0001", "0002"]);
        assert_eq!(store.range().from("0003").until("0003").keys()?.tally(), 0);
        assert_eq!(
            store.range().keys_reverse()?.next().transpose()?.as_deref(),
            Some("0999")
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_prefix_of_the_greatest_bytes_has_no_end() {
    let mut task = script();
    let entries = task.store::<Raw, Raw>("s");
    for key in [&[0xfe, 0xff][..], &[0xff], &[0xff, 0xff], &[0xff, 0xff, 7]] {
        entries.put(key, b"");
    }
    play(&mut task, |cx| {
        let store = cx.store::<Raw, Raw>("s")?;
        assert_eq!(store.range().prefix(&[0xff, 0xff]).keys()?.tally(), 2);
        assert_eq!(store.range().prefix(&[0xfe]).keys()?.tally(), 1);
        assert_eq!(store.range().prefix(&[]).keys()?.tally(), 4);
        Ok(())
    })
    .unwrap();
}

#[test]
fn errors_name_the_store() {
    let mut task = script();
    task.store::<Str, Str>("s").put("a", "not JSON");
    let reason = play(&mut task, |cx| {
        cx.store::<Str, Json<u8>>("s")?.get("a").map(drop)
    })
    .unwrap_err();
    assert_eq!(
        reason,
        "store \"s\": a value: expected ident at line 1 column 2"
    );
    let reason = play(&mut task, |cx| cx.store::<Str, Str>("t").map(drop)).unwrap_err();
    assert_eq!(reason, "the job declares no store \"t\" for this stage");
}

#[test]
#[should_panic(expected = "trap: value-bytes is limited to 1048576, asked for 1048577")]
fn a_large_value_traps() {
    drop(play(&mut script(), |cx| {
        cx.store::<Raw, Raw>("s")?.put(b"", &vec![0; (1 << 20) + 1])
    }));
}

#[test]
#[should_panic(expected = "trap: what one call returns, in bytes, is limited to 16777216")]
fn a_large_answer_traps() {
    let mut task = script();
    for key in 0..17_u8 {
        task.store::<Raw, Raw>("s").put(&[key], &vec![0; 1 << 20]);
    }
    drop(play(&mut task, |cx| {
        cx.store::<Raw, Raw>("s")?
            .get_many((0..17_u8).map(|key| [key]))
            .map(drop)
    }));
}
