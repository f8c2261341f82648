//! The numbered writes to the database: every one goes through here.
//!
//! Each write carries a commit key: its number, its epoch, a nonce, and the nonce of the write before. So the writes form a
//! chain, and a witness that has seen one of them can say whether the next is its successor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::CommitError;
use super::authority::{Authority, Deciding, Undecided};
use super::directory::Lock;
use crate::disk::Disk;
use crate::model::{CommitKey, Epoch, Nonce, StreamId};
use crate::records;
use crate::state::{Db, DbError, Durability, StateError, WriteSet};

/// Makes the writes. There is one ledger, and nothing else writes to the database.
pub(super) struct Ledger {
    db: Arc<Db>,
    lock: Lock,
    directory: PathBuf,
    authority: Box<dyn Authority>,
    last: CommitKey,
    disk: Disk,
}

/// A write was made; its second account was not.
#[must_use]
pub(super) struct Unconfirmed {
    key: CommitKey,
    durability: Durability,
}

/// Proof that a write is made and accounted for: the right to show what it holds. Only [`Ledger::confirm`] makes one.
#[must_use]
pub(super) struct Written {
    key: CommitKey,
}

impl Written {
    /// The write that is proved.
    pub(super) fn key(&self) -> &CommitKey {
        &self.key
    }
}

impl Ledger {
    /// The state directory.
    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// Goes on after `last`.
    pub(super) fn new(
        db: Arc<Db>,
        lock: Lock,
        directory: PathBuf,
        authority: Box<dyn Authority>,
        last: CommitKey,
        disk: Disk,
    ) -> Ledger {
        Ledger {
            db,
            lock,
            directory,
            authority,
            last,
            disk,
        }
    }

    /// The last write.
    pub(super) fn last(&self) -> &CommitKey {
        &self.last
    }

    /// The lock on the directory, to say who holds it.
    pub(super) fn lock_mut(&mut self) -> &mut Lock {
        &mut self.lock
    }

    /// The key of the next write.
    pub(super) fn next(&self, epoch: Epoch) -> CommitKey {
        CommitKey {
            seq: self.last.seq.next(),
            epoch,
            nonce: Nonce(rand::random()),
            prev_nonce: self.last.nonce,
        }
    }

    /// Whether the directory is still the one that was opened, and has what the next start needs.
    ///
    /// # Errors
    /// It, or its witness, was removed or replaced.
    pub(super) fn check_directory(&self) -> Result<(), CommitError> {
        match self.lock.is_ours() {
            true => self.authority.check(),
            false => Err(CommitError::DirectoryGone(self.directory.clone())),
        }
    }

    /// Announces a step.
    ///
    /// # Errors
    /// What the disk is to have answered to it.
    pub(super) fn before(&self, step: &'static str) -> Result<(), CommitError> {
        let refused = |source| CommitError::Write(DbError::Disk(source));
        self.disk.before(step).map_err(refused)
    }

    /// Makes what must be on the disk before the first write of this process can be relied on.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub(super) fn begin(&mut self) -> Result<(), CommitError> {
        let db = Arc::clone(&self.db);
        let mut writes = db.write_set();
        if !self.authority.begin(&mut writes, &self.last) {
            return Ok(());
        }
        let key = self.next(self.last.epoch);
        records::put(&mut writes, &(), &key);
        self.before("begin.write")?;
        writes
            .commit(Durability::Sync)
            .map_err(CommitError::Write)?;
        self.last = key;
        self.authority.confirm(&key, Durability::Sync)
    }

    /// Whether the authority carries the messages of a stream.
    pub(super) fn carries(&self, stream: StreamId) -> bool {
        self.authority.carries(stream)
    }

    /// Has the authority decide that an epoch exists.
    ///
    /// # Errors
    /// [`CommitError::NotPrepared`] if it does not, and may be tried again; otherwise the process must end.
    pub(super) fn decide(&mut self, epoch: &Deciding<'_>) -> Result<(), CommitError> {
        let number = epoch.key.epoch;
        self.authority.decide(epoch).map_err(|error| match error {
            Undecided::Again(why) => CommitError::NotPrepared { epoch: number, why },
            Undecided::Unknown(why) => CommitError::Undecided { epoch: number, why },
        })
    }

    /// Makes a write that means nothing unless the next one follows, which makes it durable.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub(super) fn write_ahead(&self, writes: WriteSet<'_>) -> Result<(), StateError> {
        let refused = |source| StateError::Db(DbError::Disk(source));
        self.disk.before("undo.write").map_err(refused)?;
        Ok(writes.commit(Durability::Process)?)
    }

    /// Makes a write.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub(super) fn write(
        &mut self,
        mut writes: WriteSet<'_>,
        key: CommitKey,
    ) -> Result<Unconfirmed, CommitError> {
        assert!(
            key.seq == self.last.seq.next()
                && key.prev_nonce == self.last.nonce
                && key.epoch >= self.last.epoch,
            "a write does not follow the last one"
        );
        records::put(&mut writes, &(), &key);
        self.authority.accompany(&mut writes);
        let durability = self.authority.durability();
        writes.commit(durability).map_err(CommitError::Write)?;
        self.last = key;
        Ok(Unconfirmed { key, durability })
    }

    /// Makes the second account of a write.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub(super) fn confirm(&mut self, write: Unconfirmed) -> Result<Written, CommitError> {
        self.before("commit.witness")?;
        let Unconfirmed { key, durability } = write;
        self.authority.confirm(&key, durability)?;
        Ok(Written { key })
    }

    /// Accounts for what the database has done by itself since the last write, if the directory is still ours.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub(super) fn renew(&mut self) -> Result<(), CommitError> {
        match self.check_directory() {
            Ok(()) => self.authority.renew(),
            // The next write says so.
            Err(_) => Ok(()),
        }
    }
}
