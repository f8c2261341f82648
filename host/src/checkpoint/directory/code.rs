//! The components of a state directory, in `code/` by their SHA-256: what the last checkpoint ran can be run again.

use std::fs;
use std::path::{Path, PathBuf};

use super::Directory;
use crate::checkpoint::OpenError;

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
