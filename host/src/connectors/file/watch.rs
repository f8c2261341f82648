//! What happens in some folders, by inotify.
//!
//! Invariant: what happens in a watched folder is in the queue before the call that did it returns. What happens
//! elsewhere, or on a file system without such events, is not heard here.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::names::Happened;

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// Of one path.
    Path(PathBuf, Happened),
    /// Folders have been replaced.
    Folders,
    /// The queue was full: what happened since is not known.
    Overflow,
}

/// Listens to some folders.
pub(super) struct Watch {
    /// `None` if the process or its user has too many.
    queue: Option<Arc<OwnedFd>>,
    /// Why not everything is heard.
    lacks: Option<Errno>,
    folders: HashMap<PathBuf, i32>,
    paths: HashMap<i32, PathBuf>,
}

impl Watch {
    pub fn new() -> Watch {
        match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Ok(queue) => Watch {
                queue: Some(Arc::new(queue)),
                ..Watch::deaf()
            },
            Err(lacks) => Watch {
                lacks: Some(lacks),
                ..Watch::deaf()
            },
        }
    }

    /// Listens to nothing.
    pub fn deaf() -> Watch {
        Watch {
            queue: None,
            lacks: None,
            folders: HashMap::new(),
            paths: HashMap::new(),
        }
    }

    /// One that the kernel does not let watch any folder.
    #[cfg(test)]
    pub fn refused() -> Watch {
        use rustix::event::{EventfdFlags, eventfd};
        let no_queue = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Watch {
            queue: no_queue.ok().map(Arc::new),
            ..Watch::deaf()
        }
    }

    /// Whether it hears of what happens in all existing folders.
    pub fn hears_all(&self) -> bool {
        self.queue.is_some() && self.lacks.is_none()
    }

    /// Why it does not.
    pub fn lacks(&self) -> Option<io::Error> {
        self.lacks.map(io::Error::from)
    }

    /// The descriptor that becomes readable when an event comes.
    pub fn queue(&self) -> Option<Arc<OwnedFd>> {
        self.queue.clone()
    }

    /// Listens to these folders, and no others. Returns whether one of them is new.
    pub fn set_folders(&mut self, folders: impl Iterator<Item = PathBuf>) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        self.lacks = None;
        let mut before = std::mem::take(&mut self.folders);
        let mut new = false;
        for folder in folders {
            if self.folders.contains_key(&folder) {
                continue;
            }
            // Adding again is how a folder that was replaced is noticed: it gets another descriptor.
            let flags = WatchFlags::MODIFY
                | WatchFlags::CREATE
                | WatchFlags::MOVE
                | WatchFlags::DELETE
                | WatchFlags::ONLYDIR;
            // A folder that cannot be watched is looked at by the clock.
            match inotify::add_watch(&**queue, &folder, flags) {
                Ok(descriptor) => {
                    match before.get(&folder) == Some(&descriptor) {
                        true => drop(before.remove(&folder)),
                        false => new = true,
                    }
                    self.paths.insert(descriptor, folder.clone());
                    self.folders.insert(folder, descriptor);
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => self.lacks = Some(error),
            }
        }
        for descriptor in before.into_values() {
            if !self.folders.values().any(|kept| *kept == descriptor) {
                let _ = inotify::remove_watch(&**queue, descriptor);
                self.paths.remove(&descriptor);
            }
        }
        new
    }

    /// Takes what is in the queue, in order.
    pub fn take(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let Some(queue) = &self.queue else {
            return heard;
        };
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut events = inotify::Reader::new(&**queue, &mut buffer);
        // An error is an empty queue; any other would be seen by the clock too.
        while let Ok(event) = events.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                heard.push(Heard::Overflow);
                continue;
            }
            if flags.intersects(ReadFlags::ISDIR | ReadFlags::IGNORED) {
                heard.push(Heard::Folders);
                continue;
            }
            let happened = match flags {
                flags if flags.contains(ReadFlags::MODIFY) => Happened::Written,
                flags if flags.contains(ReadFlags::CREATE) => Happened::Created,
                flags if flags.contains(ReadFlags::MOVED_FROM) => Happened::From(event.cookie()),
                flags if flags.contains(ReadFlags::MOVED_TO) => Happened::To(event.cookie()),
                flags if flags.contains(ReadFlags::DELETE) => Happened::Deleted,
                _ => continue,
            };
            if let (Some(folder), Some(name)) = (self.paths.get(&event.wd()), event.file_name()) {
                let path = folder.join(OsStr::from_bytes(CStr::to_bytes(name)));
                // A writer makes many of them, one after the other.
                let again = matches!(heard.last(), Some(Heard::Path(last, Happened::Written))
                    if happened == Happened::Written && *last == path);
                if !again {
                    heard.push(Heard::Path(path, happened));
                }
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_whether_it_hears_all() {
        let here = std::env::temp_dir();
        let missing = here.join("no such folder");
        let mut watch = Watch::new();
        watch.set_folders([here.clone(), missing].into_iter());
        assert!(watch.hears_all());
        for make in [Watch::deaf, Watch::refused] {
            let mut watch = make();
            assert!(!watch.set_folders([here.clone()].into_iter()));
            assert!(!watch.hears_all());
            assert!(watch.take().is_empty());
        }
    }
}
