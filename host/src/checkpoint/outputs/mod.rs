//! Output to places outside of the database: an outbox for each partition.

mod carried;
mod check;
mod outbox;
mod overlap;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use check::{check_new, check_outputs, check_stream};
pub(super) use outbox::Outgoing;

use super::ledger::Written;
use super::{CommitError, OpenError, StateId};
use crate::connectors::{Carrier, Output, SinkError, Writers};
use crate::disk::{Disk, DiskError};
use crate::epoch::Sent;
use crate::model::{CommitKey, Mark, PartitionId, StreamId};
use crate::state::{Db, WriteSet};
use carried::{Carried, Load};
use outbox::{Outbox, Writer};
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
    carriers: Vec<Carried>,
    state: StateId,
    disk: Disk,
    /// What cannot be delivered now is left for the next start.
    hurry: Arc<AtomicBool>,
}

/// A partition with what the database still holds for it.
type Opened = (Outbox, Vec<u8>);

impl Outputs {
    /// Opens all partitions, in order: the sinks go back to what was recorded, and what the database still holds is delivered.
    pub(super) fn open(
        db: &Db,
        path: &Path,
        (streams, state): (&[ExternalStream], StateId),
        disk: Disk,
    ) -> Result<Outputs, OpenError> {
        let mut outputs = Outputs {
            outboxes: Vec::new(),
            carriers: Vec::new(),
            state,
            disk,
            hurry: Arc::default(),
        };
        outputs.add(db, path, streams)?;
        Ok(outputs)
    }

    /// Opens the partitions of streams.
    pub(super) fn add(
        &mut self,
        db: &Db,
        path: &Path,
        streams: &[ExternalStream],
    ) -> Result<(), OpenError> {
        let known = (self.outboxes.len(), self.carriers.len());
        let mut held = Vec::new();
        for stream in streams {
            for (outbox, bytes) in self.open_stream(db, path, stream)? {
                held.push(bytes);
                self.outboxes.push(outbox);
            }
        }
        for at in known.1..self.carriers.len() {
            let opened = self.outboxes[known.0..].iter_mut().zip(&held);
            let of_it = opened.filter(|(outbox, _)| outbox.carrier() == Some(at));
            self.carriers[at].open(of_it.collect(), &self.disk)?;
        }
        Ok(())
    }

    fn open_stream(
        &mut self,
        db: &Db,
        path: &Path,
        stream: &ExternalStream,
    ) -> Result<Vec<Opened>, OpenError> {
        let output = &*stream.output;
        let open = |partition, writer| {
            let opened = Outbox::open(db, (stream.id, &stream.name), partition, writer);
            opened.map_err(|error| error.at(path, &stream.name))
        };
        let mut partitions = (0..output.partitions()).map(PartitionId);
        match output.writers() {
            Writers::Together(carrier) => {
                let at = self.carrier_at(db, path, carrier)?;
                let writer = || Writer::Carrier {
                    carrier: Arc::clone(carrier),
                    at,
                };
                partitions
                    .map(|partition| open(partition, writer()))
                    .collect()
            }
            Writers::Apart(sinks) => {
                let overlaps = output.overlaps();
                let open = |partition| {
                    let sink = sinks.sink(partition);
                    open(partition, Writer::Sink { sink, overlaps })
                };
                match overlaps {
                    true => overlapped(partitions.collect(), open),
                    false => partitions.try_fold(Vec::new(), |mut opened, partition| {
                        opened.push(open(partition)?);
                        Ok(opened)
                    }),
                }
            }
        }
    }

    /// The place of a carrier, which is added if it is new.
    fn carrier_at(
        &mut self,
        db: &Db,
        path: &Path,
        carrier: &Arc<dyn Carrier>,
    ) -> Result<usize, OpenError> {
        let mut known = self.carriers.iter();
        if let Some(at) = known.position(|known| known.name() == carrier.name()) {
            return Ok(at);
        }
        let carried = Carried::read(db, carrier, self.state);
        let carried = carried.map_err(|source| OpenError::State {
            path: path.to_owned(),
            source,
        })?;
        self.carriers.push(carried);
        Ok(self.carriers.len() - 1)
    }

    /// Once this is set, what cannot be delivered now is left for the next start.
    pub(super) fn heed(&mut self, hurry: &Arc<AtomicBool>) {
        self.hurry = Arc::clone(hurry);
    }

    /// Whether a delivery is not yet recorded.
    pub(super) fn have_delivered(&self) -> bool {
        self.outboxes.iter().any(Outbox::has_delivered)
    }

    /// Takes the messages of these streams out of `sent` and adds them to a write, with the record of what was delivered before.
    pub(super) fn stage(
        &self,
        writes: &mut WriteSet<'_>,
        sent: &mut Sent,
        key: &CommitKey,
    ) -> Vec<Outgoing> {
        let mut outgoing: Vec<Outgoing> = Vec::new();
        let mut has_work = vec![false; self.carriers.len()];
        for (index, outbox) in self.outboxes.iter().enumerate() {
            let messages = sent.remove(&outbox.place());
            if messages.is_none() && !outbox.is_unrecorded() {
                continue;
            }
            let going = outbox.stage(index, writes, messages.as_ref());
            if let Some(at) = outbox.carrier() {
                has_work[at] |= !going.encoded.is_empty();
            }
            outgoing.push(going);
        }
        for (carried, has_work) in self.carriers.iter().zip(has_work) {
            carried.stage(writes, has_work.then(|| Mark::of(key)));
        }
        outgoing
    }

    /// Delivers what a write holds; `outgoing` is in the order of the outboxes.
    pub(super) fn deliver(
        &mut self,
        outgoing: Vec<Outgoing>,
        written: &Written,
    ) -> Result<(), CommitError> {
        let disk = &self.disk;
        let deliver = |(outbox, outgoing): (&mut Outbox, Outgoing)| {
            announce(disk, &outbox.name)?;
            outbox.deliver(outgoing)
        };
        let mut outgoing = outgoing.into_iter().peekable();
        let mut together = Vec::new();
        let mut carried: Vec<Load<'_>> = Vec::new();
        carried.resize_with(self.carriers.len(), Load::new);
        for (index, outbox) in self.outboxes.iter_mut().enumerate() {
            let Some(outgoing) = outgoing.next_if(|next| next.outbox == index) else {
                continue;
            };
            match outbox.carrier() {
                Some(at) => {
                    let encoded = outbox.take(outgoing);
                    carried[at].extend(encoded.map(|encoded| (outbox, encoded)));
                }
                None if outbox.overlaps() && !outgoing.encoded.is_empty() => {
                    together.push((outbox, outgoing));
                }
                None => deliver((outbox, outgoing))?,
            }
        }
        assert!(outgoing.next().is_none(), "output belongs to no outbox");
        overlapped(together, deliver)?;
        for (carrier, load) in self.carriers.iter_mut().zip(carried) {
            carrier.deliver(load, written.key(), disk, &self.hurry)?;
        }
        Ok(())
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
