//! Waiting for files to grow or appear, by inotify, with a look at the clock where that does not tell.
//!
//! Invariant: what happens in a watched folder after [`Watch::drain`] began wakes [`Watch::changed`]. What happens
//! elsewhere, or on a file system that does not tell, is noticed at the next [`LOOK_INTERVAL`].

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// After so long the pattern is looked at again, whatever was heard.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where the kernel has no watch left to give, the files are asked so often.
const ASK_INTERVAL: Duration = Duration::from_millis(40);

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    /// Nothing of interest.
    Nothing,
    /// A file was written to.
    Grown,
    /// A name appeared or went away: the pattern may name other files now.
    Names,
}

/// A wait for changes in some folders.
pub(super) struct Watch {
    queue: Queue,
    folders: HashMap<PathBuf, i32>,
    next_look: Instant,
    heard: Heard,
}

enum Queue {
    /// There is none: the process has too many.
    None,
    Idle(OwnedFd),
    /// Known to the runtime that first waited.
    Registered(AsyncFd<OwnedFd>),
}

impl Watch {
    pub fn new() -> Watch {
        let queue = match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(queue) => Queue::Idle(queue),
            Err(_) => Queue::None,
        };
        Watch {
            queue,
            folders: HashMap::new(),
            next_look: Instant::now(),
            heard: Heard::Names,
        }
    }

    /// Watches these folders, and no others.
    pub fn set_folders<'a>(&mut self, folders: impl Iterator<Item = &'a Path>) {
        let Some(queue) = self.queue.fd() else {
            return;
        };
        let mut before = std::mem::take(&mut self.folders);
        for folder in folders {
            if self.folders.contains_key(folder) {
                continue;
            }
            // Adding again is how a folder that was replaced is noticed: it gets another descriptor.
            let flags = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVE
                | WatchFlags::DELETE
                | WatchFlags::ONLYDIR;
            // A folder that cannot be watched is looked at by the clock.
            if let Ok(descriptor) = inotify::add_watch(queue, folder, flags) {
                if before.get(folder) == Some(&descriptor) {
                    before.remove(folder);
                }
                self.folders.insert(folder.to_owned(), descriptor);
            }
        }
        for descriptor in before.into_values() {
            if !self.folders.values().any(|kept| *kept == descriptor) {
                let _ = inotify::remove_watch(queue, descriptor);
            }
        }
    }

    /// What was heard since the last call; the clock counts as [`Heard::Names`].
    pub fn drain(&mut self, relevant: impl Fn(&str) -> bool) -> Heard {
        self.listen(relevant);
        if matches!(self.queue, Queue::None) {
            self.heard = self.heard.max(Heard::Grown);
        }
        if Instant::now() >= self.next_look {
            self.heard = Heard::Names;
        }
        if self.heard == Heard::Names {
            self.next_look = Instant::now() + LOOK_INTERVAL;
        }
        std::mem::replace(&mut self.heard, Heard::Nothing)
    }

    /// Completes when [`Watch::drain`] may hear something.
    pub async fn changed(&mut self, relevant: impl Fn(&str) -> bool) {
        let queue = std::mem::replace(&mut self.queue, Queue::None);
        self.queue = match queue {
            Queue::Idle(fd) => register(fd),
            other => other,
        };
        loop {
            self.listen(&relevant);
            if self.heard > Heard::Nothing || Instant::now() >= self.next_look {
                return;
            }
            let next_look = tokio::time::Instant::from_std(self.next_look);
            match &self.queue {
                Queue::Registered(fd) => {
                    tokio::select! {
                        readable = fd.readable() => if let Ok(mut guard) = readable {
                            guard.clear_ready();
                        },
                        () = tokio::time::sleep_until(next_look) => return,
                    }
                }
                _ => return tokio::time::sleep(ASK_INTERVAL).await,
            }
        }
    }

    /// Takes what is in the queue.
    fn listen(&mut self, relevant: impl Fn(&str) -> bool) {
        let Some(queue) = self.queue.fd() else {
            return;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(queue, &mut buffer);
        // An error is an empty queue; any other would be seen by the clock too.
        while let Ok(event) = events.next() {
            let flags = event.events();
            let name = event.file_name().map(CStr::to_string_lossy);
            let heard = if flags
                .intersects(ReadFlags::ISDIR | ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED)
            {
                Heard::Names
            } else if !name.is_some_and(|name| relevant(&name)) {
                Heard::Nothing
            } else if flags.contains(ReadFlags::MODIFY) {
                Heard::Grown
            } else {
                Heard::Names
            };
            self.heard = self.heard.max(heard);
        }
    }
}

#[expect(
    deprecated,
    reason = "deprecated for types whose descriptor can change while it is registered; that of an `OwnedFd` cannot"
)]
fn register(fd: OwnedFd) -> Queue {
    match AsyncFd::with_interest(fd, Interest::READABLE) {
        Ok(fd) => Queue::Registered(fd),
        Err(_) => Queue::None,
    }
}

impl Queue {
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Queue::None => None,
            Queue::Idle(fd) => Some(fd.as_fd()),
            Queue::Registered(fd) => Some(fd.get_ref().as_fd()),
        }
    }
}
