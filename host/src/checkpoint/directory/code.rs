//! The components of a state directory, in `code/` by their SHA-256: what the last checkpoint ran can be run again.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskError};
use crate::records::{StageRecord, SwapRecord};

/// The folder `code` of a state directory.
#[derive(Clone)]
pub struct CodeFolder {
    directory: PathBuf,
    disk: Disk,
}

impl CodeFolder {
    /// That of a directory, which is there.
    pub fn of(directory: &Path, disk: &Disk) -> CodeFolder {
        CodeFolder {
            directory: directory.to_owned(),
            disk: disk.clone(),
        }
    }

    /// Keeps the bytes of a component, so that it can be run again whatever becomes of the file that the job names.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, sha256: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = code_path(&self.directory, sha256);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        self.disk.before_at("code.write", "write", &path)?;
        self.disk.replace(&path, bytes)
    }

    /// The bytes that are kept of a component.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&self, sha256: &str) -> io::Result<Vec<u8>> {
        fs::read(code_path(&self.directory, sha256))
    }

    /// Removes the components that are not needed. One that cannot be removed stays.
    pub fn tidy_up(&self, needed: &BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(self.directory.join("code")) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let sha256 = path.file_stem().and_then(|stem| stem.to_str());
            let is_needed = sha256.is_some_and(|sha256| needed.contains(sha256));
            let is_code = path
                .extension()
                .is_some_and(|extension| extension == "wasm");
            if is_code
                && !is_needed
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::debug!("{}: {error}", path.display());
            }
        }
    }
}

/// The components that a directory needs, or may soon: those that records of stages name, and those of the last swaps.
pub fn needed<'a, 'b>(
    stages: impl IntoIterator<Item = &'a StageRecord>,
    swaps: impl DoubleEndedIterator<Item = &'b SwapRecord>,
) -> BTreeSet<String> {
    /// So many components of the past can be swapped in again.
    const LAST: usize = 10;
    let mut needed = BTreeSet::new();
    for stage in stages {
        let previous = stage.previous.iter().map(|code| &code.component);
        needed.insert(stage.code.component.clone());
        needed.extend(previous.chain([&stage.file]).cloned());
    }
    let newest_first = swaps.rev().take(LAST);
    needed.extend(newest_first.map(|swap| swap.to.component.clone()));
    needed
}

/// Where a component of a state directory is kept.
pub fn code_path(directory: &Path, sha256: &str) -> PathBuf {
    directory.join("code").join(format!("{sha256}.wasm"))
}
