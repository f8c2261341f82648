//! The state directory: made whole or not at all, held by one process, refused when it is not what it was.
//!
//! | entry | what |
//! | --- | --- |
//! | `FORMAT` | JSON: `{"format":1,"job":…,"state-id":…}` |
//! | `db/` | RocksDB |
//! | `witness` | see [`super::witness`] |
//! | `lock` | held by `flock`; JSON: `{"pid":…,"socket":…}` of the holder |
//! | `code/` | components by their SHA-256 |
//!
//! How one is made: see [`super::making`].
//!
//! Opening one: lock, `FORMAT`, then a *read-only* open of the database, whose commit key is compared with the witness. An
//! ordinary open would replay, flush and delete the write-ahead log, and with it the evidence of what is wrong. Only
//! when they agree is the database opened for writing. A refused directory is unchanged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lock::{self, Held, Lock};
pub use super::making::move_aside;
use super::making::{self, Found};
use super::witness::{self, Verdict, Witness};
use super::{OpenError, StateId};
use crate::disk::{Disk, DiskError, Room};
use crate::model::{CommitKey, shown};
use crate::records::{self, Unwitnessed};
use crate::state::{Db, DbOptions, Durability};

/// The version of the directory's layout and of everything in it.
pub const FORMAT: u32 = 1;

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

/// Looks at a database (`None`: there is none yet) and refuses it or not.
pub type Check<'a> = Box<dyn Fn(Option<&Db>) -> Result<(), OpenError> + 'a>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FormatFile {
    pub(super) format: u32,
    pub(super) job: String,
    pub(super) state_id: String,
}

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
    disk: Disk,
}

/// Opens the directory, or makes it where there is none.
///
/// # Errors
/// It is in use, it is not this job's, it is damaged, or the disk fails.
pub fn open_or_create(options: &DirectoryOptions<'_>) -> Result<Directory, OpenError> {
    if making::find(&options.path)? == Found::Made {
        return open(options);
    }
    (options.check)(None)?;
    match making::make(options)? {
        // Nobody else comes in between.
        Some(lock) => open_with(options, |_| Ok(lock)),
        None => open(options),
    }
}

/// Whether there is a state directory, or something that is refused as one.
pub fn is_made(path: &Path) -> bool {
    making::find(path).map_or(true, |found| found == Found::Made)
}

/// Whether [`open_or_create`] would find what it needs. Changes nothing.
///
/// # Errors
/// As [`open_or_create`].
pub fn check(options: &DirectoryOptions<'_>) -> Result<(), OpenError> {
    if making::find(&options.path)? != Found::Made {
        return (options.check)(None);
    }
    look(options).map(drop)
}

/// A state directory that is looked into: nothing in it changes meanwhile.
pub struct Looking {
    /// Its place.
    pub path: PathBuf,
    /// The database, read-only.
    pub db: Arc<Db>,
}

/// Looks into a directory that must exist. Changes nothing.
///
/// # Errors
/// As [`open`].
pub fn look(options: &DirectoryOptions<'_>) -> Result<Looking, OpenError> {
    let (lock, state_id) = enter(options, Lock::share)?;
    let (db, _) = check_unopened(options, state_id)?;
    Ok(Looking {
        path: options.path.clone(),
        db: Arc::new(db.with_right(lock.right())),
    })
}

/// Who holds a directory, or is making it.
pub fn held(path: &Path) -> Held {
    match path.join("lock").exists() {
        true => lock::held(&path.join("lock")),
        false => lock::held(&making::beside(path).join("lock")),
    }
}

/// Opens a directory that must exist.
///
/// # Errors
/// As [`open_or_create`], and where there is none.
pub fn open(options: &DirectoryOptions<'_>) -> Result<Directory, OpenError> {
    open_with(options, |path| Lock::take(path, false))
}

