//! The state directory: made whole or not at all, held by one process, refused when it is not what it was.
//!
//! | entry | what |
//! | --- | --- |
//! | `FORMAT` | JSON: `{"format":4,"job":…,"state-id":…}` |
//! | `db/` | RocksDB |
//! | `segments/` | parts of the embedded log, see [`super::logs`] |
//! | `witness` | see [`super::witness`] |
//! | `lock` | held by `flock`; JSON: `{"pid":…,"socket":…}` of the holder |
//! | `code/` | components by their SHA-256 |
//!
//! [`init`] makes one, [`open`] opens one or refuses it, [`lock`] says who holds it.

mod code;
mod format;
mod init;
mod lock;
mod open;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use code::{CodeFolder, code_path, needed};
pub use init::move_aside;
pub use lock::{Held, Holder, Lock};
pub use open::{check, held, is_made, look, open, open_or_create};

use super::witness::Witness;
use super::{OpenError, StateId};
use crate::disk::{Disk, DiskError, Room};
use crate::model::CommitKey;
use crate::state::{Db, DbOptions};

/// How a directory is opened.
pub struct DirectoryOptions<'a> {
    /// Where it is.
    pub path: PathBuf,
    /// The job that it must belong to.
    pub job: String,
    /// Bytes that must be free on its file system before the database is opened.
    pub disk_reserve: u64,
    /// The database's settings.
    pub db: DbOptions,
    /// Where it is written.
    pub disk: Disk,
    /// Whether what is in it fits the job: asked before anything is changed.
    pub check: Check<'a>,
}

/// Checks a database and whose it is (`None`: not made yet); an error refuses it.
pub type Check<'a> = Box<dyn Fn(Option<(&Db, StateId)>) -> Result<(), OpenError> + 'a>;

/// An open state directory.
pub struct Directory {
    /// Its place.
    pub path: PathBuf,
    /// Its identity.
    pub state_id: StateId,
    /// The right to use it.
    pub lock: Lock,
    /// The database.
    pub db: Arc<Db>,
    /// The last synced write.
    pub commit: CommitKey,
    pub(super) witness: Witness,
}

/// An open directory without its witness.
pub struct Opened {
    pub(in crate::checkpoint) path: PathBuf,
    pub(in crate::checkpoint) state_id: StateId,
    pub(in crate::checkpoint) db: Arc<Db>,
    pub(in crate::checkpoint) lock: Lock,
    pub(in crate::checkpoint) last: CommitKey,
}

impl Directory {
    /// The directory for a committer, and its witness for the authority that uses it.
    pub(super) fn split(self) -> (Opened, Witness) {
        let opened = Opened {
            path: self.path,
            state_id: self.state_id,
            db: self.db,
            lock: self.lock,
            last: self.commit,
        };
        (opened, self.witness)
    }
}

/// A state directory opened to be read. Nothing in it changes meanwhile.
pub struct Inspected {
    /// Its place.
    pub path: PathBuf,
    /// The database, read-only.
    pub db: Arc<Db>,
}

/// Waits until the file system has the reserve. Ending here would not help: the process would be restarted and end again.
fn await_reserve(options: &DirectoryOptions<'_>) -> Result<(), OpenError> {
    let place = match options.path.is_dir() {
        true => options.path.as_path(),
        false => options
            .path
            .parent()
            .filter(|parent| parent.is_dir())
            .unwrap_or(Path::new(".")),
    };
    let reserve = options.disk_reserve;
    let waits = |free| {
        tracing::warn!(
            "{}: {free} bytes are free, fewer than disk-reserve = {reserve} bytes; waiting for room",
            place.display()
        );
    };
    match Room::wait(place, reserve, waits, |_| false) {
        Ok(_) => Ok(()),
        Err(error) => Err(DiskError::of("ask for free space of", place)(error).into()),
    }
}

/// The kernel's name for the time since the machine was started.
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

fn refused(path: &Path, why: &str) -> OpenError {
    OpenError::Refused {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

/// Refuses a directory that only a copy can help.
fn damaged(path: &Path, what: &str) -> OpenError {
    refused(
        path,
        &format!("{what}; restore a copy, or run `wasm-host reset`"),
    )
}
