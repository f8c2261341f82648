//! `open`, `close` and `on_end`.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Incoming, Setup};

/// Remembers what it opened, and writes what it has seen at the end, three entries in each call.
struct Collector {
    seen: Store<Ordered<u64>, Str>,
    prefix: String,
    cached: u64,
    written: u64,
}

#[task]
impl Collector {
    fn open(cx: &Context) -> Result<Self, Error> {
        let seen: Store<Ordered<u64>, Str> = cx.store("seen")?;
        let cached = seen.range().last()?.map_or(0, |(n, _)| n);
        info!("opened by {} with {cached}", cx.task());
        Ok(Self {
            seen,
            prefix: cx.need_config("prefix")?,
            cached,
            written: 0,
        })
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        for msg in batch {
            self.cached += 1;
            self.seen.put(
                &self.cached,
                &format!("{}{}", self.prefix, msg.value_str()?),
            )?;
        }
        Ok(())
    }

    fn on_end(&mut self, cx: &mut Context) -> Result<Progress, Error> {
        cx.output::<Raw, Json<u64>>("out")
            .send_value(&self.written)?;
        self.written += 1;
        Ok(if self.written < 3 {
            Progress::Again
        } else {
            Progress::Done
        })
    }

    fn close(&mut self) {
        warn!("closed with {}", self.cached);
    }
}

#[test]
fn an_instance_is_opened_and_closed() {
    let setup = Setup::new()
        .store("seen")
        .output("out", 1)
        .config("prefix", "p-")
        .stage("collect")
        .partition(3, 4);
    let mut task = setup.start::<Collector>().unwrap();
    task.feed([
        Incoming::value("a").timestamp_ms(50),
        Incoming::value("b").timestamp_ms(40),
    ]);
    task.restart().unwrap();
    task.feed([Incoming::value("c").timestamp_ms(20)]);
    task.end().unwrap();
    task.close();

    let seen = task.store::<Ordered<u64>, Str>("seen").all();
    assert_eq!(
        seen,
        [
            (1, "p-a".to_owned()),
            (2, "p-b".to_owned()),
            (3, "p-c".to_owned())
        ]
    );
    let sent: Vec<_> = task
        .sent("out")
        .iter()
        .map(|sent| (sent.json::<u64>(), sent.timestamp_ms))
        .collect();
    assert_eq!(
        sent,
        [(0, 50), (1, 50), (2, 50)],
        "the latest that the task has seen"
    );
    let lines: Vec<_> = task
        .lines()
        .into_iter()
        .map(|line| (line.level, line.message))
        .collect();
    use wasm_host_sdk::log::Level::{Info, Warn};
    let line = |level, message: &str| (level, message.to_owned());
    assert_eq!(
        lines,
        [
            line(Info, "opened by collect/3 with 0"),
            line(Warn, "closed with 2"),
            line(Info, "opened by collect/3 with 2"),
            line(Warn, "closed with 3")
        ]
    );
    assert_eq!(task.lines()[0].context, module_path!());
}

#[test]
fn an_error_of_open_is_told() {
    let error = Setup::new()
        .store("seen")
        .start::<Collector>()
        .err()
        .unwrap();
    assert_eq!(error.reason(), "config \"prefix\" is missing");
    let error = Setup::new().start::<Collector>().err().unwrap();
    assert_eq!(
        error.reason(),
        "the job declares no store \"seen\" for this stage"
    );
}

#[derive(Default)]
struct Eager;

#[task]
impl Eager {
    fn open(&mut self, cx: &Context) -> Result<(), Error> {
        cx.store::<Raw, I64>("s")?.put(b"", &1)
    }

    fn message(&mut self, _message: &Message<'_>) {}
}

#[test]
#[should_panic(expected = "trap: put outside of a batch")]
fn writing_in_open_traps() {
    drop(Setup::new().store("s").start::<Eager>());
}

#[derive(Default)]
struct Talker;

#[task]
impl Talker {
    fn open(&mut self, cx: &Context) -> Result<(), Error> {
        cx.output::<Raw, Raw>("out").send_value(b"hello")
    }

    fn message(&mut self, _message: &Message<'_>) {}
}

#[test]
#[should_panic(expected = "trap: sending outside of a batch")]
fn sending_in_open_traps() {
    drop(Setup::new().output("out", 1).start::<Talker>());
}

#[derive(Default)]
struct Ending;

#[task]
impl Ending {
    fn message(&mut self, _message: &Message<'_>) {}

    fn on_end(&mut self, cx: &Context) -> Result<(), Error> {
        cx.store::<Str, I64>("s")?.put("half", &1)?;
        reject!("the end is refused")
    }
}

#[test]
fn an_error_of_on_end_undoes_it() {
    let mut task = Setup::new().store("s").start::<Ending>().unwrap();
    assert_eq!(task.end().unwrap_err().reason(), "the end is refused");
    assert_eq!(task.store::<Str, I64>("s").all(), []);
}
