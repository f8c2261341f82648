//! Where the admin socket lies: in `$XDG_RUNTIME_DIR`, or in a folder of mode 0700 under the temporary directory, because a
//! socket's path may have 107 bytes only and a state directory's may be longer.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

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
        remove_left_over(&folder, SystemTime::now());
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

/// Removes sockets of processes that were killed, a bounded number at a time.
fn remove_left_over(folder: &Path, now: SystemTime) {
    const MOST: usize = 64;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    for path in paths.filter(|path| is_old(path, now)).take(MOST) {
        // A process in another container may have this number and listen: then it answers.
        let answer = UnixStream::connect(&path);
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a socket is that of a process which is not there. A new one may be about to listen.
fn is_old(socket: &Path, now: SystemTime) -> bool {
    const NEW: Duration = Duration::from_secs(60);
    let name = socket.file_name().and_then(OsStr::to_str);
    let name = name.and_then(|name| name.strip_suffix(".sock")?.split_once('-'));
    let pid = name.and_then(|(pid, _)| Pid::from_raw(pid.parse().ok()?));
    let made = fs::symlink_metadata(socket).and_then(|found| found.modified());
    let age = made.ok().and_then(|made| now.duration_since(made).ok());
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
        && age.is_some_and(|age| age > NEW)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::Folder;

    #[test]
    fn only_old_sockets_of_processes_that_are_gone_are_removed() {
        let folder = Folder::new();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let path = |pid: u32, name: &str| folder.path().join(format!("{pid}-{name}.sock"));
        let left = |path: &Path| drop(UnixListener::bind(path).unwrap());
        left(&path(gone, "0000000a"));
        left(&path(std::process::id(), "0000000b"));
        fs::write(path(gone, "0000000c"), "no socket").unwrap();
        fs::write(folder.path().join("another"), "").unwrap();
        let _answers = UnixListener::bind(path(gone, "0000000d")).unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().path();
            entries.map(name).collect::<std::collections::BTreeSet<_>>()
        };
        let mut expected = names();
        remove_left_over(folder.path(), SystemTime::now());
        assert_eq!(names(), expected, "they may be about to listen");
        let later = SystemTime::now() + Duration::from_secs(120);
        remove_left_over(folder.path(), later);
        expected.remove(&path(gone, "0000000a"));
        // A file that is no socket refuses as well, and nobody else names one so in this folder.
        expected.remove(&path(gone, "0000000c"));
        assert_eq!(names(), expected);
        for number in 100..200 {
            left(&path(gone, &format!("{number:08x}")));
        }
        let before = names().len();
        remove_left_over(folder.path(), later);
        assert!((1..=64).contains(&(before - names().len())));
    }
}
