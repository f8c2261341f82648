//! Whether outputs are what the database has recorded of them. Nothing is changed.

use std::path::Path;

use super::ExternalStream;
use crate::checkpoint::OpenError;
use crate::connectors::Output;
use crate::model::PartitionId;
use crate::records::{self, OutboxRecord};
use crate::state::Db;

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
    external
        .iter()
        .try_for_each(|stream| check_stream(path, db, stream))
}

/// Whether all partitions of a stream are what the database has recorded of them.
///
/// # Errors
/// State cannot be read, or one of them is not.
pub fn check_stream(path: &Path, db: &Db, stream: &ExternalStream) -> Result<(), OpenError> {
    for partition in (0..stream.output.partitions()).map(PartitionId) {
        let record = records::get(db, &(stream.id, partition));
        let record = record.map_err(|source| OpenError::State {
            path: path.to_owned(),
            source,
        })?;
        let record = record.unwrap_or_default();
        check_output(&stream.name, &*stream.output, partition, &record)?;
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
