//! Opening a state directory, or refusing it.
//!
//! In this order: the lock, `FORMAT`, then a *read-only* open of the database, whose commit key is compared with the witness.
//! An ordinary open would replay, flush and delete the write-ahead log, and with it the evidence of what is wrong. Only
//! when they agree is the database opened for writing. A refused directory is unchanged.

use std::path::Path;
use std::sync::Arc;

use super::format::Identity;
use super::init::{self, Found};
use super::lock::{self, Held, Lock, Patience};
use super::{
    Directory, DirectoryOptions, Inspected, await_reserve, boot_id, damaged, format, refused,
};
use crate::checkpoint::decide::{self, Verdict};
use crate::checkpoint::logs;
use crate::checkpoint::witness::Witness;
use crate::checkpoint::{OpenError, StateId};
use crate::model::{CommitKey, shown};
use crate::records::{self, Unwitnessed};
use crate::state::{Db, DbError, Durability};

/// Opens the directory, or makes it if there is none.
///
/// # Errors
/// It is in use, it is not this job's, it is damaged, or the disk fails.
pub fn open_or_create(options: &DirectoryOptions<'_>) -> Result<Directory, OpenError> {
    let mut patience = Patience::default();
    loop {
        let lock = match init::find(&options.path)? {
            Found::Made => Lock::take(&options.path.join("lock"), &mut patience)?,
            Found::Nothing | Found::Folder => {
                (options.check)(None)?;
                init::make(options, &mut patience)?
            }
        };
        if let Some(directory) = open_with(options, lock)? {
            return Ok(directory);
        }
    }
}

/// Whether there is a state directory, or something that is refused as one.
pub fn is_made(path: &Path) -> bool {
    init::find(path).map_or(true, |found| found == Found::Made)
}

/// Whether [`open_or_create`] would find what it needs. Changes nothing.
///
/// # Errors
/// As [`open_or_create`].
pub fn check(options: &DirectoryOptions<'_>) -> Result<(), OpenError> {
    match look(options)? {
        Some(_) => Ok(()),
        None => (options.check)(None),
    }
}

/// Looks into a directory, if there is one. Changes nothing.
///
/// # Errors
/// As [`open`].
pub fn look(options: &DirectoryOptions<'_>) -> Result<Option<Inspected>, OpenError> {
    let mut patience = Patience::default();
    while init::find(&options.path)? == Found::Made {
        let lock = Lock::share(&options.path.join("lock"), &mut patience)?;
        if let Some((lock, identity)) = enter(options, lock)? {
            let (db, _) = check_unopened(options, identity.state_id)?;
            return Ok(Some(Inspected {
                path: options.path.clone(),
                db: Arc::new(db.with_right(lock.right())),
            }));
        }
    }
    Ok(None)
}

/// Who holds a directory, or is making it.
pub fn held(path: &Path) -> Held {
    match path.join("lock").exists() {
        true => lock::held(&path.join("lock")),
        false => lock::held(&init::beside(path).join("lock")),
    }
}

