//! The lock on a state directory. One process holds it; the kernel releases it however that process ends.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::checkpoint::OpenError;
use crate::disk::DiskError;

/// Who holds a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its admin socket.
    pub socket: Option<PathBuf>,
}

/// The lock on a directory. Released when it and all [`Lock::right`]s are dropped, or when the process ends.
pub struct Lock {
    file: Arc<File>,
    path: PathBuf,
    identity: (u64, u64),
}

impl Lock {
    /// Whether the lock file is still the one that is held. It is not if the directory was removed.
    pub fn is_ours(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Says who holds the directory: this process, and from now on until it ends. Its threads may use the database for longer
    /// than the end of the process is waited for, and no other process may meet them there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn announce(&mut self, holder: &Holder) -> io::Result<()> {
        self.file.set_len(0)?;
        let text = serde_json::to_vec(holder)?;
        std::os::unix::fs::FileExt::write_all_at(&*self.file, &text, 0)?;
        let _kept = self.file.try_clone()?.into_raw_fd();
        Ok(())
    }

    /// What holds the lock as the lock itself does: for the database, whose threads may use the files for longer than its owner
    /// has the lock.
    pub(super) fn right(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<File>::clone(&self.file)
    }

    /// The same lock, after its folder was renamed.
    pub(super) fn moved_to(self, path: PathBuf) -> Lock {
        Lock { path, ..self }
    }

    /// The right to change a directory. `None`: see [`Lock::hold`].
    pub(super) fn take(path: &Path, patience: &mut Patience) -> Result<Option<Lock>, OpenError> {
        let how = FlockOperation::NonBlockingLockExclusive;
        Lock::hold(path, &open_existing(), how, patience)
    }

    /// The right to make a directory. Makes the file if it is missing. `None`: see [`Lock::hold`].
    pub(super) fn make(path: &Path, patience: &mut Patience) -> Result<Option<Lock>, OpenError> {
        let mut options = open_existing();
        options.create(true).truncate(false).mode(0o600);
        let how = FlockOperation::NonBlockingLockExclusive;
        Lock::hold(path, &options, how, patience)
    }

    /// The right to read a directory while no process changes it. Others may read it too. `None`: see [`Lock::hold`].
    pub(super) fn share(path: &Path, patience: &mut Patience) -> Result<Option<Lock>, OpenError> {
        // It may be one that cannot be written to.
        let mut options = OpenOptions::new();
        options.read(true);
        let how = FlockOperation::NonBlockingLockShared;
        Lock::hold(path, &options, how, patience)
    }

    /// Locks the file at `path`. `None`: there is none, or by now it is another one, because the directory was moved away. The
    /// caller has to look again what is there.
    fn hold(
        path: &Path,
        options: &OpenOptions,
        how: FlockOperation,
        patience: &mut Patience,
    ) -> Result<Option<Lock>, OpenError> {
        let cannot = |source| OpenError::from(DiskError::of("open", path)(source));
        let in_use = |pid| OpenError::InUse {
            pid,
            path: path.parent().unwrap_or(path).to_owned(),
        };
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(cannot)?,
        };
        let found = file.metadata().map_err(cannot)?;
        let lock = Lock {
            identity: (found.dev(), found.ino()),
            file: Arc::new(file),
            path: path.to_owned(),
        };
        loop {
            let locked = rustix::fs::flock(&*lock.file, how);
            // Only now: until it was locked another process could move it.
            if !lock.is_ours() {
                patience.tries += 1;
                return match patience.tries < Patience::MOST {
                    true => Ok(None),
                    false => Err(in_use(None)),
                };
            }
            match locked {
                Ok(()) => return Ok(Some(lock)),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let announced = read_holder(path).map(|holder| holder.pid);
                    let holder = locked_by(&lock.file);
                    // A reader is done soon. A process that runs the job has announced itself in the file. No holder: it is free
                    // by now, or the kernel does not list it.
                    let tries = match holder {
                        Some(pid) if is_ending(pid) => Patience::MOST,
                        Some(_) if holder == announced => 5,
                        _ => 150,
                    };
                    if patience.tries >= tries {
                        return Err(in_use(holder.or(announced)));
                    }
                    patience.tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(cannot(error.into())),
            }
        }
    }
}

/// How often a lock was tried: bounded over all the files that are found at a path one after the other.
#[derive(Default)]
pub(super) struct Patience {
    tries: u32,
}

impl Patience {
    /// The most tries, 20 ms apart.
    const MOST: u32 = 500;
}

fn open_existing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// Whether a process is past its end and about to give back what it holds, which takes a while if that is much.
fn is_ending(pid: u32) -> bool {
    /// `PF_EXITING` of the kernel's `sched.h`, in the field `flags` of `/proc/PID/stat`.
    const EXITING: u64 = 4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_ascii_whitespace().nth(6);
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

/// The process that holds the lock on a file, as the kernel lists it.
fn locked_by(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let (major, minor) = (
        rustix::fs::major(found.dev()),
        rustix::fs::minor(found.dev()),
    );
    let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let line = locks
        .lines()
        .find(|line| line.contains(" FLOCK ") && line.split(' ').any(|word| word == place))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == place)?;
    words
        .get(at.checked_sub(1)?)?
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
}

fn read_holder(lock: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(lock).ok()?).ok()
}

/// Which process holds a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// None, or only readers.
    Free,
    /// A process that has not announced itself: a job that starts, or a command that changes the state of a stopped one.
    Unannounced(Option<u32>),
    /// A job that can be asked.
    By(Holder),
}

/// Who holds this lock file.
pub(super) fn held(lock: &Path) -> Held {
    let Ok(file) = File::open(lock) else {
        return Held::Free;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return Held::Free,
    }
    // What the file says may be an earlier holder's.
    match (read_holder(lock), locked_by(&file)) {
        (Some(holder), Some(pid)) if holder.pid != pid => Held::Unannounced(Some(pid)),
        (Some(holder), _) => Held::By(holder),
        (None, pid) => Held::Unannounced(pid),
    }
}
