//! A file that is written in place.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::{Disk, DiskError, Operation};

/// An open file whose writes are durable when it is synced.
pub struct DurableFile {
    disk: Disk,
    file: File,
    path: PathBuf,
}

impl DurableFile {
    pub(super) fn new(disk: Disk, file: File, path: PathBuf) -> DurableFile {
        DurableFile { disk, file, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file system knows of it.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn metadata(&self) -> Result<Metadata, DiskError> {
        self.file
            .metadata()
            .map_err(DiskError::of("look at", &self.path))
    }

    /// Fills `bytes` from an offset.
    ///
    /// # Errors
    /// There are fewer, or the disk's answer.
    pub fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// Announces a step and writes at an offset.
    ///
    /// # Errors
    /// The disk's answer; a part may be written.
    pub fn write_at(&self, step: &'static str, bytes: &[u8], at: u64) -> Result<(), DiskError> {
        let operation = Operation::Write(&self.path, at, bytes.len());
        self.step(step, operation, || self.file.write_all_at(bytes, at))
            .map_err(DiskError::of("write to", &self.path))
    }

    /// Announces a step and cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// The disk's answer.
    pub fn truncate(&self, step: &'static str, length: u64) -> Result<(), DiskError> {
        let operation = Operation::Truncate(&self.path, length);
        self.step(step, operation, || self.file.set_len(length))
            .map_err(DiskError::of("truncate", &self.path))
    }

    /// Announces a step and gives back the room of bytes that are not needed any more: they read as zeros, and the length stays.
    ///
    /// # Errors
    /// The file system cannot do that, or the disk's answer.
    pub fn free(&self, step: &'static str, at: u64, bytes: u64) -> Result<(), DiskError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.step(step, Operation::Free(&self.path, at, bytes), || {
            Ok(fallocate(&self.file, flags, at, bytes)?)
        })
        .map_err(DiskError::of("free a part of", &self.path))
    }

    /// Announces a step and makes content and length durable.
    ///
    /// # Errors
    /// The disk's answer; after it, what is durable is unknown.
    pub fn sync(&self, step: &'static str) -> Result<(), DiskError> {
        self.step(step, Operation::Sync(&self.path), || self.file.sync_all())
            .map_err(DiskError::of("sync", &self.path))
    }

    /// As [`DurableFile::sync`], without what is not needed to read the content, as times.
    ///
    /// # Errors
    /// As [`DurableFile::sync`].
    pub fn sync_data(&self, step: &'static str) -> Result<(), DiskError> {
        self.step(step, Operation::Sync(&self.path), || self.file.sync_data())
            .map_err(DiskError::of("sync", &self.path))
    }

    fn step<R>(
        &self,
        step: &'static str,
        operation: Operation<'_>,
        make: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        self.disk.before(step)?;
        self.disk.made(operation, make)
    }
}
