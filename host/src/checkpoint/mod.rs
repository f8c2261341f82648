//! The commit protocol: what makes an epoch durable, in which order, and what a restart finds.
//!
//! One database per container; a checkpoint is one write to it. [`directory`] opens the state directory or refuses it,
//! [`catalog`] gives names their numbers, [`committer`] moves an epoch through its stages, [`authority`] says what decides
//! that it exists, [`ledger`] numbers the writes, [`logs`] and [`outputs`] hold what readers see, [`decide`] every verdict that
//! needs facts only. Must never know wasm or guest code.
//!
//! Invariants:
//!
//! - One act decides: before it nothing of the epoch exists, after it all of it does.
//! - Output is shown to readers, delivered, or deleted by retention only with a [`ledger::Written`] in hand, and only the ledger
//!   makes one, for a write that is made and accounted for.
//! - After an error at or behind the decision the process ends; what happened is for the restart to read.

pub mod authority;
pub mod catalog;
pub mod check;
mod committer;
pub mod decide;
pub mod directory;
mod epoch_write;
mod hold;
mod ledger;
mod letters;
pub mod logs;
mod manifest;
mod mirrors;
pub mod outputs;
mod positions;
mod read_up_to;
mod stage;
mod witness;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use committer::{Beginning, Committed, Committer, CommitterOptions};
pub use directory::{Directory, DirectoryOptions, Held, Holder, Lock, Opened};
pub use hold::{HoldEnd, HoldFigures, Progressed};
pub use letters::{LetterKey, QueuedLetter};

pub use stage::{At, CommitStage, Progress};

use crate::connectors::{SinkError, SourceError};
use crate::disk::DiskError;
use crate::state::{DbError, StateError};

/// Identifies a state directory for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateId(pub [u8; 16]);

impl StateId {
    /// A new one.
    pub fn random() -> StateId {
        StateId(rand::random())
    }
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for StateId {
    type Err = ();

    fn from_str(text: &str) -> Result<StateId, ()> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| ())?;
        Ok(StateId(number.to_be_bytes()))
    }
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not what it should be. Nothing in it was changed.
    #[error("state directory {} refused: {why}", path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// What was found and what to do.
        why: String,
    },
    /// Another process has it.
    #[error("state directory {} is in use{}", path.display(), pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The holder.
        pid: Option<u32>,
    },
    /// A file or folder in it could not be made, read or synced.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The database failed.
    #[error("state directory {}", path.display())]
    Db {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: DbError,
    },
    /// The state in it could not be read.
    #[error("state directory {}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The first write of the process failed.
    #[error("state directory {}", path.display())]
    Begin {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<CommitError>,
    },
    /// What is noted outside of the job of where it reads is not what it has noted, or cannot be looked at.
    #[error("input stream {stream:?}")]
    Input {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// What several outputs are delivered by does not fit what was recorded, or cannot be reached.
    #[error("output")]
    Carrier {
        /// Its name among the records.
        name: String,
        /// Why.
        #[source]
        source: SinkError,
    },
    /// An output outside of the database is not what was recorded.
    #[error("output stream {stream:?}")]
    Sink {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: SinkError,
    },
}

/// A checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Before the decision point: nothing happened, and it may be tried again.
    #[error("checkpoint {epoch} could not be prepared: {why}")]
    NotPrepared {
        /// The epoch.
        epoch: crate::model::Epoch,
        /// Why.
        why: String,
    },
    /// The same, because the disk has less than the reserve.
    #[error("checkpoint {epoch} could not be prepared: {why}; make room")]
    NoRoom {
        /// The epoch.
        epoch: crate::model::Epoch,
        /// How much there is.
        why: String,
    },
    /// Whether the checkpoint exists, only the authority outside of the database knows.
    #[error("checkpoint {epoch} is undecided: {why}")]
    Undecided {
        /// The epoch.
        epoch: crate::model::Epoch,
        /// What the authority did not answer.
        why: String,
    },
    /// At the decision point: whether the checkpoint exists is unknown.
    #[error("write the checkpoint")]
    Write(#[source] DbError),
    /// What was appended to the log could not be made durable.
    #[error("write to the log")]
    Log(#[source] DiskError),
    /// The witness could not be written.
    #[error("write the witness")]
    Witness(#[source] DiskError),
    /// The checkpoint exists, but `memory` stores have outgrown the cache.
    #[error(transparent)]
    State(#[from] StateError),
    /// The checkpoint exists, but its output could not be delivered.
    #[error("deliver to stream {stream:?}")]
    Deliver {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: SinkError,
    },
    /// A stream that came with other code cannot be written.
    #[error("open stream {stream:?}, which came with new code")]
    Declare {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: Box<OpenError>,
    },
    /// The state directory was removed or replaced.
    #[error("the state directory {} is no longer the one that was opened", .0.display())]
    DirectoryGone(PathBuf),
    /// The witness was removed or replaced.
    #[error(
        "{} was removed or replaced while the job ran; nothing was committed since: put that file back,          or else restore a copy of the state directory or run `wasm-host reset`",
        .0.display()
    )]
    WitnessGone(PathBuf),
}

/// A write could not be built. Nothing happened.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    /// The database cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log cannot be appended to.
    #[error(transparent)]
    Log(#[from] DiskError),
    /// What was made for the log may not be durable, and another attempt would not show it.
    #[error(transparent)]
    Sync(DiskError),
}

impl From<BuildError> for CommitError {
    fn from(error: BuildError) -> CommitError {
        match error {
            BuildError::State(error) => CommitError::State(error),
            BuildError::Log(error) | BuildError::Sync(error) => CommitError::Log(error),
        }
    }
}

impl CommitError {
    /// Whether the disk is full.
    pub fn no_space(&self) -> bool {
        match self {
            CommitError::NoRoom { .. } => true,
            CommitError::Write(error) => error.no_space(),
            CommitError::Witness(error) | CommitError::Log(error) => error.no_space(),
            CommitError::Deliver {
                source: SinkError::Disk(error),
                ..
            } => error.no_space(),
            CommitError::Declare { source, .. } => matches!(
                &**source,
                OpenError::Sink { source: SinkError::Disk(error), .. } if error.no_space()
            ),
            _ => false,
        }
    }
}
