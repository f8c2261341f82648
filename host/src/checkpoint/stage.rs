//! The stages of an epoch on its way, and where it is now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::Epoch;

/// The stages of an epoch, in their order. It is the same for every [`Authority`](super::authority::Authority): one that
/// decides nothing before the write has nothing to do in [`Decide`](CommitStage::Decide), and one that trusts its own
/// account has nothing to do in [`Confirm`](CommitStage::Confirm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommitStage {
    /// Build the one write. Nothing has happened, and it may be tried again.
    Prepare,
    /// An authority outside of the database decides that the epoch exists.
    Decide,
    /// The write to the database. For the local authority this decides.
    Write,
    /// A second account of the write.
    Confirm,
    /// Log readers see the epoch.
    Publish,
    /// Outboxes are delivered, each in order.
    Deliver,
}

impl CommitStage {
    /// All of them, in order.
    pub const ALL: [CommitStage; 6] = [
        CommitStage::Prepare,
        CommitStage::Decide,
        CommitStage::Write,
        CommitStage::Confirm,
        CommitStage::Publish,
        CommitStage::Deliver,
    ];

    /// The word for it in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            CommitStage::Prepare => "prepare",
            CommitStage::Decide => "decide",
            CommitStage::Write => "write",
            CommitStage::Confirm => "confirm",
            CommitStage::Publish => "publish",
            CommitStage::Deliver => "deliver",
        }
    }
}

/// The epoch that is being committed, and its stage. Written by the committer; anybody may read it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Option<At>>>);

/// Where an epoch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The epoch.
    pub epoch: Epoch,
    /// Its stage.
    pub stage: CommitStage,
    /// Since when.
    pub since: Instant,
}

impl At {
    /// How long it has been there.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Progress {
    /// The epoch that is being committed; `None` between two epochs.
    pub fn now(&self) -> Option<At> {
        *self.0.lock()
    }

    pub(super) fn enter(&self, epoch: Epoch, stage: CommitStage) {
        let since = Instant::now();
        *self.0.lock() = Some(At {
            epoch,
            stage,
            since,
        });
    }

    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}
