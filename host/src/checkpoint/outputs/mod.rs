//! Output to places outside of the database: an outbox for each partition.

mod check;
mod outbox;
mod overlap;

use std::path::Path;
use std::sync::Arc;

pub use check::{check_output, check_outputs, check_stream};
pub(super) use outbox::Outgoing;

use super::ledger::Written;
use super::{CommitError, OpenError};
use crate::connectors::{Output, SinkError};
use crate::disk::{Disk, DiskError};
use crate::epoch::Sent;
use crate::model::{PartitionId, StreamId};
use crate::state::{Db, WriteSet};
use outbox::Outbox;
use overlap::overlapped;

/// A stream outside of the database that the job writes.
pub struct ExternalStream {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// The system's side.
    pub output: Arc<dyn Output>,
}

/// The outboxes of all streams.
pub(super) struct Outputs {
    outboxes: Vec<Outbox>,
    disk: Disk,
}

impl Outputs {
    /// Opens all partitions, in order: the sinks go back to what was recorded, and what the database still holds is delivered.
    pub(super) fn open(
        db: &Db,
        path: &Path,
        streams: &[ExternalStream],
        disk: Disk,
    ) -> Result<Outputs, OpenError> {
        let outboxes = Vec::new();
        let mut outputs = Outputs { outboxes, disk };
        for stream in streams {
            outputs.add(db, path, stream)?;
        }
        Ok(outputs)
    }

    /// Opens the partitions of a stream.
    pub(super) fn add(
        &mut self,
        db: &Db,
        path: &Path,
        stream: &ExternalStream,
    ) -> Result<(), OpenError> {
        let open = |partition| {
            let opened = Outbox::open(db, stream.id, &stream.name, partition, &stream.output);
            opened.map_err(|error| error.at(path, &stream.name))
        };
        let partitions = (0..stream.output.partitions()).map(PartitionId);
        match stream.output.overlaps() {
            true => self
                .outboxes
                .extend(overlapped(partitions.collect(), open)?),
            false => {
                for partition in partitions {
                    self.outboxes.push(open(partition)?);
                }
            }
        }
        Ok(())
    }

    /// Whether a delivery is not yet recorded.
    pub(super) fn have_delivered(&self) -> bool {
        self.outboxes.iter().any(Outbox::has_delivered)
    }

    /// Takes the messages of these streams out of `sent` and adds them to a write, with the record of what was delivered before.
    pub(super) fn stage(&self, writes: &mut WriteSet<'_>, sent: &mut Sent) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        for (index, outbox) in self.outboxes.iter().enumerate() {
            let messages = sent.remove(&outbox.place());
            if messages.is_some() || outbox.is_unrecorded() {
                outgoing.push(outbox.stage(index, writes, messages.as_ref()));
            }
        }
        outgoing
    }

    /// Delivers what a write holds; `outgoing` is in the order of the outboxes.
    pub(super) fn deliver(
        &mut self,
        outgoing: Vec<Outgoing>,
        _: &Written,
    ) -> Result<(), CommitError> {
        let disk = &self.disk;
        let deliver = |(outbox, outgoing): (&mut Outbox, Outgoing)| {
            announce(disk, &outbox.name)?;
            outbox.deliver(outgoing)
        };
        let mut outgoing = outgoing.into_iter().peekable();
        let mut together = Vec::new();
        for (index, outbox) in self.outboxes.iter_mut().enumerate() {
            let Some(outgoing) = outgoing.next_if(|next| next.outbox == index) else {
                continue;
            };
            match outbox.overlaps && !outgoing.encoded.is_empty() {
                true => together.push((outbox, outgoing)),
                false => deliver((outbox, outgoing))?,
            }
        }
        assert!(outgoing.next().is_none(), "output belongs to no outbox");
        overlapped(together, deliver).map(drop)
    }
}

fn announce(disk: &Disk, stream: &str) -> Result<(), CommitError> {
    disk.before("deliver")
        .map_err(|source| CommitError::Deliver {
            stream: stream.to_owned(),
            source: SinkError::Disk(DiskError {
                action: "deliver to",
                path: stream.into(),
                source,
            }),
        })
}