/// Opens a directory, if there is one.
///
/// # Errors
/// As [`open_or_create`].
pub fn open(options: &DirectoryOptions<'_>) -> Result<Option<Directory>, OpenError> {
    let mut patience = Patience::default();
    while init::find(&options.path)? == Found::Made {
        let lock = Lock::take(&options.path.join("lock"), &mut patience)?;
        if let Some(directory) = open_with(options, lock)? {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

/// `None`: see [`enter`].
fn open_with(
    options: &DirectoryOptions<'_>,
    lock: Option<Lock>,
) -> Result<Option<Directory>, OpenError> {
    let path = &options.path;
    let Some((lock, identity)) = enter(options, lock)? else {
        return Ok(None);
    };
    let state_id = identity.state_id;
    await_reserve(options)?;
    let (unopened, standing) = check_unopened(options, state_id)?;
    drop(unopened);
    let db_path = path.join("db");
    init::end(&options.disk, path)?;
    format::upgrade(&options.disk, path, &identity)?;
    options.disk.before_at("open.database", "open", &db_path)?;
    let db = Db::open(&db_path, &options.db).map_err(|error| db_refused(path, error))?;
    let db = db.with_right(lock.right());
    let commit = read_commit(path, &db)?;
    let mut witness = Witness::open(&options.disk, path, state_id)?;
    let blocks = match standing {
        Standing::Agree => 0,
        Standing::WitnessBehind => 1,
        // A block of a write that is lost must not speak against later ones. Until both are written the next start finds the same.
        Standing::WritesLost => 2,
    };
    for _ in 0..blocks {
        witness.write(&commit, Durability::Sync)?;
    }
    Ok(Some(Directory {
        path: path.clone(),
        state_id,
        lock,
        db: Arc::new(db),
        commit,
        witness,
    }))
}

/// Looks whether what was locked is a state directory of this job. `None`: look again what is there. Whoever had the lock before
/// may have moved the directory, or what is in it.
fn enter(
    options: &DirectoryOptions<'_>,
    lock: Option<Lock>,
) -> Result<Option<(Lock, Identity)>, OpenError> {
    let path = &options.path;
    let is_made = init::find(path)? == Found::Made;
    match lock {
        Some(lock) if is_made => Ok(Some((lock, format::read(path, &options.job)?))),
        None if is_made && !path.join("lock").exists() => Err(damaged(
            path,
            "it has no `lock` file, so it is not a state directory or is damaged",
        )),
        _ => Ok(None),
    }
}

/// How the witness of a database that is not refused stands to it.
enum Standing {
    /// They agree, or the next write makes them agree.
    Agree,
    /// It is one write behind.
    WitnessBehind,
    /// Writes that were not synced are lost, and it may have seen them.
    WritesLost,
}

/// Compares the database with the witness and the job without changing anything. Returns the database, read-only, and
/// how the witness stands to it.
fn check_unopened(
    options: &DirectoryOptions<'_>,
    state_id: StateId,
) -> Result<(Db, Standing), OpenError> {
    let path = &options.path;
    let db_path = path.join("db");
    if !db_path.join("CURRENT").is_file() {
        let what = "its database has no CURRENT file: it is damaged";
        return Err(damaged(path, what));
    }
    let db = Db::open_read_only(&db_path, &options.db).map_err(|error| db_refused(path, error))?;
    let commit = read_commit(path, &db)?;
    let standing = check_witness(path, state_id, &db, &commit)?;
    let missing = logs::find_missing(path, &db);
    if let Some(what) = missing.map_err(|error| database_damaged(path, &error))? {
        return Err(damaged(path, &what));
    }
    (options.check)(Some((&db, state_id)))?;
    Ok((db, standing))
}

/// How the witness stands to the database. What cannot be explained is refused.
fn check_witness(
    path: &Path,
    state_id: StateId,
    db: &Db,
    commit: &CommitKey,
) -> Result<Standing, OpenError> {
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
        return Ok(Standing::WritesLost);
    }
    let newest = Witness::read(path)
        .map_err(|error| damaged(path, &format!("its witness cannot be read: {error}")))?;
    let listed = match newest.and_then(|newest| newest.listed) {
        Some(listed) => listed.check(&path.join("db")),
        None => Ok(()),
    };
    let standing = match decide::judge(state_id, commit, newest) {
        Verdict::Agree => Standing::Agree,
        // The first write of this process brings it up to date.
        Verdict::WitnessBehind if unwitnessed.is_some() => Standing::Agree,
        Verdict::WitnessBehind => Standing::WitnessBehind,
        // Versions that kept no witness of unsynced writes have left it behind by any number. Nothing is lost by it.
        Verdict::Foreign(_)
            if unwitnessed.is_some()
                && newest.is_some_and(|newest| {
                    newest.state_id == state_id && newest.seq < commit.seq
                }) =>
        {
            Standing::Agree
        }
        Verdict::CommitsLost { witness } => {
            let cause = listed.err();
            let cause = cause
                .as_deref()
                .unwrap_or("Its write-ahead log was damaged or cut");
            let what = format!(
                "commits are lost: the witness saw checkpoint {} (write {}), but the database ends at checkpoint {} (write {}). \
                 {cause}. Readers may have seen output of the lost checkpoints. Restore a copy of the directory, or run \
                 `wasm-host reset` to start over",
                witness.epoch, witness.seq, commit.epoch, commit.seq
            );
            return Err(refused(path, &what));
        }
        Verdict::Foreign(what) => {
            let what = format!("{what}. The directory is damaged or put together from several");
            return Err(damaged(path, &what));
        }
    };
    listed.map_err(|what| damaged(path, &format!("its database is damaged. {what}")))?;
    Ok(standing)
}

fn read_commit(path: &Path, db: &Db) -> Result<CommitKey, OpenError> {
    match records::get(db, &()) {
        Ok(Some(commit)) => Ok(commit),
        Ok(None) => Err(damaged(
            path,
            "its database has no commit key: it is damaged",
        )),
        Err(error) => Err(database_damaged(path, &error)),
    }
}

fn db_refused(path: &Path, error: DbError) -> OpenError {
    if error.no_space() || error.is_environment() {
        return OpenError::Db {
            path: path.to_owned(),
            source: error,
        };
    }
    match std::error::Error::source(&error) {
        Some(source) => database_damaged(path, source),
        None => database_damaged(path, &error),
    }
}

fn database_damaged(path: &Path, error: &dyn std::error::Error) -> OpenError {
    damaged(
        path,
        &format!("its database is damaged: {}", shown::chain(error)),
    )
}
