//! Files that survive a crash: everything that the host makes durable outside of RocksDB is made here.
//!
//! A *step* is a point of a protocol, with a stable name: a test counts the steps and ends the process before each. An
//! *operation* is one call to the file system: a test makes each of them fail, wait, or be lost as by a power cut. Both
//! are reported to [`Steps`], whose answer counts as the disk's own. Must never know what the files are for.
//!
//! What is created, renamed or removed is durable when its folder is synced; what is written, when its file is.

mod file;
mod room;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use file::DurableFile;
pub use room::{Room, free_bytes};

/// Called before something becomes durable. Does nothing in production.
pub trait Steps: Send + Sync {
    /// The step `name` is about to be made; names are stable, such as `sink.sync`.
    ///
    /// # Errors
    /// The answer that the disk is to give instead.
    fn before(&self, name: &'static str) -> io::Result<()> {
        let _ = name;
        Ok(())
    }

    /// An operation is about to be made.
    ///
    /// # Errors
    /// The answer that the disk is to give instead.
    fn operation(&self, operation: &Operation<'_>) -> io::Result<()> {
        let _ = operation;
        Ok(())
    }

    /// What is large. A test makes it small.
    fn sizes(&self) -> Sizes {
        Sizes::default()
    }

    /// Whether a transaction of which a broker says that it has ended is taken for ended, although it was told so more than once. A
    /// test shows what comes of that.
    fn trusts_ends(&self) -> bool {
        false
    }
}

/// What is large for a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A file that grows is followed by a new one.
    pub file: u64,
    /// Bytes are worth a sync of their own.
    pub sync: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            file: 64 << 20,
            sync: 64 << 10,
        }
    }
}

/// Ignores every step and operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSteps;

impl Steps for NoSteps {}

/// A call to the file system that changes it, or makes a change durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Make an empty file, or open the one that is there.
    Create(&'a Path),
    /// Make a folder.
    CreateFolder(&'a Path),
    /// Write this many bytes at an offset.
    Write(&'a Path, u64, usize),
    /// Cut or extend to a length.
    Truncate(&'a Path, u64),
    /// Give back the room of bytes that are not needed any more: offset and length.
    Free(&'a Path, u64, u64),
    /// Rename a file or folder, replacing what has that name.
    Rename(&'a Path, &'a Path),
    /// Remove a file, or a folder and all that is in it.
    Remove(&'a Path),
    /// Make a file's content durable.
    Sync(&'a Path),
    /// Make a folder's entries durable.
    SyncFolder(&'a Path),
}

/// A call to the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct DiskError {
    /// What was asked.
    pub action: &'static str,
    /// Of what.
    pub path: PathBuf,
    /// Its answer.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Whether the disk is full.
    pub fn no_space(&self) -> bool {
        self.source.kind() == io::ErrorKind::StorageFull
    }

    /// What a failed call becomes.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_owned();
        move |source| DiskError {
            action,
            path,
            source,
        }
    }
}

/// The file system, which reports each step.
#[derive(Clone)]
pub struct Disk {
    steps: Arc<dyn Steps>,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::new(Arc::new(NoSteps))
    }
}

impl Disk {
    /// Every step and operation is reported to `steps`.
    pub fn new(steps: Arc<dyn Steps>) -> Disk {
        Disk { steps }
    }

    /// What is large.
    pub fn sizes(&self) -> Sizes {
        self.steps.sizes()
    }

    /// See [`Steps::trusts_ends`].
    pub fn trusts_ends(&self) -> bool {
        self.steps.trusts_ends()
    }

    /// Announces a step.
    ///
    /// # Errors
    /// The answer that the disk is to give.
    pub fn before(&self, step: &'static str) -> io::Result<()> {
        self.steps.before(step)
    }

    /// As [`Disk::before`], for a step that does something to `path`.
    ///
    /// # Errors
    /// The answer that the disk is to give.
    pub fn before_at(
        &self,
        step: &'static str,
        action: &'static str,
        path: &Path,
    ) -> Result<(), DiskError> {
        self.before(step).map_err(DiskError::of(action, path))
    }

    fn made<R>(
        &self,
        operation: Operation<'_>,
        make: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.steps.operation(&operation)?;
        make()
    }

    /// Makes a new file with this content, which is durable afterwards; its name is durable once its folder is synced. For
    /// the owner only.
    ///
    /// # Errors
    /// The file exists, or the disk's answer.
    pub fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut open = OpenOptions::new();
        open.write(true).create_new(true).mode(0o600);
        let write = || {
            let mut file = self.made(Operation::Create(path), || open.open(path))?;
            self.made(Operation::Write(path, 0, bytes.len()), || {
                file.write_all(bytes)
            })?;
            self.made(Operation::Sync(path), || file.sync_all())
        };
        write().map_err(DiskError::of("write", path))
    }

    /// Gives a file this content, durably with its name. A crash leaves the old content or the new.
    ///
    /// # Errors
    /// The disk's answer; the file has its old content or the new.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let new = sibling(path, ".new");
        self.remove_if_there(&new)?;
        self.write_new(&new, bytes)?;
        self.rename(&new, path)?;
        self.sync_folder(parent(path))
    }

    /// Opens a file to be written in place; `create` decides whether it is made.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn open(&self, path: &Path, create: Create) -> Result<DurableFile, DiskError> {
        let mut open = OpenOptions::new();
        open.read(true).write(true).truncate(false);
        let (action, opened) = match create {
            Create::No => ("open", open.open(path)),
            Create::New(mode) => (
                "make",
                self.made(Operation::Create(path), || {
                    open.create_new(true).mode(mode).open(path)
                }),
            ),
            Create::IfMissing => (
                "make",
                self.made(Operation::Create(path), || open.create(true).open(path)),
            ),
        };
        let file = opened.map_err(DiskError::of(action, path))?;
        Ok(DurableFile::new(self.clone(), file, path.to_owned()))
    }

    /// Renames a file or folder, replacing what has that name.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.made(Operation::Rename(from, to), || fs::rename(from, to))
            .map_err(DiskError::of("rename to", to))
    }

    /// Removes a file, or a folder with its contents, if it exists.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn remove_if_there(&self, path: &Path) -> Result<(), DiskError> {
        let remove = || match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match self.made(Operation::Remove(path), remove) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::of("clear", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a folder that is private to its owner, and those above it, unless it exists.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn make_private(&self, folder: &Path) -> Result<(), DiskError> {
        self.made(Operation::CreateFolder(folder), || {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)
        })
        .map_err(DiskError::of("make", folder))
    }

    /// Makes a folder and its parents, each durable in the one above it.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn make_folders(&self, path: &Path) -> Result<(), DiskError> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let above = parent(path);
        self.make_folders(above)?;
        match self.made(Operation::CreateFolder(path), || fs::create_dir(path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DiskError::of("make", path)(error));
            }
            _ => {}
        }
        self.sync_folder(above)
    }

    /// Makes a folder's entries durable.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.made(Operation::SyncFolder(path), || File::open(path)?.sync_all())
            .map_err(DiskError::of("sync", path))
    }
}

/// What opening a missing file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// It fails.
    No,
    /// Makes it with this mode; if there is one, it fails.
    New(u32),
    /// Makes it.
    IfMissing,
}

/// The folder that a path is in.
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Another name in the same folder.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
