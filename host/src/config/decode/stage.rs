//! `[[stage]]`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;

use super::at_home;
use super::faults;
use super::general::size_in;
use super::ports::{self, Input, Output, StreamRef};
use super::{capabilities, limits};
use crate::config::Look;
use crate::config::limits::Limits;
use crate::config::setting::{Problem, Setting};
use crate::config::stage::{Stage, Store, StoreKind};
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;

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
    let (limits, call_deadline_span) = limits::decode(&mut table);
    let (capabilities, grant_spans) = capabilities::decode(&mut table);
    table.finish(|key| at_home(key, "[[stage]]"));

    let batch_bytes = batch_bytes_within(&table, batch_bytes, &limits);
    let stage = || {
        Some(Stage {
            name: name.as_ref()?.0.to_owned(),
            component: component?,
            sha256,
            partitions: None,
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
            swap: faults.swap,
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

/// At how many bytes a batch ends, which a guest has room for.
fn batch_bytes_within(
    table: &Table<'_>,
    given: Option<Setting<ByteSize>>,
    limits: &Limits,
) -> Setting<ByteSize> {
    // The default follows a guest that has little memory.
    let default = Stage::BATCH_BYTES.min(ByteSize(limits.memory.0 / 2));
    let batch_bytes = given.unwrap_or(default.into());
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
    batch_bytes
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
