//! Streams of Kafka, against a real broker, judged by Kafka's own console consumer.

mod broker;
mod combinations;
mod crashes;
mod faults;
mod marks;
mod moments;
mod positions;
mod proxy;
mod refusals;
mod secure;
mod soak;
mod streams;

use std::sync::atomic::{AtomicU32, Ordering};

use broker::{Broker, broker};

use crate::harness::Job;

/// A name that no other test has.
fn fresh(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{count}")
}

/// A job from one topic to another, each with so many partitions.
struct Between {
    broker: &'static Broker,
    name: String,
    input: String,
    output: String,
}

impl Between {
    /// New topics on the broker that tests share. `None`: there is none, and that was said.
    fn new(name: &str, partitions: u32) -> Option<Between> {
        Some(Between::on(broker()?, name, partitions))
    }

    /// New topics on a broker.
    fn on(broker: &'static Broker, name: &str, partitions: u32) -> Between {
        let name = fresh(name);
        let (input, output) = (format!("{name}.in"), format!("{name}.out"));
        broker.create(&input, partitions, &[]);
        broker.create(&output, partitions, &[]);
        Between {
            broker,
            name,
            input,
            output,
        }
    }

    /// The job file. `stage`: the component, and what else belongs to the stage.
    fn text(&self, settings: &str, input: &str, stage: &str) -> String {
        let Between {
            broker,
            name,
            input: from,
            output,
        } = self;
        format!(
            r#"
[job]
name = "{name}"
disk-reserve = "1MiB"
{settings}
[clusters.local]
brokers = ["{}"]
transaction-timeout = "10s"
[streams.in]
system = "kafka"
topic = "{from}"
{input}
[streams.out]
system = "kafka"
topic = "{output}"
[[stage]]
name = "work"
inputs = ["in"]
outputs = ["out"]
{stage}
"#,
            broker.address()
        )
    }

    fn job(&self, settings: &str, input: &str, stage: &str) -> Job {
        Job::new(&self.text(settings, input, stage))
    }
}

/// A stage that counts by key, and sends each new count.
const COUNTS: &str = r#"component = "{guest:counter}"
batch-messages = 20
[stage.stores.counts]
type = "rocksdb""#;

/// A stage that sends everything on as it is.
const FORWARDS: &str = r#"component = "{guest:forward}""#;
