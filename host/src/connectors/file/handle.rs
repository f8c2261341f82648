//! A file of a stream, as all readers of the stream share it, and how many such files the process holds open.
//!
//! Invariants: at most [`Pool::most`] descriptors are kept for later, those of files without a name not counted, because
//! a file without a name cannot be opened again. No descriptor is kept elsewhere for longer than one read takes. What is
//! opened again is the same file: its inode, its device and its beginning are what they were.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use super::detail::Beginning;
use super::look::{Pattern, Sighting, born, same_birth, unreadable};
use crate::connectors::SourceError;

/// Tells one file from another, as long as one of them is open.
pub(super) type Id = (u64, u64);

/// The files that are kept open. One for the process, because the limit of descriptors is the process's.
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool {
    most: match getrlimit(Resource::Nofile).current {
        // The database, sockets and guests need the rest.
        Some(limit) => usize::try_from(limit / 4).map_or(MOST, |quarter| quarter.clamp(8, MOST)),
        None => MOST,
    },
    kept: Mutex::default(),
});

/// The most files that are kept open, whatever the limit.
const MOST: usize = 16_384;

struct Pool {
    most: usize,
    kept: Mutex<Kept>,
}

/// Open files by their last use.
#[derive(Default)]
struct Kept {
    uses: u64,
    by_use: BTreeMap<u64, Weak<Handle>>,
}

/// Whether a file could be closed.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    Yes,
    /// It is in use right now.
    Busy,
    /// It could not be opened again.
    Never,
}

/// A file.
pub(super) struct Handle {
    /// In the order of discovery.
    pub number: u64,
    pub id: Id,
    /// When it was made, as [`born`] says.
    pub born: u64,
    /// Its length, as last announced to all readers. A reader that has seen more keeps that to itself: the others would
    /// not hear of it.
    length: AtomicU64,
    place: Mutex<Place>,
}

struct Place {
    path: PathBuf,
    /// Since when it has had none of the stream's names, or when it last grew after that.
    gone: Option<Instant>,
    /// It has no name at all, and was not open when it lost the last.
    lost: bool,
    file: Option<Arc<File>>,
    last_use: u64,
    /// How it began when it was closed.
    beginning: Beginning,
}

impl Handle {
    /// A file that was seen; `file` if it is open already.
    pub fn new(number: u64, sighting: Sighting, file: Option<File>) -> Arc<Handle> {
        let handle = Arc::new(Handle {
            number,
            id: (sighting.device, sighting.inode),
            born: sighting.born,
            length: AtomicU64::new(sighting.length),
            place: Mutex::new(Place {
                path: sighting.path,
                gone: None,
                lost: false,
                file: file.map(Arc::new),
                last_use: 0,
                beginning: Beginning::default(),
            }),
        });
        let mut place = handle.place.lock();
        if place.file.is_some() {
            place.last_use = POOL.used(&handle, 0);
        }
        drop(place);
        handle
    }

    pub fn path(&self) -> PathBuf {
        self.place.lock().path.clone()
    }

    /// Its length, as last announced to all readers.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Since when it has had none of the stream's names and has not grown.
    pub fn gone(&self) -> Option<Instant> {
        self.place.lock().gone
    }

    /// Whether it can no longer be read, because it lost its last name while it was closed.
    pub fn is_lost(&self) -> bool {
        self.place.lock().lost
    }

    pub fn is_open(&self) -> bool {
        self.place.lock().file.is_some()
    }

    /// It has this name now; `of_stream` says whether that is one of the stream's. Returns whether that is news.
    pub fn named(&self, path: &Path, of_stream: bool) -> bool {
        let mut place = self.place.lock();
        let news = place.path != path || place.gone.is_some() == of_stream;
        if place.path != path {
            place.path = path.to_owned();
        }
        match of_stream {
            true => (place.gone, place.lost) = (None, false),
            false => place.gone = place.gone.or_else(|| Some(Instant::now())),
        }
        news
    }

    /// None of the stream's names leads to it any more. Returns whether that is news.
    pub fn unnamed(&self) -> bool {
        let mut place = self.place.lock();
        let news = place.gone.is_none();
        place.gone.get_or_insert_with(Instant::now);
        news
    }

    /// The name that it had was deleted, or leads to another file.
    pub fn deleted(&self) {
        let mut place = self.place.lock();
        place.gone.get_or_insert_with(Instant::now);
        place.lost = place.file.is_none();
    }

    /// Notes a length that was seen. Returns whether that is news.
    pub fn has(&self, length: u64) -> bool {
        let news = self.length.swap(length, Ordering::Relaxed) != length;
        if news && let Some(gone) = &mut self.place.lock().gone {
            *gone = Instant::now();
        }
        news
    }

    /// Looks at the length of the file, for all readers. Returns whether to notify them.
    pub fn refresh(&self) -> Result<bool, SourceError> {
        match self.measure()? {
            Some(length) => Ok(self.has(length)),
            // Closed, and renamed or deleted just now: a reader finds it by its inode.
            None => Ok(true),
        }
    }

