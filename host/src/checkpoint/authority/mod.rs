//! Who decides that an epoch exists.
//!
//! The database decides by its own synced write, for which the witness is a second account: [`Local`]. An authority outside
//! of the database decides *before* the write; the database then is a copy that may be behind, and the authority brings it up
//! to date when it is opened. The committer knows only this trait, and walks the same stages for each of them.

mod local;
#[cfg(test)]
mod tests;

pub(super) use local::Local;

use super::{CommitError, OpenError};
use crate::epoch::{SealedEpoch, Sent};
use crate::model::{CommitKey, Stamp, StreamId, TaskId};
use crate::state::{Db, Durability, WriteSet};

/// Decides that epochs exist.
pub trait Authority: Send {
    /// Brings a database up to date that ends at `last`, and returns where it ends now. Called once, before anything else is
    /// read from the database.
    ///
    /// # Errors
    /// The two do not belong together, or the database cannot be written.
    fn catch_up(&mut self, db: &Db, last: CommitKey) -> Result<CommitKey, OpenError> {
        let _ = db;
        Ok(last)
    }

    /// Adds what the database must hold before the first write of this process. `false`: nothing.
    fn begin(&mut self, writes: &mut WriteSet<'_>, last: &CommitKey) -> bool;

    /// Whether the messages of a stream are part of the decision. Those of others are part of the write, in a log or an outbox.
    fn carries(&self, stream: StreamId) -> bool {
        let _ = stream;
        false
    }

    /// Whether what the authority needs at the next start is still there. Asked before each write.
    ///
    /// # Errors
    /// It is not: nothing may be written.
    fn check(&self) -> Result<(), CommitError> {
        Ok(())
    }

    /// Decides that an epoch exists.
    ///
    /// # Errors
    /// See [`Undecided`].
    fn decide(&mut self, epoch: &Deciding<'_>) -> Result<(), Undecided>;

    /// What the database's write must survive.
    fn durability(&self) -> Durability;

    /// Adds what the authority keeps in the database to a write that is about to be made.
    fn accompany(&mut self, writes: &mut WriteSet<'_>);

    /// A write was made, and survives what `durability` says.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    fn confirm(&mut self, write: &CommitKey, durability: Durability) -> Result<(), CommitError>;

    /// Accounts for what the database has done by itself since the last write.
    ///
    /// # Errors
    /// As [`Authority::confirm`].
    fn renew(&mut self) -> Result<(), CommitError> {
        Ok(())
    }
}

/// An epoch that is to be decided.
pub struct Deciding<'a> {
    /// The write that will hold it.
    pub key: &'a CommitKey,
    /// Its tasks, with their changes and positions.
    pub sealed: &'a SealedEpoch,
    /// The messages of the streams that the authority carries.
    pub carried: &'a Sent,
    /// The stamps that the tasks will have.
    pub stamps: &'a [(TaskId, Stamp)],
}

/// Why an epoch was not decided, in words.
#[derive(Debug)]
pub enum Undecided {
    /// It does not exist. It may be tried again.
    Again(String),
    /// Only the authority knows whether it exists: the process must end, and the next one asks.
    Unknown(String),
}
