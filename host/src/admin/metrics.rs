//! Figures in Prometheus' text format.

use std::fmt::Write as _;

use std::time::Duration;

use crate::connectors::{Standing, TransactionTook};
use crate::coordinator::{Doing, InputStatus, Status, TaskStatus};
use crate::model::{Clock as _, SystemClock, TimestampMs};
use crate::records::{CheckpointRecord, StageRecord, SwapRecord};
use crate::runtime::MetricValue;

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// A figure of the host.
struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    of: Of,
}

/// What has a value of the figure.
enum Of {
    Job(fn(&Status) -> u64),
    /// The last checkpoint, if there is one.
    Last(fn(&CheckpointRecord) -> String),
    Task(fn(&TaskStatus) -> u64),
    /// The same, from nanoseconds.
    TaskSeconds(fn(&TaskStatus) -> u64),
    /// Calls of a task that failed, by kind.
    Faults,
    /// A stream with dead letters, if the value is known.
    Letters(fn(Option<u64>, u64) -> Option<u64>),
    /// What stages hold.
    Holds,
    /// What a stage records, and its last swap: more labels, and the value.
    Stages(fn(&StageRecord, Option<&SwapRecord>) -> Values),
    /// Swaps by stage and end.
    Swaps,
    /// A place that the job depends on: more labels, and the value.
    Remotes(fn(&Standing, TimestampMs) -> Values),
    /// An input of a task, if the value is known.
    Input(fn(&InputStatus) -> Option<u64>),
}

/// Labels, and the value with each.
type Values = Vec<(String, String)>;

