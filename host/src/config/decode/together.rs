//! Checks of parts that are valid alone but not together: stages against streams, limits against checkpoints.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cluster;
use super::general::Located;
use super::ports::StreamRef;
use super::stage::Draft;
use super::stream::Declared;
use crate::config::cluster::Cluster;
use crate::config::faults::{DeadLetterOrder, OnFault, OnRejected};
use crate::config::names;
use crate::config::setting::Problem;
use crate::config::stage::{Start, StartEnd};
use crate::config::systems::{OutputFormat, System, SystemName};
use crate::config::table::Context;

/// Checks all stages against all streams, and fills in how many partitions each stage has.
pub(super) fn check(
    cx: &Context<'_>,
    declared: &[Declared<'_>],
    stages: &mut [Draft<'_>],
    checkpoint: Option<&Located>,
) {
    unique_names(cx, stages);
    let stream = |of: &StreamRef<'_>| declared.iter().find(|declared| declared.key == of.stream);
    let mut stdin: Option<&str> = None;
    for stage in stages.iter() {
        for input in &stage.inputs {
            let Some(declared) = stream(&input.stream) else {
                continue;
            };
            can_be_read(cx, declared, &input.stream);
            start(cx, declared, &input.port.start, &input.start_span);
            if declared.system == Some(SystemName::Stdin) {
                match stdin {
                    Some(first) if first != declared.key => {
                        let problem =
                            Problem::new(format!("stream \"{first}\" reads stdin already"));
                        cx.error(&input.stream.span, problem);
                    }
                    _ => stdin = Some(declared.key),
                }
            }
        }
        let outputs = stage.outputs.iter().map(|output| &output.stream);
        for output in outputs.chain(&stage.dead_letters) {
            if let Some(declared) = stream(output) {
                let read = stages.iter().any(|stage| stage.reads(output.stream));
                can_be_written(cx, declared, output, read);
            }
        }
        if let Some(dead_letters) = &stage.dead_letters {
            self::dead_letters(cx, stage, dead_letters, stream(dead_letters));
        }
        deadline(cx, stage, checkpoint);
    }
    for stage in stages {
        let partitions = partitions(cx, stage, declared);
        if let Some(stage) = &mut stage.stage {
            stage.partitions = partitions;
        }
    }
    kafka(cx, declared);
    unused(cx, declared);
}

/// A running call is not cut short by a checkpoint, so it must be able to end within one attempt.
fn deadline(cx: &Context<'_>, stage: &Draft<'_>, checkpoint: Option<&Located>) {
    let (
        Some(decoded),
        Some(Located {
            checkpoint,
            timeout_span,
        }),
    ) = (&stage.stage, checkpoint)
    else {
        return;
    };
    let (deadline, timeout) = (&decoded.limits.call_deadline, &checkpoint.timeout);
    let span = stage.call_deadline_span.as_ref().or(timeout_span.as_ref());
    if let Some(span) = span
        && **deadline > **timeout
    {
        let problem = Problem::new(format!(
            "a call may run for {deadline}, longer than the {timeout} after which a checkpoint fails"
        ));
        let help = "`call-deadline` in [stage.limits] is at most `timeout` in [checkpoint]";
        cx.error(span, problem.help(help));
    }
}

fn unique_names(cx: &Context<'_>, stages: &[Draft<'_>]) {
    let mut seen: Vec<&str> = Vec::new();
    for (name, span) in stages.iter().filter_map(|stage| stage.name.as_ref()) {
        if seen.contains(name) {
            cx.error(
                span,
                Problem::new(format!("another stage is named \"{name}\"")),
            );
        }
        seen.push(name);
    }
}

fn can_be_read(cx: &Context<'_>, declared: &Declared<'_>, at: &StreamRef<'_>) {
    let Some(system) = declared.system else {
        return;
    };
    if !system.can_be_read() {
        let problem = Problem::new(format!(
            "stream \"{}\" cannot be read: its system is `{}`",
            declared.key,
            system.as_str()
        ));
        let systems = names::ticked(&SystemName::readable());
        cx.error(
            &at.span,
            problem.help(format!("systems that can be read: {systems}")),
        );
    }
}

fn can_be_written(cx: &Context<'_>, declared: &Declared<'_>, at: &StreamRef<'_>, read: bool) {
    let Some(system) = declared.system else {
        return;
    };
    if !system.can_be_written() {
        let problem = Problem::new(format!(
            "stream \"{}\" cannot be written: its system is `{}`",
            declared.key,
            system.as_str()
        ));
        let systems = names::ticked(&SystemName::writable());
        cx.error(
            &at.span,
            problem.help(format!("systems that can be written: {systems}")),
        );
    } else if system == SystemName::File && read {
        let problem = Problem::new(format!(
            "stream \"{}\" is read, and a `file` stream is either read or written",
            declared.key
        ));
        cx.error(
            &at.span,
            problem.help("declare a second stream, or use system = \"log\""),
        );
    }
}

/// Where reading can start depends on whether the system knows a past and an end.
fn start(cx: &Context<'_>, declared: &Declared<'_>, start: &Start, at: &Range<usize>) {
    let (at_end, at_offset, at_time) = match start {
        Start::End(end) => (**end == StartEnd::Latest, false, false),
        Start::Offset { .. } => (false, true, false),
        Start::Time { .. } => (false, false, true),
        Start::Group { .. } => (false, false, false),
    };
    let of_group = matches!(start, Start::Group { .. });
    let problem = match declared.system {
        Some(system) if of_group && system != SystemName::Kafka => {
            Problem::new("consumer groups are Kafka's")
                .help("write \"oldest\", \"latest\", { offset = N } or { time = \"…\" }")
        }
        Some(SystemName::Stdin) if at_end || at_offset || at_time => {
            Problem::new("stdin cannot start at a chosen place").help("leave `start` out")
        }
        Some(SystemName::Generate) if at_end || at_time => {
            Problem::new("generated messages have no end and no past to start at")
                .help("leave `start` out, or write { offset = N }")
        }
        Some(SystemName::File) if at_time && lacks_timestamp(declared) => {
            Problem::new("a file can be read from a time on only where its records have one")
                .help(format!("give [streams.{}] a `timestamp`", declared.key))
        }
        _ => return,
    };
    cx.error(at, problem);
}

fn lacks_timestamp(declared: &Declared<'_>) -> bool {
    let system = declared.stream.as_ref().map(|stream| &stream.system);
    matches!(system, Some(System::FileInput(file)) if file.timestamp.is_none())
}

fn dead_letters(
    cx: &Context<'_>,
    stage: &Draft<'_>,
    at: &StreamRef<'_>,
    declared: Option<&Declared<'_>>,
) {
    if stage.reads(at.stream) {
        let problem = Problem::new(format!(
            "stream \"{}\" is an input of this stage: a dead letter would come back for ever",
            at.stream
        ));
        cx.error(
            &at.span,
            problem.help("declare a stream of its own for dead letters"),
        );
    }
    let sent = stage.stage.as_ref().is_some_and(|stage| {
        *stage.on_rejected == OnRejected::DeadLetter || *stage.on_fault == OnFault::DeadLetter
    });
    let in_order = stage.stage.as_ref();
    let in_order = in_order.is_some_and(|stage| *stage.dead_letter_order == DeadLetterOrder::Key);
    if let (true, Some(stream)) = (in_order, declared.and_then(|found| found.stream.as_ref())) {
        let why = match &stream.system {
            System::Log(log) if log.retention.is_none() => None,
            System::Log(_) => Some("retention would delete letters that their keys wait for"),
            _ => Some(
                "letters that are not in a log cannot be replayed, and their keys would wait for ever",
            ),
        };
        if let Some(why) = why {
            let problem = Problem::new(format!("`dead-letter-order = \"key\"`: {why}"));
            let help =
                "let `dead-letters` be a stream with system = \"log\" and without `retention`";
            cx.error(&stage.order_span, problem.help(help));
        }
    }
    let format = match declared.and_then(|declared| declared.stream.as_ref()) {
        Some(stream) => match &stream.system {
            System::FileOutput(file) => Some(*file.format),
            System::Stdout(stdout) => Some(*stdout.format),
            _ => None,
        },
        None => None,
    };
    if sent && format.is_some_and(|format| format != OutputFormat::Message) {
        let problem = Problem::new(format!(
            "stream \"{}\" does not show why a message is a dead letter",
            at.stream
        ));
        let help = "the reason is in the headers, which are written with format = \"message\" only";
        cx.warn(&at.span, problem.help(help));
    }
}

/// Keys of a topic that are for one direction only.
fn kafka(cx: &Context<'_>, declared: &[Declared<'_>]) {
    for declared in declared {
        let Some(stream) = &declared.stream else {
            continue;
        };
        if let System::Kafka(kafka) = &stream.system
            && kafka.until.is_some()
            && stream.written
            && !stream.read
        {
            let problem = Problem::new(format!("no stage reads stream \"{}\"", declared.key));
            let help = "`until` is for streams that are read: leave it out";
            cx.error(&declared.key_span, problem.help(help));
        }
    }
}

