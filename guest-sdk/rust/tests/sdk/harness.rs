//! The rest of what a task can ask of its host, and the harness's clock.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::Setup;

#[derive(Default)]
struct Curious;

#[task]
impl Curious {
    fn batch(&mut self, batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
        let now_ms = cx.now_ms();
        cx.gauge("now", now_ms as f64);
        cx.count("messages", batch.len() as u64);
        cx.record("sizes", batch.len() as f64);
        assert_eq!(cx.inputs()[batch.input() as usize].port, "orders");
        assert_eq!(
            (cx.partition(), cx.partitions(), cx.task().as_str()),
            (1, 2, "ask/1")
        );
        assert_eq!(cx.component_version().len(), 64);
        assert_eq!(
            cx.config_as::<u8>("n").err().unwrap().reason(),
            "config \"n\": \"300\": number too large to fit in target type"
        );
        assert_eq!(cx.config("missing")?, None);
        cx.request_checkpoint();
        cx.request_stop("enough");
        if batch.iter().any(|msg| msg.value() == Some(b"no")) {
            reject!("no");
        }
        Ok(())
    }
}

#[test]
fn store_time_follows_the_clock_and_never_goes_back() {
    let setup = Setup::new()
        .input("orders")
        .partition(1, 2)
        .stage("ask")
        .config("n", 300)
        .grant_request_stop();
    let mut task = setup.clock_ms(1000).start::<Curious>().unwrap();
    task.feed([("", "no")]);
    assert_eq!(
        task.gauge("now"),
        None,
        "what an undone call reported is dropped"
    );
    assert_eq!(
        (task.checkpoint_requested(), task.stop_requested()),
        (false, None)
    );
    for (clock_ms, now_ms) in [(1500, 1500.0), (1200, 1500.0), (1501, 1501.0)] {
        task.set_clock_ms(clock_ms);
        task.feed([("", ""), ("", "")]);
        assert_eq!(task.gauge("now"), Some(now_ms));
    }
    assert_eq!(task.counter("messages"), Some(6));
    assert_eq!(task.histogram("sizes"), [2.0, 2.0, 2.0]);
    assert_eq!(
        (
            task.checkpoint_requested(),
            task.stop_requested().as_deref()
        ),
        (true, Some("enough"))
    );
}

#[test]
#[should_panic(expected = "trap: the job does not grant request-stop")]
fn stopping_needs_a_grant() {
    let setup = Setup::new()
        .input("orders")
        .partition(1, 2)
        .stage("ask")
        .config("n", 300);
    setup.start::<Curious>().unwrap().feed([("", "")]);
}