/// All figures of the host, in the order in which they are shown.
const FIGURES: [Figure; 44] = [
    figure(
        "messages_processed_total",
        COUNTER,
        "Messages processed since the start of the job.",
        Of::Task(|task| task.processed),
    ),
    figure(
        "messages_rejected_total",
        COUNTER,
        "Messages rejected since the start of the job.",
        Of::Task(|task| task.rejected),
    ),
    figure(
        "messages_condemned_total",
        COUNTER,
        "Messages and records found to be at fault and passed over since the start of the job.",
        Of::Task(|task| task.counts.condemned),
    ),
    figure(
        "messages_dead_lettered_total",
        COUNTER,
        "Messages and records that became dead letters since the start of the job.",
        Of::Task(|task| task.counts.dead_lettered),
    ),
    figure(
        "messages_passed_over_total",
        COUNTER,
        "Messages and records passed over without a dead letter since the start of the job.",
        Of::Task(|task| task.counts.skipped),
    ),
    figure(
        "faults_total",
        COUNTER,
        "Calls that failed since the start of the process.",
        Of::Faults,
    ),
    figure(
        "isolations_total",
        COUNTER,
        "Searches for the message that is to blame for a fault since the start of the process.",
        Of::Task(|task| task.isolations.0),
    ),
    figure(
        "isolation_seconds_total",
        COUNTER,
        "How long these searches took.",
        Of::TaskSeconds(|task| task.isolations.1),
    ),
    figure(
        "call_guest_seconds_total",
        COUNTER,
        "How long calls were in the component, by samples every 5 ms.",
        Of::TaskSeconds(|task| task.call_times.0),
    ),
    figure(
        "call_host_seconds_total",
        COUNTER,
        "How long calls were in functions of the host, by samples every 5 ms.",
        Of::TaskSeconds(|task| task.call_times.1),
    ),
    figure(
        "dead_letters_open",
        GAUGE,
        "Dead letters that nobody has replayed or dropped.",
        Of::Letters(|open, _| open),
    ),
    figure(
        "dead_letters_expired_total",
        COUNTER,
        "Open dead letters that retention has deleted since the start of the process.",
        Of::Letters(|_, expired| Some(expired)),
    ),
    figure(
        "replay_queue_messages",
        GAUGE,
        "Dead letters that wait to be processed again.",
        Of::Task(|task| task.queued),
    ),
    figure(
        "parked_keys",
        GAUGE,
        "Keys that wait for a dead letter.",
        Of::Task(|task| task.parked),
    ),
    figure(
        "batch_limit",
        GAUGE,
        "Messages of a batch at most: fewer than `batch-messages` after a batch that was too much together.",
        Of::Task(|task| task.batch_limit),
    ),
    figure(
        "task_restarts_total",
        COUNTER,
        "How often a task tried again to go on because of `restart`, since the start of the process.",
        Of::Task(|task| task.restarts),
    ),
    figure(
        "component_info",
        GAUGE,
        "1, with the component that a stage runs.",
        Of::Stages(|stage, _| {
            let code = &stage.code;
            let component = label("component", &code.component);
            vec![(
                format!("{component},{}", label("label", &code.label)),
                "1".to_owned(),
            )]
        }),
    ),
    figure(
        "swaps_total",
        COUNTER,
        "Swaps by their end since the start of the process.",
        Of::Swaps,
    ),
    figure(
        "swap_pause_seconds",
        GAUGE,
        "The longest time that a task was away for the last swap of its stage.",
        Of::Stages(|_, last| {
            let pause = last.map(|last| (String::new(), seconds(last.counts.pause_us)));
            pause.into_iter().collect()
        }),
    ),
    figure(
        "hold_bytes",
        GAUGE,
        "Bytes of output that waits, and of the old state that would come back with a way back.",
        Of::Holds,
    ),
    figure(
        "tasks_held",
        GAUGE,
        "Tasks that wait for a person.",
        Of::Job(|status| {
            let held = status.tasks.iter().filter(|task| task.doing == Doing::Held);
            held.count() as u64
        }),
    ),
    figure(
        "batches_total",
        COUNTER,
        "Batches kept since the start of the process.",
        Of::Task(|task| task.batches),
    ),
    figure(
        "batches_undone_total",
        COUNTER,
        "Batches undone since the start of the process.",
        Of::Task(|task| task.undone),
    ),
    figure(
        "instances_made_total",
        COUNTER,
        "Instances made since the start of the process.",
        Of::Task(|task| task.instances),
    ),
    figure(
        "instances_recycled_total",
        COUNTER,
        "Instances replaced by [stage.limits] since the start of the process.",
        Of::Task(|task| task.recycled),
    ),
    figure(
        "input_position",
        GAUGE,
        "The offset of the next message.",
        Of::Input(|input| Some(input.position)),
    ),
    figure(
        "input_lag_messages",
        GAUGE,
        "Messages behind the end.",
        Of::Input(|input| input.lag),
    ),
    figure(
        "messages_skipped_total",
        COUNTER,
        "Messages that were gone before they were read (`drop-unread`), since the start of the process.",
        Of::Input(|input| Some(input.skipped)),
    ),
    figure(
        "instances",
        GAUGE,
        "Instances alive.",
        Of::Job(|status| status.instances),
    ),
    figure(
        "epoch",
        GAUGE,
        "The last committed epoch.",
        Of::Job(|status| status.epoch.0),
    ),
    figure(
        "checkpoints_total",
        COUNTER,
        "Checkpoints since the start of the process.",
        Of::Job(|status| status.checkpoints),
    ),
    figure(
        "checkpoint_attempts_failed_total",
        COUNTER,
        "Checkpoint attempts that failed.",
        Of::Job(|status| status.failed_attempts),
    ),
    figure(
        "checkpoint_last_duration_seconds",
        GAUGE,
        "From the barrier until the checkpoint was durable.",
        Of::Last(|last| seconds(last.duration_us)),
    ),
    figure(
        "checkpoint_last_pause_seconds",
        GAUGE,
        "The longest pause of a task in the last checkpoint.",
        Of::Last(|last| seconds(last.pause_us)),
    ),
    figure(
        "checkpoint_last_bytes",
        GAUGE,
        "Bytes of the last checkpoint.",
        Of::Last(|last| last.bytes.to_string()),
    ),
    figure(
        "uncommitted_bytes",
        GAUGE,
        "Bytes that are not committed.",
        Of::Job(|status| status.open_bytes + status.sealed_bytes),
    ),
    figure(
        "uncommitted_bytes_max",
        GAUGE,
        "How many bytes may be uncommitted.",
        Of::Job(|status| status.bytes_max),
    ),
    figure(
        "cache_bytes",
        GAUGE,
        "Bytes of committed values at hand.",
        Of::Job(|status| status.cache.0),
    ),
    figure(
        "tasks_failed",
        GAUGE,
        "Tasks that stopped.",
        Of::Job(|status| status.failures.len() as u64),
    ),
    figure(
        "kafka_away_seconds",
        GAUGE,
        "For how long no broker of the cluster has been reached.",
        Of::Remotes(|remote, now| since(remote.away_since, now)),
    ),
    figure(
        "kafka_undelivered_seconds",
        GAUGE,
        "For how long output has waited for the cluster to take it.",
        Of::Remotes(|remote, now| {
            let waits = remote.undelivered.as_ref();
            since(waits.map(|(since, _)| *since), now)
        }),
    ),
    figure(
        "kafka_transactions_total",
        COUNTER,
        "Transactions committed since the start of the process.",
        Of::Remotes(|remote, _| vec![(String::new(), remote.transactions.to_string())]),
    ),
    figure(
        "kafka_transaction_last_seconds",
        GAUGE,
        "How long the parts of the last transaction took.",
        Of::Remotes(|remote, _| {
            let parts = remote.last_transaction.into_iter().flat_map(|took| {
                let TransactionTook {
                    send,
                    drain,
                    commit,
                } = took;
                [("send", send), ("drain", drain), ("commit", commit)]
            });
            let part = |(phase, took): (&str, Duration)| {
                (label("phase", phase), took.as_secs_f64().to_string())
            };
            parts.map(part).collect()
        }),
    ),
    figure(
        "kafka_producers_replaced_total",
        COUNTER,
        "Producers replaced since the start of the process: stale, because the end of a transaction was sent more than once, or broken.",
        Of::Remotes(|remote, _| {
            let reasons = [
                ("stale", remote.producers_stale),
                ("broken", remote.producers_broken),
            ];
            let reason =
                |(reason, count): (&str, u64)| (label("reason", reason), count.to_string());
            reasons.map(reason).to_vec()
        }),
    ),
];