/// The clusters, of which each says whether it is used.
pub(super) fn used_clusters(
    cx: &Context<'_>,
    clusters: Vec<cluster::Declared<'_>>,
    declared: &[Declared<'_>],
) -> Option<BTreeMap<String, Cluster>> {
    let lies_in = |declared: &Declared<'_>, cluster: &str| {
        let stream = declared.stream.as_ref();
        let used = stream.filter(|stream| stream.read || stream.written);
        matches!(used.map(|stream| &stream.system), Some(System::Kafka(kafka)) if kafka.cluster == cluster)
    };
    let finish = |cluster: cluster::Declared<'_>| {
        let used = declared
            .iter()
            .any(|declared| lies_in(declared, cluster.key));
        if !used {
            let problem = Problem::new(format!("no stream lies in cluster \"{}\"", cluster.key));
            cx.warn(&cluster.key_span, problem);
        }
        cluster.finish(used)
    };
    clusters.into_iter().map(finish).collect()
}

/// How many tasks a stage has. Partition p of each input goes to task p. `None`: as many as topics have, which brokers know.
fn partitions(cx: &Context<'_>, stage: &Draft<'_>, declared: &[Declared<'_>]) -> Option<u32> {
    let mut first: Option<(&str, u32)> = None;
    for input in &stage.inputs {
        let found = declared
            .iter()
            .find(|declared| declared.key == input.stream.stream);
        let Some(stream) = found.and_then(|declared| declared.stream.as_ref()) else {
            continue;
        };
        let Some(partitions) = stream.partitions() else {
            continue;
        };
        match first {
            None => first = Some((input.stream.stream, partitions)),
            Some((_, expected)) if expected == partitions => {}
            Some((name, expected)) => {
                let problem = Problem::new(format!(
                    "input \"{}\" has {}, input \"{name}\" has {expected}",
                    input.stream.stream,
                    names::counted(partitions, "partition"),
                ));
                let help = format!(
                    "partition p of every input goes to task p: {}",
                    repartition(&stream.system, input.stream.stream, name, expected)
                );
                cx.error(&input.stream.span, problem.help(help));
            }
        }
    }
    first.map(|(_, partitions)| partitions)
}

/// How to give a stream as many partitions as another has.
fn repartition(system: &System, stream: &str, other: &str, partitions: u32) -> String {
    match system {
        System::FileInput(file) if file.key.is_none() && partitions > 1 => format!(
            "give [streams.{stream}] a key and partitions = {partitions}, or [streams.{other}] as few"
        ),
        System::FileInput(_) | System::Generate(_) => {
            format!("set partitions = {partitions} in [streams.{stream}]")
        }
        System::Stdin(_) | System::Stdout(_) | System::FileOutput(_) => format!(
            "stdin has one: set partitions = 1 in [streams.{other}], \
             or put its lines into a log of {partitions} with `wasm-host log produce`"
        ),
        System::Kafka(_) => format!(
            "give [streams.{other}] as many, or copy one of them to a topic with {partitions}"
        ),
        System::Log(_) => format!(
            "set partitions = {partitions} in [streams.{stream}] before the first start, \
             or copy it to a log of {partitions} with `wasm-host log consume` and `log produce`"
        ),
    }
}

fn unused(cx: &Context<'_>, declared: &[Declared<'_>]) {
    for declared in declared {
        if let Some(stream) = &declared.stream
            && !stream.read
            && !stream.written
        {
            let problem = Problem::new(format!("no stage uses stream \"{}\"", declared.key));
            cx.warn(&declared.key_span, problem);
        }
    }
}