fn open_with(
    options: &DirectoryOptions<'_>,
    lock: impl FnOnce(&Path) -> Result<Lock, OpenError>,
) -> Result<Directory, OpenError> {
    let path = &options.path;
    let (lock, state_id) = enter(options, lock)?;
    await_reserve(options)?;
    let (unopened, behind) = check_unopened(options, state_id)?;
    drop(unopened);
    let (db_path, witness_path) = (path.join("db"), path.join("witness"));
    making::end(&options.disk, path)?;
    options.disk.before_at("open.database", "open", &db_path)?;
    let db = Db::open(&db_path, &options.db).map_err(|error| db_refused(path, error))?;
    let db = db.with_right(lock.right());
    let commit = read_commit(path, &db)?;
    let (mut witness, _) = Witness::open(&options.disk, &witness_path, state_id)?;
    if behind {
        witness.write(&commit, Durability::Sync)?;
    }
    Ok(Directory {
        path: path.clone(),
        state_id,
        lock,
        db: Arc::new(db),
        commit,
        witness,
        disk: options.disk.clone(),
    })
}

/// Takes the lock, and looks whether it is a state directory of this job.
fn enter(
    options: &DirectoryOptions<'_>,
    lock: impl FnOnce(&Path) -> Result<Lock, OpenError>,
) -> Result<(Lock, StateId), OpenError> {
    let path = &options.path;
    let lock_path = path.join("lock");
    let lock = lock(&lock_path).map_err(|error| match error {
        OpenError::Disk(error) if error.source.kind() == io::ErrorKind::NotFound => {
            refused(path, "it has no `lock` file, so it is no state directory or is damaged; restore a copy, or run `wasm-host reset`")
        }
        other => other,
    })?;
    let state_id = check_format(options)?;
    Ok((lock, state_id))
}

/// Compares the database with the witness and the job without changing anything. Returns the database, read-only, and
/// whether the witness is one write behind.
fn check_unopened(
    options: &DirectoryOptions<'_>,
    state_id: StateId,
) -> Result<(Db, bool), OpenError> {
    let path = &options.path;
    let db_path = path.join("db");
    if !db_path.join("CURRENT").is_file() {
        return Err(refused(
            path,
            "its database has no CURRENT file: it is damaged; restore a copy, or run `wasm-host reset`",
        ));
    }
    let db = Db::open_read_only(&db_path, &options.db).map_err(|error| db_refused(path, error))?;
    let commit = read_commit(path, &db)?;
    let behind = check_witness(path, state_id, &db, &commit)?;
    (options.check)(Some(&db))?;
    Ok((db, behind))
}

/// Whether the witness is one write behind the database. Anything else but agreement is refused.
fn check_witness(
    path: &Path,
    state_id: StateId,
    db: &Db,
    commit: &CommitKey,
) -> Result<bool, OpenError> {
    let unwitnessed: Option<Unwitnessed> =
        records::get(db, &()).map_err(|error| refused(path, &shown::chain(&error)))?;
    if let Some(unwitnessed) = &unwitnessed
        && boot_id().as_ref() != Some(&unwitnessed.boot_id)
    {
        tracing::warn!(
            "{}: the machine was restarted, and checkpoints after {} were not synced: some may be lost",
            path.display(),
            unwitnessed.synced
        );
        return Ok(false);
    }
    let newest = Witness::read(&path.join("witness")).map_err(|error| {
        refused(
            path,
            &format!(
                "its witness cannot be read: {error}; restore a copy, or run `wasm-host reset`"
            ),
        )
    })?;
    match witness::judge(state_id, commit, newest) {
        Verdict::Agree => Ok(false),
        // The first write of this process brings it up to date.
        Verdict::WitnessBehind => Ok(unwitnessed.is_none()),
        // Versions that kept no witness of unsynced writes have left it behind by any number. Nothing is lost by it.
        Verdict::Foreign(_)
            if unwitnessed.is_some()
                && newest.is_some_and(|newest| {
                    newest.state_id == state_id && newest.seq < commit.seq
                }) =>
        {
            Ok(false)
        }
        Verdict::CommitsLost { witness } => Err(refused(
            path,
            &format!(
                "commits are lost: the witness saw checkpoint {} (write {}), but the database ends at checkpoint {} (write {}). \
                 Its write-ahead log was damaged or cut. Readers may have seen output of the lost checkpoints. Restore a copy \
                 of the directory, or run `wasm-host reset` to begin anew",
                witness.epoch, witness.seq, commit.epoch, commit.seq
            ),
        )),
        Verdict::Foreign(what) => Err(refused(
            path,
            &format!(
                "{what}. The directory is damaged or put together from several; restore a copy, or run `wasm-host reset`"
            ),
        )),
    }
}

