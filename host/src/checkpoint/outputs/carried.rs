//! Outboxes that are delivered together, and what is recorded of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::announce;
use super::outbox::Outbox;
use crate::checkpoint::{CommitError, OpenError, StateId};
use crate::connectors::{Carrier, Parcel};
use crate::disk::Disk;
use crate::model::{Account, CommitKey, Mark};
use crate::records;
use crate::state::{Db, StateError, WriteSet};

/// What a write holds for a carrier.
pub(super) type Load<'a> = Vec<(&'a mut Outbox, Vec<u8>)>;

/// A carrier, and what is recorded of it.
pub(super) struct Carried {
    carrier: Arc<dyn Carrier>,
    account: Account,
    /// The account differs from what the database holds.
    unrecorded: bool,
}

impl Carried {
    /// What the database has recorded of a carrier.
    pub(super) fn read(
        db: &Db,
        carrier: &Arc<dyn Carrier>,
        state: StateId,
    ) -> Result<Carried, StateError> {
        let name = carrier.name().to_owned();
        let account: Option<Account> = records::get(db, &name)?;
        let account = Account {
            state: state.0,
            ..account.unwrap_or_default()
        };
        Ok(Carried {
            carrier: Arc::clone(carrier),
            account,
            unrecorded: false,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.carrier.name()
    }

    /// Takes over from whoever has delivered before, and delivers what the database still holds for these outboxes.
    pub(super) fn open(
        &mut self,
        held: Vec<(&mut Outbox, &Vec<u8>)>,
        disk: &Disk,
    ) -> Result<(), OpenError> {
        let name = self.carrier.name().to_owned();
        let failed = |source| OpenError::Carrier {
            name: name.clone(),
            source,
        };
        let was_delivered = self.carrier.recover(&self.account).map_err(failed)?;
        let Some(pending) = self.account.pending else {
            return Ok(());
        };
        let mut held: Vec<_> = held
            .into_iter()
            .filter(|(_, held)| !held.is_empty())
            .collect();
        if !was_delivered {
            let parcels: Vec<_> = held
                .iter()
                .map(|(outbox, held)| outbox.parcel(held))
                .collect();
            let stream = held.first().map_or("", |(outbox, _)| &outbox.name);
            announce(disk, stream).map_err(|source| OpenError::Begin {
                path: name.clone().into(),
                source: Box::new(source),
            })?;
            self.carrier
                .deliver(&pending, &parcels, &|| false)
                .map_err(failed)?;
        }
        held.iter_mut()
            .for_each(|(outbox, _)| outbox.note_delivered());
        self.note_delivered(pending);
        Ok(())
    }

    fn note_delivered(&mut self, mark: Mark) {
        self.account.delivered = Some(mark);
        self.account.pending = None;
        self.unrecorded = true;
    }

    /// Adds to a write what is known of deliveries, and that this write is to be delivered.
    pub(super) fn stage(&self, writes: &mut WriteSet<'_>, pending: Option<Mark>) {
        if pending.is_none() && !self.unrecorded {
            return;
        }
        let account = Account {
            pending,
            ..self.account
        };
        records::put(writes, &self.carrier.name().to_owned(), &account);
    }

    /// Delivers what a write holds.
    pub(super) fn deliver(
        &mut self,
        load: Load<'_>,
        write: &CommitKey,
        disk: &Disk,
        hurry: &AtomicBool,
    ) -> Result<(), CommitError> {
        // The write has recorded the account, too.
        self.unrecorded = false;
        let Some((first, _)) = load.first() else {
            return Ok(());
        };
        announce(disk, &first.name)?;
        let (mark, stream) = (Mark::of(write), first.name.clone());
        let parcels: Vec<_> = load
            .iter()
            .map(|(outbox, held)| outbox.parcel(held))
            .collect();
        let gives_up = || hurry.load(Ordering::Acquire);
        let delivered = self.carrier.deliver(&mark, &parcels, &gives_up);
        delivered.map_err(|source| CommitError::Deliver { stream, source })?;
        drop(parcels);
        load.into_iter()
            .for_each(|(outbox, _)| outbox.note_delivered());
        self.note_delivered(mark);
        Ok(())
    }
}

impl Outbox {
    /// What it holds, for its carrier.
    fn parcel<'a>(&'a self, encoded: &'a [u8]) -> Parcel<'a> {
        Parcel {
            stream: &self.name,
            partition: self.partition,
            encoded,
        }
    }
}