/// The seconds that something has lasted; 0: it is not so.
fn since(begun: Option<TimestampMs>, now: TimestampMs) -> Values {
    let ms = begun.map_or(0, |begun| (now - begun).max(1));
    vec![(String::new(), format!("{}.{:03}", ms / 1000, ms % 1000))]
}

const fn figure(name: &'static str, kind: &'static str, help: &'static str, of: Of) -> Figure {
    Figure {
        name,
        kind,
        help,
        of,
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// A figure to be written: its name, kind, help, and the values by labels.
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    values: Vec<(String, String)>,
}

pub(super) fn render(status: &Status) -> String {
    let mut text = String::new();
    for figure in &FIGURES {
        let values = figure.of.values(status);
        family(figure.name, figure.kind, figure.help, values).write(&mut text);
    }
    let job = label("job", &status.job);
    for (name, value) in &status.database {
        let name = format!("rocksdb_{}", name.replace('-', "_"));
        let help = "A figure of RocksDB for the state column family.";
        let values = vec![(job.clone(), value.to_string())];
        family(&name, GAUGE, help, values).write(&mut text);
    }
    for (stage, metrics) in &status.metrics {
        let labels = format!("{job},{}", label("stage", stage));
        for (name, value) in metrics {
            let name = format!("guest_{}", name.replace('-', "_"));
            write_guest(&mut text, &name, &labels, value);
        }
    }
    text
}

/// The values of a figure of each stage.
fn of_stages(
    status: &Status,
    job: &str,
    value: fn(&StageRecord, Option<&SwapRecord>) -> Values,
) -> Values {
    let mut values = Vec::new();
    for (stage, record) in &status.stages {
        let mut newest_first = status.swaps.iter().rev();
        let last = newest_first.find(|(_, swap)| swap.stage == *stage);
        for (more, value) in value(record, last.map(|(_, swap)| swap)) {
            let labels = format!("{job},{}", label("stage", stage));
            let comma = if more.is_empty() { "" } else { "," };
            values.push((format!("{labels}{comma}{more}"), value));
        }
    }
    values
}

/// The bytes that stages hold.
fn of_holds(status: &Status, job: &str) -> Values {
    let stages = status.stages.iter();
    let held = stages.filter_map(|(stage, record)| {
        let bytes = status.holds.get(&record.id)?.bytes();
        let labels = format!("{job},{}", label("stage", stage));
        Some((labels, bytes.to_string()))
    });
    held.collect()
}

impl Of {
    /// The values with their labels.
    fn values(&self, status: &Status) -> Vec<(String, String)> {
        let job = label("job", &status.job);
        let labels = |task: &TaskStatus| format!("{job},{}", label("task", &task.task));
        match self {
            Of::Holds => of_holds(status, &job),
            Of::Job(value) => vec![(job, value(status).to_string())],
            Of::Last(value) => {
                let last = status.last_checkpoint.iter();
                last.map(|last| (job.clone(), value(last))).collect()
            }
            Of::Task(value) => {
                let tasks = status.tasks.iter();
                tasks
                    .map(|task| (labels(task), value(task).to_string()))
                    .collect()
            }
            Of::TaskSeconds(value) => {
                let tasks = status.tasks.iter();
                tasks
                    .map(|task| (labels(task), seconds(value(task) / 1_000)))
                    .collect()
            }
            Of::Faults => {
                let mut values = Vec::new();
                for task in &status.tasks {
                    for (kind, count) in &task.faults {
                        let labels = format!("{},{}", labels(task), label("kind", kind.name()));
                        values.push((labels, count.to_string()));
                    }
                }
                values
            }
            Of::Letters(value) => {
                let streams = status.letters.iter();
                let known = streams.filter_map(|(stream, open, expired)| {
                    let labels = format!("{job},{}", label("stream", stream));
                    Some((labels, value(*open, *expired)?.to_string()))
                });
                known.collect()
            }
            Of::Stages(value) => of_stages(status, &job, *value),
            Of::Swaps => {
                let outcomes = status.swap_outcomes.iter();
                let value = |((stage, outcome), count): (&(String, &str), &u64)| {
                    let (stage, outcome) = (label("stage", stage), label("outcome", outcome));
                    (format!("{job},{stage},{outcome}"), count.to_string())
                };
                outcomes.map(value).collect()
            }
            Of::Remotes(value) => of_remotes(status, &job, *value),
            Of::Input(value) => {
                let mut values = Vec::new();
                for task in &status.tasks {
                    for input in &task.inputs {
                        let labels = format!("{},{}", labels(task), label("stream", &input.stream));
                        values.extend(value(input).map(|value| (labels, value.to_string())));
                    }
                }
                values
            }
        }
    }
}

fn of_remotes(status: &Status, job: &str, value: fn(&Standing, TimestampMs) -> Values) -> Values {
    let now = SystemClock.now_ms();
    let mut values = Vec::new();
    for remote in &status.remotes {
        let cluster = label("cluster", &remote.name);
        values.extend(value(remote, now).into_iter().map(|(labels, value)| {
            let comma = if labels.is_empty() { "" } else { "," };
            (format!("{job},{cluster}{comma}{labels}"), value)
        }));
    }
    values
}

fn write_guest(text: &mut String, name: &str, labels: &str, value: &MetricValue) {
    let help = "Reported by the guest.";
    match value {
        MetricValue::Counter(sum) => {
            let name = format!("{name}_total");
            family(
                &name,
                COUNTER,
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
            family(name, GAUGE, help, values.collect()).write(text);
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
