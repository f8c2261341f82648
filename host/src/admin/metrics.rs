//! Figures in Prometheus' text format.

use std::fmt::Write as _;

use crate::coordinator::Status;
use crate::runtime::MetricValue;

/// One figure: its name, kind, help, and the values by labels.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    values: Vec<(String, String)>,
}

pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    let job = label("job", &status.job);
    let one = |value: u64| vec![(job.clone(), value.to_string())];
    let by_task = |value: &dyn Fn(&crate::coordinator::TaskStatus) -> u64| {
        let values = status.tasks.iter().map(|task| {
            let labels = format!("{job},{}", label("task", &task.task));
            (labels, value(task).to_string())
        });
        values.collect::<Vec<_>>()
    };
    let by_input = |value: &dyn Fn(&crate::coordinator::InputStatus) -> Option<u64>| {
        let inputs = status
            .tasks
            .iter()
            .flat_map(|task| task.inputs.iter().map(move |input| (task, input)));
        let values = inputs.filter_map(|(task, input)| {
            let labels = format!(
                "{job},{},{}",
                label("task", &task.task),
                label("stream", &input.stream)
            );
            Some((labels, value(input)?.to_string()))
        });
        values.collect::<Vec<_>>()
    };
    let last = status.last_checkpoint.as_ref();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let timed = |us: Option<u64>| {
        us.map(|us| (job.clone(), seconds(us)))
            .into_iter()
            .collect::<Vec<_>>()
    };
    let families = [
        family(
            "messages_processed_total",
            "counter",
            "Messages processed since the start of the job.",
            by_task(&|task| task.processed),
        ),
        family(
            "messages_rejected_total",
            "counter",
            "Messages rejected since the start of the job.",
            by_task(&|task| task.rejected),
        ),
        family(
            "batches_total",
            "counter",
            "Batches kept since the start of the process.",
            by_task(&|task| task.batches),
        ),
        family(
            "batches_undone_total",
            "counter",
            "Batches undone since the start of the process.",
            by_task(&|task| task.undone),
        ),
        family(
            "instances_made_total",
            "counter",
            "Instances made since the start of the process.",
            by_task(&|task| task.instances),
        ),
        family(
            "instances_recycled_total",
            "counter",
            "Instances replaced by [stage.limits] since the start of the process.",
            by_task(&|task| task.recycled),
        ),
        family(
            "input_position",
            "gauge",
            "The offset of the next message.",
            by_input(&|input| Some(input.position)),
        ),
        family(
            "input_lag_messages",
            "gauge",
            "Messages behind the end.",
            by_input(&|input| input.lag),
        ),
        family(
            "messages_skipped_total",
            "counter",
            "Messages that were gone before they were read (`drop-unread`), since the start of the process.",
            by_input(&|input| Some(input.skipped)),
        ),
        family(
            "instances",
            "gauge",
            "Instances alive.",
            one(status.instances),
        ),
        family(
            "epoch",
            "gauge",
            "The last committed epoch.",
            one(status.epoch.0),
        ),
        family(
            "checkpoints_total",
            "counter",
            "Checkpoints since the start of the process.",
            one(status.checkpoints),
        ),
        family(
            "checkpoint_attempts_failed_total",
            "counter",
            "Checkpoint attempts that failed.",
            one(status.failed_attempts),
        ),
        family(
            "checkpoint_last_duration_seconds",
            "gauge",
            "From the barrier until the checkpoint was durable.",
            timed(last.map(|last| last.duration_us)),
        ),
        family(
            "checkpoint_last_pause_seconds",
            "gauge",
            "The longest pause of a task in the last checkpoint.",
            timed(last.map(|last| last.pause_us)),
        ),
        family(
            "checkpoint_last_bytes",
            "gauge",
            "Bytes of the last checkpoint.",
            last.map(|last| (job.clone(), last.bytes.to_string()))
                .into_iter()
                .collect(),
        ),
        family(
            "uncommitted_bytes",
            "gauge",
            "Bytes that are not committed.",
            one(status.open_bytes + status.sealed_bytes),
        ),
        family(
            "uncommitted_bytes_max",
            "gauge",
            "How many bytes may be uncommitted.",
            one(status.bytes_max),
        ),
        family(
            "cache_bytes",
            "gauge",
            "Bytes in the clean cache.",
            one(status.cache.0),
        ),
        family(
            "tasks_failed",
            "gauge",
            "Tasks that stopped.",
            one(status.failures.len() as u64),
        ),
    ];
    families.iter().for_each(|family| family.write(&mut text));
    for (name, value) in &status.database {
        let name = format!("rocksdb_{}", name.replace('-', "_"));
        family(
            &name,
            "gauge",
            "A figure of RocksDB for the state column family.",
            one(*value),
        )
        .write(&mut text);
    }
    for (stage, metrics) in &status.metrics {
        let labels = format!("{job},{}", label("stage", stage));
        for (name, value) in metrics {
            write_guest(
                &mut text,
                &format!("guest_{}", name.replace('-', "_")),
                &labels,
                value,
            );
        }
    }
    text
}

fn write_guest(text: &mut String, name: &str, labels: &str, value: &MetricValue) {
    let help = "Reported by the guest.";
    match value {
        MetricValue::Counter(sum) => {
            let name = format!("{name}_total");
            family(
                &name,
                "counter",
                help,
                vec![(labels.to_owned(), sum.to_string())],
            )
            .write(text);
        }
        MetricValue::Gauge(values) => {
            let values = values.iter().map(|(partition, value)| {
                (
                    format!("{labels},{}", label("partition", &partition.to_string())),
                    value.to_string(),
                )
            });
            family(name, "gauge", help, values.collect()).write(text);
        }
        MetricValue::Histogram(buckets, sum) => {
            let _ = writeln!(
                text,
                "# HELP wasm_host_{name} {help}\n# TYPE wasm_host_{name} histogram"
            );
            let mut count = 0;
            for (bound, in_bucket) in buckets {
                count += in_bucket;
                let bound = if bound.is_infinite() {
                    "+Inf".to_owned()
                } else {
                    bound.to_string()
                };
                let _ = writeln!(
                    text,
                    "wasm_host_{name}_bucket{{{labels},le=\"{bound}\"}} {count}"
                );
            }
            let _ = writeln!(text, "wasm_host_{name}_sum{{{labels}}} {sum}");
            let _ = writeln!(text, "wasm_host_{name}_count{{{labels}}} {count}");
        }
    }
}

fn family<'a>(
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    values: Vec<(String, String)>,
) -> Family<'a> {
    Family {
        name,
        kind,
        help,
        values,
    }
}

impl Family<'_> {
    fn write(&self, text: &mut String) {
        if self.values.is_empty() {
            return;
        }
        let Family {
            name, kind, help, ..
        } = self;
        let _ = writeln!(
            text,
            "# HELP wasm_host_{name} {help}\n# TYPE wasm_host_{name} {kind}"
        );
        for (labels, value) in &self.values {
            let _ = writeln!(text, "wasm_host_{name}{{{labels}}} {value}");
        }
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}
