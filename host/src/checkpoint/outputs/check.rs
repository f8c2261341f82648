//! Whether outputs are what the database has recorded of them. Nothing is changed.

use std::collections::BTreeSet;
use std::path::Path;

use super::ExternalStream;
use crate::checkpoint::OpenError;
use crate::connectors::Writers;
use crate::model::{Account, PartitionId};
use crate::records::{self, OutboxRecord, Record};
use crate::state::{Db, StateError};

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
    let mut carriers = BTreeSet::new();
    external
        .iter()
        .try_for_each(|stream| check_partitions(path, Some(db), stream, &mut carriers))
}

/// Whether all partitions of a stream are what the database has recorded of them.
///
/// # Errors
/// State cannot be read, or one of them is not.
pub fn check_stream(path: &Path, db: &Db, stream: &ExternalStream) -> Result<(), OpenError> {
    check_partitions(path, Some(db), stream, &mut BTreeSet::new())
}

/// Whether outputs are fit for a state directory that is not made yet.
///
/// # Errors
/// One of them is not.
pub fn check_new(path: &Path, external: &[ExternalStream]) -> Result<(), OpenError> {
    let mut carriers = BTreeSet::new();
    external
        .iter()
        .try_for_each(|stream| check_partitions(path, None, stream, &mut carriers))
}

/// `carriers`: those that were asked already.
fn check_partitions(
    path: &Path,
    db: Option<&Db>,
    stream: &ExternalStream,
    carriers: &mut BTreeSet<String>,
) -> Result<(), OpenError> {
    let state = |source| OpenError::State {
        path: path.to_owned(),
        source,
    };
    let sinks = match stream.output.writers() {
        Writers::Apart(sinks) => sinks,
        Writers::Together(carrier) => {
            let name = carrier.name().to_owned();
            if !carriers.insert(name.clone()) {
                return Ok(());
            }
            let account: Option<Account> = recorded(db, &name).map_err(state)?;
            let checked = carrier.check(&account.unwrap_or_default());
            return checked.map_err(|source| OpenError::Carrier { name, source });
        }
    };
    for partition in (0..stream.output.partitions()).map(PartitionId) {
        let record: Option<OutboxRecord> = recorded(db, &(stream.id, partition)).map_err(state)?;
        let record = record.unwrap_or_default();
        let checked = sinks
            .sink(partition)
            .check(record.sink.as_deref(), record.bytes);
        checked.map_err(|source| OpenError::Sink {
            stream: stream.name.clone(),
            source,
        })?;
    }
    Ok(())
}

fn recorded<R: Record>(db: Option<&Db>, key: &R::Key) -> Result<Option<R>, StateError> {
    match db {
        Some(db) => records::get(db, key),
        None => Ok(None),
    }
}