    /// The current length of the file, if it can be found by its name or is open.
    pub fn measure(&self) -> Result<Option<u64>, SourceError> {
        let place = self.place.lock();
        let metadata = match &place.file {
            Some(file) => file.metadata(),
            None => std::fs::metadata(&place.path),
        };
        let path = place.path.clone();
        drop(place);
        let is = |metadata: &Metadata| {
            id_of(metadata) == self.id && same_birth(born(metadata), self.born)
        };
        match metadata {
            Ok(metadata) => Ok(is(&metadata).then_some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(path)(error)),
        }
    }

    /// The open file, opened again if necessary. Do not keep it.
    pub fn file(self: &Arc<Handle>) -> Result<Arc<File>, SourceError> {
        let mut place = self.place.lock();
        let file = match &place.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(self.reopen(&mut place)?);
                place.file = Some(Arc::clone(&file));
                file
            }
        };
        place.last_use = POOL.used(self, place.last_use);
        Ok(file)
    }

    fn reopen(&self, place: &mut Place) -> Result<File, SourceError> {
        match open(&place.path) {
            Ok(file) if self.is(&file, place)? => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(place.path.clone())(error)),
        }
        let folder = place.path.parent().unwrap_or(Path::new("/"));
        if let Some(found) = Pattern::find_inode(folder, self.id.1)?
            && let Ok(file) = open(&found.path)
            && self.is(&file, place)?
        {
            place.path = found.path;
            return Ok(file);
        }
        place.lost = true;
        Err(self.missing(&place.path))
    }

    /// Why it cannot be read any more.
    pub fn missing(&self, path: &Path) -> SourceError {
        SourceError::Changed {
            path: path.to_owned(),
            what: "it was deleted, moved or replaced while it was closed and before it was read to its end; bring it back \
                   (also under another name), or `reset` the job"
                .to_owned(),
        }
    }

    fn is(&self, file: &File, place: &Place) -> Result<bool, SourceError> {
        let unreadable = || unreadable(place.path.clone());
        let metadata = file.metadata().map_err(unreadable())?;
        let same = id_of(&metadata) == self.id && same_birth(born(&metadata), self.born);
        Ok(same && place.beginning.fits(file).map_err(unreadable())?)
    }

    /// Whether what has its inode now can be it. Only a closed file's inode can have gone to another.
    pub fn fits(&self, file: &File) -> bool {
        let place = self.place.lock();
        place.file.is_some() || self.is(file, &place).unwrap_or(false)
    }

    /// Closes the file, if it can be opened again. Never waits.
    fn close(&self) -> Closed {
        let Some(mut place) = self.place.try_lock() else {
            return Closed::Busy;
        };
        let Some(file) = &place.file else {
            return Closed::Yes;
        };
        let Ok(metadata) = file.metadata() else {
            return Closed::Never;
        };
        if metadata.nlink() == 0 {
            return Closed::Never;
        }
        let Ok(beginning) = Beginning::of(file, metadata.len()) else {
            return Closed::Never;
        };
        place.beginning = beginning;
        place.file = None;
        place.last_use = 0;
        Closed::Yes
    }

    /// Closes the file: its reader is done with it.
    pub fn release(&self) {
        let mut place = self.place.lock();
        if place.file.take().is_some() {
            POOL.forget(place.last_use);
            place.last_use = 0;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let place = self.place.get_mut();
        if place.file.is_some() {
            POOL.forget(place.last_use);
        }
    }
}

impl Pool {
    /// Notes a use, and closes the least recently used files if there are too many. Returns the use's number.
    fn used(&self, handle: &Arc<Handle>, before: u64) -> u64 {
        let mut kept = self.kept.lock();
        kept.uses += 1;
        let this = kept.uses;
        kept.by_use.remove(&before);
        // Dropped after the lock: the last to go would take it.
        let mut seen = Vec::new();
        let mut busy = Vec::new();
        while kept.by_use.len() >= self.most {
            let Some((at, oldest)) = kept.by_use.pop_first() else {
                break;
            };
            let Some(oldest) = oldest.upgrade() else {
                continue;
            };
            if oldest.close() == Closed::Busy {
                busy.push((at, Arc::downgrade(&oldest)));
            }
            seen.push(oldest);
        }
        kept.by_use.extend(busy);
        kept.by_use.insert(this, Arc::downgrade(handle));
        drop(kept);
        this
    }

    fn forget(&self, last_use: u64) {
        self.kept.lock().by_use.remove(&last_use);
    }

    /// Closes all that can be closed.
    fn close_all(&self) {
        let all: Vec<Weak<Handle>> = self.kept.lock().by_use.values().cloned().collect();
        for handle in all.iter().filter_map(Weak::upgrade) {
            let last_use = handle.place.try_lock().map(|place| place.last_use);
            if let Some(last_use) = last_use
                && handle.close() == Closed::Yes
            {
                self.forget(last_use);
            }
        }
    }
}

/// Opens a file to read; never waits, as for the writer of a pipe. If the process has too many open, it keeps
/// fewer.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = || OpenOptions::new().read(true).custom_flags(flags).open(path);
    let opened = open();
    match opened.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(code)) if code == rustix::io::Errno::MFILE.raw_os_error() => {
            POOL.close_all();
            open()
        }
        _ => opened,
    }
}

/// What tells a file from another.
pub(super) fn id_of(metadata: &Metadata) -> Id {
    (metadata.dev(), metadata.ino())
}