fn check_format(options: &DirectoryOptions<'_>) -> Result<StateId, OpenError> {
    let path = &options.path;
    let file = path.join("FORMAT");
    let text = fs::read(&file).map_err(|error| {
        refused(
            path,
            &format!(
                "its FORMAT file cannot be read: {error}; restore a copy, or run `wasm-host reset`"
            ),
        )
    })?;
    // The version is read alone first: a later one may have other fields.
    let version = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("format")?.as_u64());
    match version {
        Some(version) if version == u64::from(FORMAT) => {}
        Some(version) => {
            return Err(refused(
                path,
                &format!(
                    "it has format {version}, this wasm-host knows {FORMAT}: use the newer wasm-host that wrote it"
                ),
            ));
        }
        None => {
            return Err(refused(
                path,
                "its FORMAT file is damaged; restore a copy, or run `wasm-host reset`",
            ));
        }
    }
    let format: FormatFile = serde_json::from_slice(&text).map_err(|error| {
        refused(
            path,
            &format!(
                "its FORMAT file is damaged: {error}; restore a copy, or run `wasm-host reset`"
            ),
        )
    })?;
    if format.job != options.job {
        return Err(refused(
            path,
            &format!(
                "it belongs to job {:?}, not {:?}: give this job another `state-dir`, or rename it back",
                format.job, options.job
            ),
        ));
    }
    format.state_id.parse().map_err(|()| {
        refused(
            path,
            "its FORMAT file has no valid state-id; restore a copy, or run `wasm-host reset`",
        )
    })
}

fn read_commit(path: &Path, db: &Db) -> Result<CommitKey, OpenError> {
    match records::get(db, &()) {
        Ok(Some(commit)) => Ok(commit),
        Ok(None) => Err(refused(
            path,
            "its database has no commit key: it is damaged; restore a copy, or run `wasm-host reset`",
        )),
        Err(error) => Err(refused(
            path,
            &format!(
                "its database is damaged: {}; restore a copy, or run `wasm-host reset`",
                shown::chain(&error)
            ),
        )),
    }
}

/// Waits until the file system has the reserve: a process that dies of a full disk, is restarted and dies again helps
/// nobody.
pub(super) fn await_reserve(options: &DirectoryOptions<'_>) -> Result<(), OpenError> {
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

impl Directory {
    /// Keeps the bytes of a component in `code/`, so that the checkpoint's component can be run again whatever becomes of the
    /// file that the job names.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_code(&self, sha256: &str, bytes: &[u8]) -> Result<(), OpenError> {
        let path = code_path(&self.path, sha256);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        self.disk.before_at("code.write", "write", &path)?;
        Ok(self.disk.replace(&path, bytes)?)
    }
}

/// Where a component of a state directory is kept.
pub fn code_path(directory: &Path, sha256: &str) -> PathBuf {
    directory.join("code").join(format!("{sha256}.wasm"))
}

/// The kernel's name for the time since it was started.
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

pub(super) fn refused(path: &Path, why: &str) -> OpenError {
    OpenError::Refused {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn db_refused(path: &Path, error: crate::state::DbError) -> OpenError {
    if error.no_space() || error.is_environment() {
        return OpenError::Db {
            path: path.to_owned(),
            source: error,
        };
    }
    let source = std::error::Error::source(&error)
        .map(shown::chain)
        .unwrap_or_default();
    refused(
        path,
        &format!("its database is damaged: {source}; restore a copy, or run `wasm-host reset`"),
    )
}
