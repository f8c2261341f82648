//! Making a state directory, whole or not at all, and moving one aside.
//!
//! If there is no folder, everything is written to a sibling with the suffix `.init`, synced, and renamed. A crash before the
//! rename leaves a sibling that the next start removes; after it, a directory that is complete.
//!
//! A folder that is there may be a mount point, which cannot be renamed to; so it is made into a state directory in its place. The
//! file `INIT` is in it from before the first step until `FORMAT` has got its name, which is the last step: a folder with `INIT`
//! and without `FORMAT` is half made, and the next start makes it again. `INIT` is gone for good before anything is committed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::format;
use super::lock::{Lock, Patience};
use super::{DirectoryOptions, await_reserve, refused};
use crate::checkpoint::witness::Witness;
use crate::checkpoint::{OpenError, StateId};
use crate::disk::{Disk, DiskError, parent, sibling};
use crate::model::{CommitKey, Epoch, Nonce, Seq};
use crate::records;
use crate::state::{Db, Durability};

/// The mark of a folder that is half made.
const MARK: &str = "INIT";
/// What a file system has in its root by itself.
const LOST_AND_FOUND: &str = "lost+found";
/// What begins the name of a folder with what was moved aside.
const RESET: &str = "reset-";

/// What is found in place of a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A folder without a state directory in it: empty, as a file system is made, reset, or half made.
    Folder,
    /// A state directory, in whatever condition.
    Made,
}

/// Looks what is there.
pub(super) fn find(path: &Path) -> Result<Found, OpenError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(refused(path, "it is a file, not a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path).is_ok() {
                true => Err(refused(path, "it is a symbolic link to nothing")),
                false => Ok(Found::Nothing),
            };
        }
        Err(source) => return Err(DiskError::of("look at", path)(source).into()),
    }
    let names = names(path)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let blank = names
        .iter()
        .all(|name| name == "lock" || stays(&name.to_string_lossy()));
    Ok(match blank || has(MARK) && !has("FORMAT") {
        true => Found::Folder,
        false => Found::Made,
    })
}

/// Whether something is not part of a state directory.
fn stays(name: &str) -> bool {
    name == LOST_AND_FOUND || name.starts_with(RESET)
}

fn names(path: &Path) -> Result<Vec<std::ffi::OsString>, OpenError> {
    let names = fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.collect::<io::Result<_>>()
    });
    Ok(names.map_err(DiskError::of("read", path))?)
}

/// Where a directory is made that is renamed to `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    sibling(path, ".init")
}

/// Makes a state directory if there is none. Yields its lock, or `None` if another process made it meanwhile.
pub(super) fn make(
    options: &DirectoryOptions<'_>,
    patience: &mut Patience,
) -> Result<Option<Lock>, OpenError> {
    let path = &options.path;
    options.disk.make_folders(parent(path))?;
    await_reserve(options)?;
    loop {
        let made = match find(path)? {
            Found::Nothing => make_beside(options, patience)?,
            Found::Folder => make_in_place(options, patience)?,
            Found::Made => return Ok(None),
        };
        if made.is_some() {
            return Ok(made);
        }
    }
}

/// `None`: another process was faster. Look again.
fn make_beside(
    options: &DirectoryOptions<'_>,
    patience: &mut Patience,
) -> Result<Option<Lock>, OpenError> {
    let (path, disk) = (&options.path, &options.disk);
    let init = beside(path);
    disk.before_at("init.make", "make", &init)?;
    disk.make_private(&init)?;
    // A process that is making it at this moment holds the lock; what a crash left behind is removed. No lock: the process that
    // held it before has renamed the folder, or removed it.
    let lock = match Lock::make(&init.join("lock"), patience) {
        Err(OpenError::InUse { pid, .. }) => {
            let path = path.clone();
            return Err(OpenError::InUse { pid, path });
        }
        lock => lock?,
    };
    let Some(lock) = lock else {
        return Ok(None);
    };
    if find(path)? != Found::Nothing {
        disk.remove_if_there(&init)?;
        return Ok(None);
    }
    let state_id = fill(options, &init)?;
    let format = init.join("FORMAT");
    disk.before_at("init.format", "write", &format)?;
    format::write(disk, &format, &options.job, state_id)?;
    disk.before_at("init.sync", "sync", &init)?;
    sync_all(disk, &init)?;
    disk.before_at("init.rename", "rename to", path)?;
    disk.rename(&init, path)?;
    disk.before_at("init.sync-parent", "sync", parent(path))?;
    disk.sync_folder(parent(path))?;
    Ok(Some(lock.moved_to(path.join("lock"))))
}

