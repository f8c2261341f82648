//! Whether what a directory holds fits together, and its outputs are as it left them. Nothing is changed.

use std::path::Path;

use super::OpenError;
use super::publish::ExternalStream;
use crate::connectors::Output;
use crate::model::{CommitKey, PartitionId};
use crate::records::{self, LogRecord, OutboxRecord, TaskRecord};
use crate::state::Db;

/// Whether tasks are where the directory's last checkpoint and its logs say that they can be.
///
/// # Errors
/// A record is ahead of what is there, or cannot be read.
pub fn check_tasks(path: &Path, db: &Db) -> Result<(), OpenError> {
    let state = |source| OpenError::State {
        path: path.to_owned(),
        source,
    };
    let refused = |why: String| OpenError::Refused {
        path: path.to_owned(),
        why: format!("{why}. It is damaged; restore a copy, or run `wasm-host reset`"),
    };
    let commit: Option<CommitKey> = records::get(db, &()).map_err(state)?;
    let commit = commit.unwrap_or_default();
    for (task, record) in records::list::<TaskRecord>(db).map_err(state)? {
        let at = record.stamp.container_epoch;
        if at > commit.epoch {
            return Err(refused(format!(
                "task {task:?} is at checkpoint {at}, but its last checkpoint is {}",
                commit.epoch
            )));
        }
        for (stream, position) in &record.positions {
            let log: Option<LogRecord> =
                records::get(db, &(*stream, task.partition)).map_err(state)?;
            if let Some(log) = log
                && position.next > log.end
            {
                return Err(refused(format!(
                    "task {task:?} has read up to offset {} of a log that ends at {}",
                    position.next, log.end
                )));
            }
        }
    }
    Ok(())
}

/// Whether the outputs are what the database has recorded, before anything of either is changed.
///
/// # Errors
/// State cannot be read, an output is not what was recorded, or the job no longer writes what is still to be delivered.
pub fn check_outputs(path: &Path, db: &Db, external: &[ExternalStream]) -> Result<(), OpenError> {
    let state = |source| OpenError::State {
        path: path.to_owned(),
        source,
    };
    let recorded = records::list::<OutboxRecord>(db).map_err(state)?;
    let waiting = recorded.iter().filter(|(_, record)| record.bytes > 0);
    for ((id, partition), record) in waiting {
        let known = external
            .iter()
            .any(|stream| stream.id == *id && partition.0 < stream.output.partitions());
        if !known {
            return Err(OpenError::Refused {
                path: path.to_owned(),
                why: format!(
                    "it holds {} bytes of committed output for a stream that the job no longer writes: declare the stream as it \
                     was until they are delivered",
                    record.bytes
                ),
            });
        }
    }
    for stream in external {
        for partition in (0..stream.output.partitions()).map(PartitionId) {
            let record = records::get(db, &(stream.id, partition)).map_err(state)?;
            let record = record.unwrap_or_default();
            check_output(&stream.name, &*stream.output, partition, &record)?;
        }
    }
    Ok(())
}

/// Whether an output is what was recorded of it.
///
/// # Errors
/// It is not.
pub fn check_output(
    stream: &str,
    output: &dyn Output,
    partition: PartitionId,
    record: &OutboxRecord,
) -> Result<(), OpenError> {
    output
        .sink(partition)
        .check(record.sink.as_deref(), record.bytes)
        .map_err(|source| OpenError::Sink {
            stream: stream.to_owned(),
            source,
        })
}
