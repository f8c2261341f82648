//! `state stores`, `get`, `scan`.

use clap::{Args, Subcommand};

use super::{Failure, Global, access, exit, job, output};
use crate::admin::json;
use crate::checkpoint::catalog::Catalog;
use crate::config::Job;
use crate::connectors::write_bytes;
use crate::coordinator::{Entry, Selection, View};
use crate::model::{PartitionId, shown};
use crate::state::StateError;

#[derive(Subcommand)]
pub(super) enum StateCommand {
    /// The stores that the job has
    Stores,
    /// The value of a key, in every task that has it
    Get {
        /// The store
        store: String,
        /// The key, as text
        key: String,
        #[command(flatten)]
        task: TaskFilter,
    },
    /// Entries in the order of tasks and keys
    Scan {
        /// The store
        store: String,
        /// Keys that begin with this
        #[arg(long)]
        prefix: Option<String>,
        /// From this key on
        #[arg(long)]
        from: Option<String>,
        /// To before this key
        #[arg(long)]
        to: Option<String>,
        /// At most so many
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        task: TaskFilter,
    },
}

#[derive(Args)]
pub(super) struct TaskFilter {
    /// Only this task: STAGE/PARTITION, or STAGE
    #[arg(long, value_name = "STAGE/PARTITION")]
    task: Option<String>,
}

pub(super) fn state(global: &Global, command: &StateCommand) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let mut access = access::of(&job);
    match command {
        StateCommand::Stores => stores(global, access.ask(|job| job.stores())?),
        StateCommand::Get { store, key, task } => {
            let mut end = key.clone().into_bytes();
            end.push(0);
            let selection = Selection {
                from: Some(key.clone().into_bytes()),
                to: Some(end),
                ..Selection::default()
            };
            let view = access.ask(|job| job.committed().cloned())?;
            match show(global, &job, &view, store, task, &selection)? {
                0 => Err(Failure::new(
                    exit::HOST,
                    format!("store {store:?} has no key {key:?}"),
                )),
                _ => Ok(()),
            }
        }
        StateCommand::Scan {
            store,
            prefix,
            from,
            to,
            limit,
            task,
        } => {
            let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
            let selection = Selection {
                from: bytes(from),
                to: bytes(to),
                prefix: bytes(prefix),
                limit: *limit,
            };
            let view = access.ask(|job| job.committed().cloned())?;
            show(global, &job, &view, store, task, &selection).map(drop)
        }
    }
}

fn stores(global: &Global, found: Vec<json::Store>) -> Result<(), Failure> {
    if global.json {
        return found.iter().try_for_each(output::json);
    }
    let mut rows = vec![["STAGE", "STORE", "TASKS"].map(str::to_owned).to_vec()];
    rows.extend(
        found
            .into_iter()
            .map(|store| vec![store.stage, store.store, store.tasks.to_string()]),
    );
    output::table(&rows)
}

/// Prints the entries of a store, and returns how many there were.
fn show(
    global: &Global,
    job: &Job,
    view: &View,
    store: &str,
    filter: &TaskFilter,
    selection: &Selection,
) -> Result<usize, Failure> {
    let unreadable = |error: StateError| Failure::of(exit::STATE, &error);
    let (stage, partition) = filter.parse()?;
    let catalog = view.catalog().map_err(unreadable)?;
    let stages = stages_with(job, &catalog, store, stage)?;
    let mut found = 0;
    let mut failed = None;
    for stage in stages {
        let left = selection.limit.map(|limit| limit.saturating_sub(found));
        let selection = Selection {
            limit: left,
            ..selection.clone()
        };
        let mut each = |entry: Entry| {
            found += 1;
            failed = output::raw(&line(global, store, &entry)).err();
            failed.is_none()
        };
        view.scan(stage, store, partition, &selection, &mut each)
            .map_err(unreadable)?;
        if failed.is_some() {
            break;
        }
    }
    failed.map_or(Ok(found), Err)
}

impl TaskFilter {
    /// The stage and the partition that are meant, if they are named.
    fn parse(&self) -> Result<(Option<&str>, Option<PartitionId>), Failure> {
        let Some(task) = &self.task else {
            return Ok((None, None));
        };
        let Some((stage, partition)) = task.split_once('/') else {
            return Ok((Some(task), None));
        };
        let partition = partition.parse().map_err(|_| {
            Failure::new(
                exit::USAGE,
                format!("--task: {partition:?} is no partition"),
            )
        })?;
        Ok((Some(stage), Some(PartitionId(partition))))
    }
}

/// The stages that have the store, or the one of them that is asked for.
fn stages_with<'a>(
    job: &Job,
    catalog: &'a Catalog,
    store: &str,
    only: Option<&str>,
) -> Result<Vec<&'a str>, Failure> {
    let stages = catalog.stages.iter().filter(|(name, stage)| {
        stage.stores.contains_key(store) && only.is_none_or(|only| only == *name)
    });
    let stages: Vec<&str> = stages.map(|(name, _)| name.as_str()).collect();
    if !stages.is_empty() {
        return Ok(stages);
    }
    let stores = catalog
        .stages
        .values()
        .flat_map(|stage| stage.stores.keys());
    let known: Vec<&String> = stores.collect();
    Err(Failure::new(
        exit::USAGE,
        format!(
            "job {:?} has no store {store:?} there; its stores are {known:?}",
            job.general.name
        ),
    ))
}

fn line(global: &Global, store: &str, entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    if global.json {
        line.extend_from_slice(b"{\"task\":");
        write_bytes(Some(entry.task.as_bytes()), &mut line);
        line.extend_from_slice(b",\"store\":");
        write_bytes(Some(store.as_bytes()), &mut line);
        line.extend_from_slice(b",\"key\":");
        write_bytes(Some(&entry.key), &mut line);
        line.extend_from_slice(b",\"value\":");
        write_bytes(Some(&entry.value), &mut line);
        line.push(b'}');
        line = shown::json(line);
    } else {
        line.extend(entry.key.escape_ascii_unless_utf8());
        line.push(b'\t');
        line.extend(entry.value.escape_ascii_unless_utf8());
    }
    line.push(b'\n');
    line
}

/// Bytes for a person: text that is shown as it is; other bytes escaped.
trait Readable {
    fn escape_ascii_unless_utf8(&self) -> Vec<u8>;
}

impl Readable for Vec<u8> {
    fn escape_ascii_unless_utf8(&self) -> Vec<u8> {
        match std::str::from_utf8(self) {
            Ok(text) if text.chars().all(shown::is_plain) => self.clone(),
            _ => self.escape_ascii().to_string().into_bytes(),
        }
    }
}