/// `None`: another process was faster. Look again.
fn make_in_place(
    options: &DirectoryOptions<'_>,
    patience: &mut Patience,
) -> Result<Option<Lock>, OpenError> {
    let (path, disk) = (&options.path, &options.disk);
    disk.before_at("init.lock", "lock", path)?;
    let Some(lock) = Lock::make(&path.join("lock"), patience)? else {
        return Ok(None);
    };
    if find(path)? != Found::Folder {
        return Ok(None);
    }
    let mark = path.join(MARK);
    disk.before_at("init.mark", "write", &mark)?;
    disk.remove_if_there(&mark)?;
    disk.write_new(&mark, b"")?;
    disk.sync_folder(path)?;
    let state_id = fill(options, path)?;
    let (new, format) = (path.join("FORMAT.new"), path.join("FORMAT"));
    disk.before_at("init.format", "write", &new)?;
    disk.remove_if_there(&new)?;
    format::write(disk, &new, &options.job, state_id)?;
    disk.before_at("init.sync", "sync", path)?;
    sync_all(disk, path)?;
    disk.before_at("init.rename", "rename to", &format)?;
    disk.rename(&new, &format)?;
    disk.before_at("init.sync-folder", "sync", path)?;
    disk.sync_folder(path)?;
    disk.before_at("init.unmark", "clear", &mark)?;
    unmark(disk, path)?;
    Ok(Some(lock))
}

/// Makes durable what a crash at the end may have left undone: the directory's name, and that it is not marked any more.
pub(super) fn end(disk: &Disk, path: &Path) -> Result<(), OpenError> {
    let parent = parent(path);
    if parent.is_dir() {
        disk.sync_folder(parent)?;
    }
    match path.join(MARK).exists() {
        true => unmark(disk, path),
        false => Ok(()),
    }
}

fn unmark(disk: &Disk, path: &Path) -> Result<(), OpenError> {
    disk.remove_if_there(&path.join(MARK))?;
    Ok(disk.sync_folder(path)?)
}

/// Removes what an earlier attempt has left, and makes everything but `FORMAT`.
fn fill(options: &DirectoryOptions<'_>, folder: &Path) -> Result<StateId, OpenError> {
    let disk = &options.disk;
    for name in ["db", "code", "FORMAT", "witness"] {
        disk.remove_if_there(&folder.join(name))?;
    }
    let state_id = StateId::random();
    let commit = CommitKey {
        seq: Seq(1),
        epoch: Epoch(0),
        nonce: Nonce(rand::random()),
        prev_nonce: Nonce(0),
    };
    let db_path = folder.join("db");
    disk.before_at("init.database", "make", &db_path)?;
    // The folder around it may be anybody's to look into.
    disk.make_private(&db_path)?;
    disk.make_private(&folder.join("code"))?;
    let cannot = |source| OpenError::Db {
        path: db_path.clone(),
        source,
    };
    let db = Db::create(&db_path, &options.db).map_err(cannot)?;
    let mut writes = db.write_set();
    records::put(&mut writes, &(), &commit);
    disk.before_at("init.commit", "write to", &db_path)?;
    writes.commit(Durability::Sync).map_err(cannot)?;
    drop(db);
    Witness::create(disk, folder, state_id, &commit)?;
    Ok(state_id)
}

fn sync_all(disk: &Disk, folder: &Path) -> Result<(), DiskError> {
    disk.sync_folder(&folder.join("db"))?;
    disk.sync_folder(&folder.join("code"))?;
    disk.sync_folder(folder)
}

/// Moves what is there aside and returns where it is now; `None` if there is nothing to move. Deletes nothing.
///
/// # Errors
/// It is in use, or cannot be renamed.
pub fn move_aside(disk: &Disk, path: &Path, stamp: &str) -> Result<Option<PathBuf>, OpenError> {
    let lock_path = path.join("lock");
    let mut patience = Patience::default();
    let mut lock = None;
    while lock.is_none() && lock_path.exists() {
        lock = Lock::take(&lock_path, &mut patience)?;
    }
    if !path.exists() {
        return Ok(None);
    }
    let aside = free_name(&|suffix| sibling(path, &format!(".{RESET}{stamp}{suffix}")));
    match disk.rename(path, &aside) {
        Ok(()) => {}
        // A mount point, or a folder above that others own: what is in it can be moved.
        Err(error)
            if matches!(
                error.source.kind(),
                io::ErrorKind::ResourceBusy
                    | io::ErrorKind::CrossesDevices
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            return move_within(disk, path, stamp);
        }
        Err(error) => return Err(error.into()),
    }
    disk.sync_folder(parent(path))?;
    Ok(Some(aside))
}

/// Moves everything into a folder inside. `FORMAT` goes first, so that what a crash leaves is not taken for a state directory.
fn move_within(disk: &Disk, path: &Path, stamp: &str) -> Result<Option<PathBuf>, OpenError> {
    let mut names = names(path)?;
    names.retain(|name| name != "lock" && !stays(&name.to_string_lossy()));
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_by_key(|name| name != "FORMAT");
    let aside = free_name(&|suffix| path.join(format!("{RESET}{stamp}{suffix}")));
    disk.make_private(&aside)?;
    for name in names {
        disk.rename(&path.join(&name), &aside.join(&name))?;
    }
    // The lock stays where it is held; what was moved can be used again as a state directory with one of its own.
    disk.write_new(&aside.join("lock"), b"")?;
    disk.sync_folder(&aside)?;
    disk.sync_folder(path)?;
    Ok(Some(aside))
}

fn free_name(name: &dyn Fn(&str) -> PathBuf) -> PathBuf {
    let mut free = name("");
    let mut number = 1;
    while free.exists() {
        number += 1;
        free = name(&format!("-{number}"));
    }
    free
}
