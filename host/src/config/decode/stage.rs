//! `[[stage]]`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::at_home;
use super::faults;
use super::general::{positive, size_in};
use super::ports::{self, Input, Output, StreamRef};
use crate::config::Look;
use crate::config::setting::{Problem, Setting};
use crate::config::stage::{Capabilities, Directory, Limits, Stage, Store, StoreKind};
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;

/// One call may stage this much, so no single value can be longer.
const VALUE_BYTES_MAX: ByteSize = ByteSize::mib(16);

/// Keys are compared and copied all the time.
const KEY_BYTES_MAX: ByteSize = ByteSize::mib(1);

/// A guest's own data and stack need this much.
const MEMORY_MIN: ByteSize = ByteSize::mib(1);

/// All that a 32-bit guest can address.
const MEMORY_MAX: ByteSize = ByteSize::mib(4096);

/// Beyond it a batch is not cheaper, only later.
const BATCH_MESSAGES_MAX: u32 = 1_000_000;

/// Beyond it a batch is not cheaper, only larger.
const BATCH_BYTES_MAX: ByteSize = ByteSize::mib(64);

/// A stage as far as it could be read, and the places of its parts in the file.
pub(super) struct Draft<'a> {
    /// Its name, if that is valid.
    pub(super) name: Option<(&'a str, Range<usize>)>,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<Output<'a>>,
    pub(super) dead_letters: Option<StreamRef<'a>>,
    /// The place of the order of dead letters.
    pub(super) order_span: Range<usize>,
    /// The place of the deadline of a call, if it is set.
    pub(super) call_deadline_span: Option<Range<usize>>,
    /// The places of the granted folders, in their order.
    pub(super) grant_spans: Vec<Range<usize>>,
    /// `None` if something is missing or wrong, which has been noted. Its number of partitions is not yet known.
    pub(super) stage: Option<Stage>,
}

impl Draft<'_> {
    /// Whether the stage reads a stream.
    pub(super) fn reads(&self, stream: &str) -> bool {
        self.inputs
            .iter()
            .any(|input| input.stream.stream == stream)
    }

    /// Whether the stage writes to a stream, dead letters included.
    pub(super) fn writes(&self, stream: &str) -> bool {
        let outputs = self.outputs.iter().map(|output| &output.stream);
        outputs
            .chain(&self.dead_letters)
            .any(|output| output.stream == stream)
    }
}

