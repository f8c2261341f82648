//! `inputs`, `outputs` and `dead-letters` of a stage: which port is bound to which stream.

use std::ops::Range;

use crate::config::names;
use crate::config::setting::Problem;
use crate::config::stage::{InputPort, OutputPort, Start, StartEnd};
use crate::config::table::{Entry, Table};

/// A stream's name in a stage, and its place in the file.
pub(super) struct StreamRef<'a> {
    pub(super) stream: &'a str,
    pub(super) span: Range<usize>,
}

/// An input, and the places of its parts in the file.
pub(super) struct Input<'a> {
    pub(super) port: InputPort,
    pub(super) stream: StreamRef<'a>,
    pub(super) start_span: Range<usize>,
}

/// An output, and the place of its stream in the file.
pub(super) struct Output<'a> {
    pub(super) port: OutputPort,
    pub(super) stream: StreamRef<'a>,
}

/// A port as it is written: its name, and what it is bound to.
struct Written<'a> {
    port: &'a str,
    bound: Entry<'a>,
}

const INPUTS_HELP: &str = "write inputs = [\"STREAM\"], or inputs = { PORT = \"STREAM\" }";
const OUTPUTS_HELP: &str = "write outputs = [\"STREAM\"], or outputs = { PORT = \"STREAM\" }";

/// The inputs of a stage: at least one.
pub(super) fn inputs<'a>(stage: &mut Table<'a>, declared: &[Entry<'a>]) -> Vec<Input<'a>> {
    let Some(entry) = stage.entry("inputs") else {
        stage.missing("inputs", INPUTS_HELP);
        return Vec::new();
    };
    let Some(written) = written(&entry, INPUTS_HELP) else {
        return Vec::new();
    };
    if written.is_empty() {
        entry.error(Problem::new("a stage has at least one input").help(INPUTS_HELP));
    }
    let mut inputs: Vec<Input<'_>> = Vec::new();
    for Written { port, bound, .. } in written {
        let start_span = bound.span.clone();
        let (stream, start, start_span) = if bound.is_table() {
            let Some(mut table) = bound.table("{ stream = \"STREAM\", start = … }") else {
                continue;
            };
            let stream = table.entry("stream");
            if stream.is_none() {
                table.missing("stream", "write { stream = \"STREAM\", start = … }");
            }
            let start = table.entry("start");
            let span = start
                .as_ref()
                .map_or(start_span, |start| start.span.clone());
            table.finish(|_| None);
            (stream, start, span)
        } else {
            (Some(bound), None, start_span)
        };
        let start = match start {
            Some(entry) => self::start(&entry),
            None => Some(Start::End(StartEnd::Oldest.into())),
        };
        let Some(stream) = stream.and_then(|entry| stream_ref(&entry, declared)) else {
            continue;
        };
        if let Some(first) = inputs
            .iter()
            .find(|input| input.port.stream == stream.stream)
        {
            let problem = Problem::new(format!(
                "stream \"{}\" is already the input `{}` of this stage",
                stream.stream, first.port.port
            ));
            stage
                .cx
                .error(&stream.span, problem.help("a stage reads a stream once"));
            continue;
        }
        inputs.push(Input {
            port: InputPort {
                port: port.to_owned(),
                stream: stream.stream.to_owned(),
                start: start.unwrap_or(Start::End(StartEnd::Oldest.into())),
            },
            stream,
            start_span,
        });
    }
    inputs
}

/// The outputs of a stage; there may be none.
pub(super) fn outputs<'a>(stage: &mut Table<'a>, declared: &[Entry<'a>]) -> Vec<Output<'a>> {
    let Some(written) = stage
        .entry("outputs")
        .and_then(|entry| written(&entry, OUTPUTS_HELP))
    else {
        return Vec::new();
    };
    let outputs = written
        .into_iter()
        .filter_map(|Written { port, bound, .. }| {
            let stream = stream_ref(&bound, declared)?;
            let port = OutputPort {
                port: port.to_owned(),
                stream: stream.stream.to_owned(),
            };
            Some(Output { port, stream })
        });
    outputs.collect()
}

/// A list of streams, which are the ports, or a table from ports to streams. Ports that are not valid, or come twice,
/// are noted and left out.
fn written<'a>(entry: &Entry<'a>, help: &str) -> Option<Vec<Written<'a>>> {
    let mut ports: Vec<Written<'_>> = Vec::new();
    if entry.is_table() {
        let entries = entry.table(entry.key)?.into_entries();
        for bound in entries {
            if let Some(port) = bound.key_name("port") {
                ports.push(Written { port, bound });
            }
        }
        return Some(ports);
    }
    for bound in entry.list(help)? {
        if bound.is_table() {
            let problem = Problem::new(format!(
                "an element of `{}` is the name of a stream",
                entry.key
            ));
            bound.error(problem.help(match entry.key {
                "inputs" => "with `start`: inputs = { PORT = { stream = \"STREAM\", start = … } }",
                _ => help,
            }));
            continue;
        }
        let Some(port) = bound.name("stream") else {
            continue;
        };
        if ports.iter().any(|other| other.port == port) {
            bound.error(Problem::new(format!(
                "\"{port}\" is in `{}` twice",
                entry.key
            )));
            continue;
        }
        ports.push(Written { port, bound });
    }
    Some(ports)
}

/// The name of a declared stream.
pub(super) fn stream_ref<'a>(entry: &Entry<'a>, declared: &[Entry<'a>]) -> Option<StreamRef<'a>> {
    let stream = entry.name("stream")?;
    let names: Vec<_> = declared.iter().map(|stream| stream.key).collect();
    if !names.contains(&stream) {
        let problem = Problem::new(format!("unknown stream \"{stream}\""));
        entry.error(match names::nearest(stream, &names) {
            Some(name) => problem.help(format!("did you mean \"{name}\"?")),
            None if names.is_empty() => problem.help(format!("declare it: [streams.{stream}]")),
            None => problem.help(format!(
                "declare it as [streams.{stream}]; declared: {}",
                names::quoted(&names)
            )),
        });
        return None;
    }
    Some(StreamRef {
        stream,
        span: entry.span.clone(),
    })
}

/// `"oldest"`, `"latest"`, `{ offset = N }`, `{ time = "…" }` or `{ group = "…" }`.
fn start(entry: &Entry<'_>) -> Option<Start> {
    let help = "write \"oldest\", \"latest\", { offset = N }, { time = \"2026-01-31T12:00:00Z\" } or, for Kafka, { group = \"…\" }";
    if entry.string().is_some() {
        return entry.text().map(Start::End);
    }
    if !entry.is_table() {
        entry.wrong_type("where to start", help);
        return None;
    }
    let mut table = entry.table("start")?;
    let (offset, time) = (table.entry("offset"), table.entry("time"));
    let group = table.entry("group");
    table.finish(|_| None);
    match (offset, time, group) {
        (Some(offset), None, None) => offset
            .integer(0..=i64::MAX.unsigned_abs())
            .map(|offset| Start::Offset { offset }),
        (None, Some(time), None) => time.time().map(|time| Start::Time { time }),
        (None, None, Some(group)) => group.text().map(|group| Start::Group { group }),
        _ => {
            entry.error(Problem::new("`start` is one place").help(help));
            None
        }
    }
}
