//! Folders that a component may use, opened once: whatever is renamed, linked or mounted later, they stay the same ones.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::options::DirectoryGrant;

/// A file system that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open folder.
pub(super) struct Folder {
    grant: DirectoryGrant,
    opened: File,
}

/// Opens what is granted.
///
/// # Errors
/// A folder is not there, or cannot be opened in time.
pub(super) fn open(grants: &[DirectoryGrant]) -> Result<Vec<Folder>, String> {
    grants.iter().cloned().map(open_one).collect()
}

fn open_one(grant: DirectoryGrant) -> Result<Folder, String> {
    let (done, opened) = channel();
    let path = grant.host.clone();
    let shown = &grant.shown;
    let open = move || {
        let flags = (OFlags::DIRECTORY | OFlags::PATH).bits();
        let flags = i32::try_from(flags).unwrap_or(0);
        // Nobody may be waiting any more.
        let _ = done.send(OpenOptions::new().read(true).custom_flags(flags).open(path));
    };
    let thread = thread::Builder::new().name("folder".into()).spawn(open);
    thread.map_err(|error| format!("the granted folder {shown}: start a thread: {error}"))?;
    match opened.recv_timeout(PATIENCE) {
        Ok(Ok(opened)) if fs::read_link(name_of(&opened)).is_ok_and(|now| now == grant.host) => {
            Ok(Folder { grant, opened })
        }
        Ok(Ok(_)) => Err(format!(
            "the granted folder {shown} is another one than when it was checked"
        )),
        Ok(Err(error)) => Err(format!("the granted folder {shown}: {error}")),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(format!(
            "the granted folder {shown} could not be opened in {} s",
            PATIENCE.as_secs()
        )),
    }
}

impl Folder {
    /// Gives it to an instance.
    ///
    /// # Errors
    /// It cannot be opened again.
    pub(super) fn give(&self, to: &mut WasiCtxBuilder) -> Result<(), String> {
        let perms = match self.grant.write {
            true => FsPerms::ReadWrite,
            false => FsPerms::ReadOnly,
        };
        match to.preopened_dir(name_of(&self.opened), &self.grant.guest, perms) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "the granted folder {}: {error:#}",
                self.grant.shown
            )),
        }
    }
}

/// The name of what is open, not of what has its path by now.
fn name_of(opened: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_replaced_since_it_was_checked_is_refused() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("wasm-host-folders-{}", std::process::id()));
        fs::create_dir_all(folder.join("checked"))?;
        fs::create_dir_all(folder.join("other"))?;
        let grant = DirectoryGrant {
            host: folder.canonicalize()?.join("checked"),
            shown: "${FOLDER}/checked".to_owned(),
            guest: "/checked".to_owned(),
            write: false,
        };
        assert!(open(std::slice::from_ref(&grant)).is_ok());
        fs::remove_dir(folder.join("checked"))?;
        std::os::unix::fs::symlink("other", folder.join("checked"))?;
        let refused = open(std::slice::from_ref(&grant)).err();
        let says = "the granted folder ${FOLDER}/checked is another one than when it was checked";
        assert_eq!(refused.as_deref(), Some(says));
        fs::remove_file(folder.join("checked"))?;
        let missing = open(&[grant]).err().unwrap_or_default();
        assert!(
            missing.starts_with("the granted folder ${FOLDER}/checked: No such file"),
            "{missing}"
        );
        fs::remove_dir_all(folder)
    }
}
