//! Streams that come with other code. They are only written, because the inputs of a stage stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::outputs::check_stream;
use crate::connectors::Writers;
use crate::coordinator::commit::Work;
use crate::coordinator::tasks::{StreamNow, TaskFactory};
use crate::coordinator::{Barrier, Coordinator, StreamEntry, StreamOptions};
use crate::model::{Epoch, PartitionId, StreamId, shown};
use crate::records::{self, Encoded, OutboxRecord, StreamRecord};

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
                "the state knows stream {name:?} with system {:?} and {} partitions, which are fixed: give the new stream another name",
                known.system, known.partitions
            ));
        }
        let known = known.map(|known| known.id);
        let tried = factory.try_stream(&name, options, (known, next));
        if let Some(external) = tried.options.external(tried.id, &name) {
            let checked = check_stream(factory.state_dir(), db, &external);
            checked.map_err(|error| shown::chain(&error))?;
        }
        Ok((name, tried))
    })
    .collect()
}

/// Makes what streams need outside of the database, while the old code works: so what cannot be written is refused. What is empty and not
/// recorded is taken for new later.
///
/// # Errors
/// Why one of them cannot be written.
pub(super) fn make(factory: &TaskFactory, streams: &NewStreams) -> Result<(), String> {
    for (name, stream) in streams {
        let Some(output) = stream.options.output() else {
            continue;
        };
        // What a carrier needs is there.
        let Writers::Apart(sinks) = output.writers() else {
            continue;
        };
        for partition in (0..output.partitions()).map(PartitionId) {
            let recorded = records::get::<OutboxRecord>(factory.db(), &(stream.id, partition));
            let recorded = recorded.map_err(|error| shown::chain(&error))?;
            let recorded = recorded.unwrap_or_default();
            let mut sink = sinks.sink(partition);
            let made = sink.recover(recorded.sink.as_deref(), recorded.bytes);
            made.map_err(|error| {
                let why = shown::chain(&error);
                format!("stream {name:?}, partition {partition}: {why}")
            })?;
        }
    }
    Ok(())
}

impl Coordinator {
    /// The code that these streams came with takes over with this barrier, and their records are written with its epoch.
    pub(super) fn keep_streams(streams: NewStreams, barrier: &mut Barrier) {
        for (name, stream) in &streams {
            stream.keep();
            barrier.records.push(Encoded::new(name, &stream.record()));
            let topic = stream.options.topic.iter();
            barrier
                .records
                .extend(topic.map(|topic| Encoded::new(name, topic)));
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
