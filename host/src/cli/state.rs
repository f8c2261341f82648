//! `state stores`, `get`, `scan`.

use clap::{Args, Subcommand};

use super::client::Client;
use super::{Failure, Global, exit, output, stopped};
use crate::admin::json;
use crate::checkpoint::Holder;
use crate::checkpoint::directory::Inspected;
use crate::config::Job;
use crate::connectors::write_bytes;
use crate::coordinator::{Entry, Selection, View};
use crate::model::{PartitionId, shown};

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
    let job = stopped::load(&global.job)?;
    match command {
        StateCommand::Stores => stores(global, &job),
        StateCommand::Get { store, key, task } => {
            let mut end = key.clone().into_bytes();
            end.push(0);
            let selection = Selection {
                from: Some(key.clone().into_bytes()),
                to: Some(end),
                ..Selection::default()
            };
            let (_looking, view) = committed(&job)?;
            let found = show(global, &job, &view, store, task, &selection)?;
            match found {
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
            let (_looking, view) = committed(&job)?;
            show(global, &job, &view, store, task, &selection).map(|_| ())
        }
    }
}

/// The state of a job that does not run.
fn committed(job: &Job) -> Result<(Inspected, View), Failure> {
    let running = |holder: Holder| {
        Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} runs as process {}; looking into the state of a running job is not supported yet: stop it first",
                job.general.name, holder.pid
            ),
        ))
    };
    stopped::either(job, running, || stopped::view(job))
}

fn stores(global: &Global, job: &Job) -> Result<(), Failure> {
    let asked = |holder: Holder| Client::new(&holder)?.get("/stores");
    let found: Vec<json::Store> = stopped::either(job, asked, || {
        let (_looking, view) = stopped::view(job)?;
        json::stores(&view).map_err(|error| Failure::of(exit::STATE, &error))
    })?;
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

fn show(
    global: &Global,
    job: &Job,
    view: &View,
    store: &str,
    filter: &TaskFilter,
    selection: &Selection,
) -> Result<usize, Failure> {
    let catalog = view
        .catalog()
        .map_err(|error| Failure::of(exit::STATE, &error))?;
    let (only_stage, only_partition) = match filter
        .task
        .as_deref()
        .map(|task| task.split_once('/').ok_or(task))
    {
        None => (None, None),
        Some(Err(stage)) => (Some(stage), None),
        Some(Ok((stage, partition))) => {
            let partition = partition.parse().map_err(|_| {
                Failure::new(
                    exit::USAGE,
                    format!("--task: {partition:?} is no partition"),
                )
            })?;
            (Some(stage), Some(PartitionId(partition)))
        }
    };
    let stages: Vec<&String> = catalog
        .stages
        .iter()
        .filter(|(name, stage)| {
            stage.stores.contains_key(store) && only_stage.is_none_or(|only| only == *name)
        })
        .map(|(name, _)| name)
        .collect();
    if stages.is_empty() {
        let known: Vec<&String> = catalog
            .stages
            .values()
            .flat_map(|stage| stage.stores.keys())
            .collect();
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} has no store {store:?} there; its stores are {known:?}",
                job.general.name
            ),
        ));
    }
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
            match output::raw(&line(global, store, &entry)) {
                Ok(()) => true,
                Err(failure) => {
                    failed = Some(failure);
                    false
                }
            }
        };
        view.scan(stage, store, only_partition, &selection, &mut each)
            .map_err(|error| Failure::of(exit::STATE, &error))?;
    }
    failed.map_or(Ok(found), Err)
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
