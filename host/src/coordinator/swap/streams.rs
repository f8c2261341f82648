//! Streams that come with other code. They are written alone, because the inputs of a stage stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::outputs::check_output;
use crate::coordinator::commit::Work;
use crate::coordinator::tasks::{StreamNow, TaskFactory};
use crate::coordinator::{Barrier, Coordinator, StreamEntry, StreamOptions};
use crate::model::{Epoch, PartitionId, StreamId, shown};
use crate::records::{self, Encoded, OutboxRecord, StreamRecord};
use crate::state::Db;

/// Streams by name.
pub(in crate::coordinator) type NewStreams = BTreeMap<String, Arc<StreamNow>>;

/// Those of the streams of a candidate that the job does not have, held against what the state directory knows.
///
/// # Errors
/// Why one of them cannot be written.
pub(super) fn new_streams(
    factory: &TaskFactory,
    used: BTreeMap<String, StreamOptions>,
) -> Result<NewStreams, String> {
    let (db, runs) = (factory.db(), factory.streams());
    let known = records::list::<StreamRecord>(db).map_err(|error| shown::chain(&error))?;
    let known: BTreeMap<String, StreamRecord> = known.into_iter().collect();
    let next = known.values().map(|record| record.id.0 + 1).max();
    let next = StreamId(next.unwrap_or_default());
    let new = used
        .into_iter()
        .filter(|(name, _)| !runs.contains_key(name));
    new.map(|(name, options)| {
        let known = known.get(&name);
        if let Some(known) = known.filter(|known| {
            (known.partitions, &known.system) != (options.partitions, &options.system)
        }) {
            return Err(format!(
                "stream {name:?} was one of system {:?} with {} partitions before, and cannot become another: give the new stream another name",
                known.system, known.partitions
            ));
        }
        let known = known.map(|known| known.id);
        check(db, &name, &options, known)?;
        let tried = factory.try_stream(&name, options, (known, next));
        Ok((name, tried))
    })
    .collect()
}

/// Whether what is outside of the database can be written, and is what was recorded of it.
fn check(
    db: &Db,
    name: &str,
    options: &StreamOptions,
    known: Option<StreamId>,
) -> Result<(), String> {
    let Some(output) = options.output() else {
        return Ok(());
    };
    for partition in (0..output.partitions()).map(PartitionId) {
        let recorded = known.map(|id| records::get::<OutboxRecord>(db, &(id, partition)));
        let recorded = recorded.transpose().map_err(|error| shown::chain(&error))?;
        let recorded = recorded.flatten().unwrap_or_default();
        check_output(name, &**output, partition, &recorded)
            .map_err(|error| shown::chain(&error))?;
    }
    Ok(())
}

impl Coordinator {
    /// The code that these streams came with takes over with this barrier, and their records are written with its epoch.
    pub(super) fn keep_streams(streams: NewStreams, barrier: &mut Barrier) {
        for (name, stream) in &streams {
            stream.keep();
            barrier.records.push(Encoded::new(name, &stream.record()));
        }
        barrier.streams = streams;
    }

    /// An epoch goes to the commit thread, and these streams come with it.
    pub(in crate::coordinator) fn declare(&mut self, epoch: Epoch, streams: NewStreams) {
        if streams.is_empty() {
            return;
        }
        let each = || streams.iter();
        self.commit.give(Work::Declare(
            each()
                .filter_map(|(_, stream)| stream.options.log_of(stream.id, false))
                .collect(),
            each()
                .filter_map(|(name, stream)| stream.options.external(stream.id, name))
                .collect(),
        ));
        self.declared = Some((epoch, streams));
    }

    /// An epoch is durable: from now on others may append to what came with it.
    pub(in crate::coordinator) fn note_declared(&mut self, epoch: Epoch) {
        let Some((_, streams)) = self.declared.take_if(|(of, _)| *of == epoch) else {
            return;
        };
        let entries = streams.into_iter().map(|(name, stream)| {
            let entry = StreamEntry::of(stream.id, &stream.options);
            (name, entry)
        });
        self.streams.extend(entries);
    }
}
