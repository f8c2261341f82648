//! The database decides: a synced write, of which the witness keeps a second account.
//!
//! Unsynced writes can put the database any number of writes ahead of a witness that a power cut spared. While that is possible,
//! the database carries a mark. It is synced before the first unsynced write; and on the way back the witness is brought up to
//! date, under the mark, before the write that removes the mark.

use super::{Authority, Deciding, Undecided};
use crate::checkpoint::CommitError;
use crate::checkpoint::directory::boot_id;
use crate::checkpoint::witness::Witness;
use crate::model::CommitKey;
use crate::records::{self, Unwitnessed};
use crate::state::{Durability, WriteSet};

/// The mark of unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Absent,
    Present,
    /// The write that is being made removes it.
    Leaving,
}

/// The database decides.
pub(in crate::checkpoint) struct Local {
    witness: Witness,
    durability: Durability,
    mark: Mark,
}

impl Local {
    /// `is_marked`: whether the database carries the mark of unsynced writes.
    pub(in crate::checkpoint) fn new(
        witness: Witness,
        durability: Durability,
        is_marked: bool,
    ) -> Local {
        Local {
            witness,
            durability,
            mark: match is_marked {
                true => Mark::Present,
                false => Mark::Absent,
            },
        }
    }
}

impl Authority for Local {
    fn begin(&mut self, writes: &mut WriteSet<'_>, last: &CommitKey) -> bool {
        if self.durability == Durability::Sync {
            return self.mark != Mark::Absent;
        }
        let mark = Unwitnessed {
            boot_id: boot_id().unwrap_or_default(),
            synced: last.epoch,
        };
        records::put(writes, &(), &mark);
        self.mark = Mark::Present;
        true
    }

    fn check(&self) -> Result<(), CommitError> {
        match self.witness.is_in_place() {
            true => Ok(()),
            false => Err(CommitError::WitnessGone(self.witness.path().to_owned())),
        }
    }

    fn decide(&mut self, _: &Deciding<'_>) -> Result<(), Undecided> {
        // The write will.
        Ok(())
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn accompany(&mut self, writes: &mut WriteSet<'_>) {
        if self.durability == Durability::Sync && self.mark != Mark::Absent {
            records::delete::<Unwitnessed>(writes, &());
            self.mark = Mark::Leaving;
        }
    }

    fn confirm(&mut self, write: &CommitKey, durability: Durability) -> Result<(), CommitError> {
        if self.mark == Mark::Leaving {
            self.mark = Mark::Absent;
        }
        let written = self.witness.write(write, durability);
        written.map_err(CommitError::Witness)
    }

    fn renew(&mut self) -> Result<(), CommitError> {
        let renewed = self.witness.renew(self.durability);
        renewed.map_err(CommitError::Witness)
    }
}