/// Reads a stage.
pub(super) fn decode<'a>(mut table: Table<'a>, declared: &[Entry<'a>]) -> Draft<'a> {
    let name = match table.entry("name") {
        Some(entry) => entry.name("stage").map(|name| (name, entry.span)),
        None => {
            table.missing("name", "write name = \"…\"");
            None
        }
    };
    let component = component(&mut table);
    let sha256 = table.text("sha256");
    let inputs = ports::inputs(&mut table, declared);
    let outputs = ports::outputs(&mut table, declared);
    let faults = faults::decode(&mut table, declared);
    let batch_messages = table.integer_u32("batch-messages", 1..=BATCH_MESSAGES_MAX);
    let batch_bytes = size_in(&mut table, "batch-bytes", ByteSize(1), BATCH_BYTES_MAX);
    let stores = stores(&mut table);
    let config = config(&mut table);
    let (limits, call_deadline_span) = limits(&mut table);
    let (capabilities, grant_spans) = capabilities(&mut table);
    table.finish(|key| at_home(key, "[[stage]]"));

    let batch_bytes = batch_bytes.unwrap_or(Stage::BATCH_BYTES.into());
    if *batch_bytes >= *limits.memory {
        let problem = Problem::new(format!(
            "`batch-bytes` of {batch_bytes} does not fit in the guest's `memory` of {}",
            limits.memory
        ));
        table.cx.error(
            &table.span_of("batch-bytes"),
            problem.help("make batches smaller, or `memory` in [stage.limits] larger"),
        );
    }
    let stage = || {
        Some(Stage {
            name: name.as_ref()?.0.to_owned(),
            component: component?,
            sha256,
            partitions: 0,
            inputs: inputs.iter().map(|input| input.port.clone()).collect(),
            outputs: outputs.iter().map(|output| output.port.clone()).collect(),
            on_rejected: faults.on_rejected,
            on_fault: faults.on_fault,
            dead_letters: faults
                .dead_letters
                .as_ref()
                .map(|stream| stream.stream.to_owned()),
            dead_letter_order: faults.order,
            when_held: faults.when_held,
            retry: faults.retry,
            breaker: faults.breaker,
            restart: faults.restart,
            batch_messages: batch_messages.unwrap_or(Stage::BATCH_MESSAGES),
            batch_bytes,
            stores,
            config,
            limits,
            capabilities,
        })
    };
    Draft {
        stage: stage(),
        name,
        inputs,
        outputs,
        dead_letters: faults.dead_letters,
        order_span: faults.order_span,
        call_deadline_span,
        grant_spans,
    }
}

fn component(table: &mut Table<'_>) -> Option<Setting<PathBuf>> {
    let Some(entry) = table.entry("component") else {
        table.missing("component", "write component = \"….wasm\"");
        return None;
    };
    if entry.string().is_some_and(|text| text.contains("://")) {
        let problem = Problem::new("a component from a registry is not supported yet");
        entry.error(problem.help("download it, and name the file"));
        return None;
    }
    let path = entry.path()?;
    if table.cx.look == Look::Components {
        let found = std::fs::metadata(&*path);
        let problem = match found.map(|found| found.is_file()) {
            Ok(true) => return Some(path),
            Ok(false) => Problem::new("the component is not a regular file"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Problem::new("there is no such component").help("build it, or name another file")
            }
            Err(error) => Problem::new(format!("the component cannot be read: {}", error.kind())),
        };
        entry.error(problem);
    }
    Some(path)
}

fn stores(stage: &mut Table<'_>) -> BTreeMap<String, Store> {
    let mut stores = BTreeMap::new();
    let Some(table) = stage.table("stores", "[stage.stores.NAME]") else {
        return stores;
    };
    for entry in table.into_entries() {
        let name = entry.key_name("store");
        let Some(mut store) = entry.table(&format!("[stage.stores.{}]", entry.key)) else {
            continue;
        };
        let kind = store.text("type").unwrap_or(StoreKind::Rocksdb.into());
        store.later("ttl");
        store.finish(|_| None);
        if let Some(name) = name {
            stores.insert(name.to_owned(), Store { kind });
        }
    }
    stores
}

/// The configuration of the component, as strings.
fn config(stage: &mut Table<'_>) -> BTreeMap<String, Setting<String>> {
    let Some(table) = stage.table("config", "[stage.config]") else {
        return BTreeMap::new();
    };
    let values = table.into_entries().into_iter().filter_map(|entry| {
        let value = if entry.string().is_some() {
            entry.text()?
        } else if let Some(scalar) = entry.scalar() {
            scalar.into()
        } else {
            entry.wrong_type(
                "one value",
                "a value is a string, a number, true, false, a date or a time; put anything else into a string",
            );
            return None;
        };
        Some((entry.key.to_owned(), value))
    });
    values.collect()
}

/// The limits, and the place of the deadline of a call.
fn limits(stage: &mut Table<'_>) -> (Limits, Option<Range<usize>>) {
    let default = Limits::default();
    let Some(mut table) = stage.table("limits", "[stage.limits]") else {
        return (default, None);
    };
    let memory = size_in(&mut table, "memory", MEMORY_MIN, MEMORY_MAX);
    let call_deadline = positive(&mut table, "call-deadline");
    let key_bytes = size_in(&mut table, "key-bytes", ByteSize(1), KEY_BYTES_MAX);
    let value_bytes = size_in(&mut table, "value-bytes", ByteSize(1), VALUE_BYTES_MAX);
    let recycle_memory = size_in(&mut table, "recycle-memory", ByteSize(1), MEMORY_MAX);
    let recycle_messages = table.integer("recycle-messages", 1..=u64::MAX);
    let recycle_age = positive(&mut table, "recycle-age");
    table.finish(|key| at_home(key, "[stage.limits]"));
    let memory = memory.unwrap_or(default.memory);
    let recycle_memory =
        recycle_memory.unwrap_or_else(|| Limits::recycle_memory_of(*memory).into());
    let limits = Limits {
        memory,
        call_deadline: call_deadline.unwrap_or(default.call_deadline),
        key_bytes: key_bytes.unwrap_or(default.key_bytes),
        value_bytes: value_bytes.unwrap_or(default.value_bytes),
        recycle_memory,
        recycle_messages,
        recycle_age,
    };
    if *limits.recycle_memory > *limits.memory {
        let problem = Problem::new(format!(
            "`recycle-memory` of {} is never reached: the guest's `memory` is {}",
            limits.recycle_memory, limits.memory
        ));
        table.cx.error(
            &table.span_of("recycle-memory"),
            problem.help("make it smaller"),
        );
    }
    if *limits.value_bytes >= *limits.memory {
        let problem = Problem::new(format!(
            "`value-bytes` of {} does not fit in the guest's `memory` of {}",
            limits.value_bytes, limits.memory
        ));
        table.cx.error(&table.span_of("value-bytes"), problem);
    }
    let span = table.peek("call-deadline").map(|entry| entry.span);
    (limits, span)
}

/// The capabilities, and the places of the granted folders.
fn capabilities(stage: &mut Table<'_>) -> (Capabilities, Vec<Range<usize>>) {
    let Some(mut table) = stage.table("capabilities", "[stage.capabilities]") else {
        return Default::default();
    };
    let help = "write directories = [{ host = \"…\", guest = \"/…\" }]";
    let entries = table
        .entry("directories")
        .and_then(|entry| entry.list(help))
        .unwrap_or_default();
    let environment = environment(&mut table);
    let clocks = table.text("clocks").unwrap_or_default();
    let network = table
        .entry("network")
        .and_then(|entry| entry.list("write network = [\"HOST:PORT\"]"));
    let network = network.unwrap_or_default();
    let network = network.iter().filter_map(Entry::text).collect();
    let request_stop = table.bool("request-stop").unwrap_or(false);
    table.finish(|key| at_home(key, "[stage.capabilities]"));
    let (mut directories, mut spans) = (Vec::<Directory>::new(), Vec::new());
    for entry in &entries {
        let Some((directory, span)) = directory(entry) else {
            continue;
        };
        if directories
            .iter()
            .any(|other| *other.guest == *directory.guest)
        {
            entry.error(Problem::new(
                "the guest has another directory at the same place",
            ));
        }
        directories.push(directory);
        spans.push(span);
    }
    let capabilities = Capabilities {
        directories,
        environment,
        clocks,
        network,
        request_stop,
    };
    (capabilities, spans)
}

/// The names of variables, each of which must be set where a component is about to run.
fn environment(table: &mut Table<'_>) -> Vec<String> {
    let cx = table.cx;
    let entry = table.entry("environment");
    let names = entry.and_then(|entry| entry.list("write environment = [\"NAME\"]"));
    let mut environment = Vec::new();
    for entry in names.unwrap_or_default() {
        let Some(name) = entry.string() else {
            entry.wrong_type("a string", "write the name of a variable");
            continue;
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            let problem = Problem::new(format!("{name:?} cannot be the name of a variable"));
            entry.error(problem);
        } else if cx.look == Look::Components && (cx.env)(name).is_none() {
            let problem = Problem::new(format!("the environment variable {name} is not set"));
            entry.error(problem.help("set it, or leave it out"));
        } else {
            environment.push(name.to_owned());
        }
    }
    environment
}

fn directory(entry: &Entry<'_>) -> Option<(Directory, Range<usize>)> {
    let mut table = entry.table("{ host = \"…\", guest = \"/…\" }")?;
    let host = table.path("host");
    if table.peek("host").is_none() {
        table.missing("host", "the folder of the host");
    }
    let guest = table.text::<String>("guest");
    if table.peek("guest").is_none() {
        table.missing("guest", "where the guest finds it, such as \"/models\"");
    }
    let write = table.bool("write").unwrap_or(false);
    table.finish(|_| None);
    let guest = guest?;
    let path = Path::new(guest.as_str());
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        let problem = Problem::new("`guest` is an absolute path without `..`");
        table
            .cx
            .error(&table.span_of("guest"), problem.help("such as \"/models\""));
        return None;
    }
    let directory = Directory {
        host: host?,
        guest,
        write,
    };
    Some((directory, table.span_of("host")))
}
