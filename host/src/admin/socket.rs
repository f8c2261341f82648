//! Where the admin socket lies: in `$XDG_RUNTIME_DIR`, or in a folder of mode 0700 under the temporary directory, because a
//! socket's path may have 107 bytes only and a state directory's may be longer.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A path for a socket; the file is removed when this is dropped.
pub struct SocketPlace {
    path: PathBuf,
}

impl SocketPlace {
    /// A path that no other process uses. `None`: there is no folder for it; the job runs without.
    pub fn new() -> Option<SocketPlace> {
        let folder = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("wasm-host"),
            _ => std::env::temp_dir()
                .join(format!("wasm-host-{}", rustix::process::geteuid().as_raw())),
        };
        if let Err(error) = private_folder(&folder) {
            tracing::warn!("no admin socket: {}: {error}", folder.display());
            return None;
        }
        let path = folder.join(format!(
            "{}-{:08x}.sock",
            std::process::id(),
            rand::random::<u32>()
        ));
        Some(SocketPlace { path })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the socket.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn bind(&self) -> io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    let ours = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o077 == 0;
    if ours {
        Ok(())
    } else {
        Err(io::Error::other(
            "it is not a folder of mode 0700 that belongs to this user",
        ))
    }
}
