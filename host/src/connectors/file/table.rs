//! The files of a stream that a reader knows: in the order of first discovery, with how far each has been read.
//!
//! A file is known by its inode. The device tells two of one inode apart, but is not relied on: it can change when the
//! machine restarts. Invariants: a file that was not read to its end leaves the table only by an error, unless nothing
//! of it was read, which is logged; no step looks at all files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::detail::{Beginning, Entry, encode_entry};
use super::files::News;
use super::handle::Handle;
use super::look::{Pattern, Sighting, unreadable};
use super::recorded::{Part, Recorded};
use crate::connectors::SourceError;

/// A followed file that has lost the stream's names is read until it has not grown for this long.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);

/// A file's place in the order of discovery. It stays the same while a reader lives.
pub(super) type Key = u32;

/// A file of the stream.
pub(super) struct Known {
    pub handle: Arc<Handle>,
    pub compressed: bool,
    pub beginning: Beginning,
    pub position: u64,
    pub line: u64,
    /// The length of the file itself when it was read to its end. For a followed file: as far as is known.
    pub finished: Option<u64>,
    /// Following: nothing more can be read up to this length.
    pub exhausted: Option<u64>,
    /// Following: later files wait until it has been read up to here.
    pub owed: u64,
    /// As it is recorded.
    path: PathBuf,
    /// What it adds to [`Table::progress`].
    counted: (u64, u64),
}

/// The files, by first discovery.
pub(super) struct Table {
    files: BTreeMap<Key, Known>,
    next: Key,
    follow: bool,
    base: PathBuf,
    /// Following: by the number of the handle.
    by_number: HashMap<u64, Key>,
    /// Files with more to read.
    ready: BTreeSet<Key>,
    /// Of these, those that have not been read as far as is owed.
    owed: BTreeSet<Key>,
    /// Files that have none of the stream's names.
    gone: BTreeSet<Key>,
    /// The file that had the last turn.
    turn: Option<Key>,
    recorded: Recorded,
    /// How often something recorded has changed.
    changes: u64,
    progress: (u64, u64),
}

impl Table {
    pub fn new(pattern: &Pattern, follow: bool) -> Table {
        Table {
            files: BTreeMap::new(),
            next: 0,
            follow,
            base: pattern.base().to_owned(),
            by_number: HashMap::new(),
            ready: BTreeSet::new(),
            owed: BTreeSet::new(),
            gone: BTreeSet::new(),
            turn: None,
            recorded: Recorded::default(),
            changes: 0,
            progress: (0, 0),
        }
    }

    pub fn get(&self, key: Key) -> &Known {
        &self.files[&key]
    }

    /// A file, of which nothing recorded is about to change.
    pub fn get_mut(&mut self, key: Key) -> &mut Known {
        match self.files.get_mut(&key) {
            Some(known) => known,
            None => panic!("file {key} is not in the table"),
        }
    }

    /// A file whose recorded part is about to change.
    pub fn change(&mut self, key: Key) -> &mut Known {
        self.touch(key);
        self.get_mut(key)
    }

    fn touch(&mut self, key: Key) {
        self.recorded.touch(key);
        self.changes += 1;
    }

    /// A number that changes whenever something recorded has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes read and bytes that exist, as far as is known.
    pub fn progress(&self) -> (u64, u64) {
        self.progress
    }

    /// What a file adds to [`Table::progress`].
    pub fn counted(&self, key: Key) -> (u64, u64) {
        self.get(key).counted
    }

    /// The files as they are recorded, and the place of one of them among these.
    pub fn recorded(&mut self, key: Option<Key>) -> (Part, Option<u32>) {
        let (files, base) = (&self.files, &self.base);
        self.recorded.renew(|keys| {
            let (mut count, mut entries, mut births) = (0, Vec::new(), Vec::new());
            for known in files.range(keys).map(|(_, known)| known) {
                count += 1;
                encode_entry(&known.entry(base), &mut entries, &mut births);
            }
            Part {
                files: count,
                entries: entries.into(),
                births: births.into(),
            }
        });
        let place = key.and_then(|key| {
            let (before, first) = self.recorded.before(key);
            let inside = u32::try_from(files.range(first..key).count()).ok()?;
            Some(before + inside)
        });
        (self.recorded.all(), place)
    }

    /// Appends a file.
    pub fn add(&mut self, known: Known) -> Key {
        let key = self.next;
        self.next += 1;
        if self.follow {
            self.by_number.insert(known.handle.number, key);
        }
        self.files.insert(key, known);
        self.touch(key);
        key
    }

    /// Whether a file that was sighted is in the table.
    pub fn knows(&self, sighting: &Sighting) -> bool {
        let id = (sighting.device, sighting.inode);
        self.files.values().any(|known| known.handle.id == id)
    }

    /// Forgets a file.
    pub fn forget(&mut self, key: Key) {
        self.touch(key);
        if let Some(known) = self.files.remove(&key) {
            self.progress.0 -= known.counted.0;
            self.progress.1 -= known.counted.1;
            self.by_number.remove(&known.handle.number);
        }
        for set in [&mut self.ready, &mut self.owed, &mut self.gone] {
            set.remove(&key);
        }
    }

    /// Following: takes what is new.
    pub fn take(&mut self, news: News) -> Result<(), SourceError> {
        for handle in news.found {
            if !self.by_number.contains_key(&handle.number) {
                let known = Known::discovered(handle, self.follow)?;
                let key = self.add(known);
                self.weigh(key)?;
            }
        }
        for handle in news.changed.into_values() {
            let Some(key) = self.by_number.get(&handle.number).copied() else {
                continue;
            };
            let path = handle.path();
            let known = self.get_mut(key);
            let renamed = known.path != path;
            if renamed || handle.gone().is_some() && !self.gone.contains(&key) {
                // What was rotated comes to its end before what took its place.
                let known = self.get_mut(key);
                known.owed = known.owed.max(handle.length());
                known.path = path;
            }
            if renamed {
                self.touch(key);
            }
            self.weigh(key)?;
        }
        Ok(())
    }

    /// Finds out whether a file has more to be read.
    pub fn weigh(&mut self, key: Key) -> Result<(), SourceError> {
        let follow = self.follow;
        let known = self.get_mut(key);
        let (mut length, gone) = (known.handle.length(), known.handle.gone().is_some());
        if follow && length < known.position {
            // More may have been read than was announced to all readers.
            length = known.handle.measure()?.unwrap_or(known.position);
            if length < known.position {
                return Err(known.shorter());
            }
        }
        let ready = match follow {
            true => length > known.position && known.exhausted != Some(length),
            false => known.finished.is_none(),
        };
        let owed = follow && ready && known.position < known.owed;
        let done = match (known.finished, known.compressed) {
            (Some(length), _) => length,
            (None, true) => 0,
            (None, false) => known.position,
        };
        let before = std::mem::replace(&mut known.counted, (done, length.max(done)));
        let counted = known.counted;
        self.progress.0 = self.progress.0 - before.0 + counted.0;
        self.progress.1 = self.progress.1 - before.1 + counted.1;
        for (set, is_in) in [
            (&mut self.ready, ready),
            (&mut self.owed, owed),
            (&mut self.gone, gone),
        ] {
            match is_in {
                true => set.insert(key),
                false => set.remove(&key),
            };
        }
        Ok(())
    }

    /// The file that comes next: `first`, if it has more to read. Following: each has its turn, those after one
    /// that is owed wait.
    pub fn pick(&self, first: Option<Key>) -> Option<Key> {
        if let Some(first) = first
            && self.ready.contains(&first)
        {
            return Some(first);
        }
        if !self.follow {
            return self.ready.first().copied();
        }
        let last = self.owed.first().copied().unwrap_or(Key::MAX);
        let after = self.turn.map_or(0, |turn| turn.saturating_add(1));
        let mut later = match after <= last {
            true => self.ready.range(after..=last),
            false => self.ready.range(0..0),
        };
        later
            .next()
            .or_else(|| self.ready.range(..=last).next())
            .copied()
    }

    /// A file has been read as far as it is owed.
    pub fn is_paid(&mut self, key: Key) {
        self.get_mut(key).owed = 0;
        self.owed.remove(&key);
    }

    /// A file has had its turn.
    pub fn had_its_turn(&mut self, key: Key) {
        self.turn = Some(key);
    }

    /// Whether another file may be read now.
    pub fn others_wait(&self, key: Key) -> bool {
        let last = self.owed.first().copied().unwrap_or(Key::MAX);
        self.ready.range(..=last).any(|other| *other != key)
    }

    /// A followed file that has been out of the stream for long enough to be at its end for good.
    pub fn done(&self) -> Option<Key> {
        let done = |key: &&Key| {
            let gone = self.get(**key).handle.gone();
            !self.ready.contains(*key) && gone.is_some_and(|since| since.elapsed() >= FAREWELL)
        };
        self.gone.iter().find(done).copied()
    }
}

impl Known {
    pub fn recorded(entry: &Entry, handle: Arc<Handle>) -> Known {
        Known {
            compressed: entry.compressed,
            beginning: entry.beginning,
            position: entry.position,
            line: entry.line,
            finished: entry.finished,
            exhausted: None,
            owed: handle.length(),
            path: handle.path(),
            handle,
            counted: (0, 0),
        }
    }

    pub fn discovered(handle: Arc<Handle>, follow: bool) -> Result<Known, SourceError> {
        let path = handle.path();
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        if compressed && follow {
            return Err(SourceError::Unsupported(format!(
                "{}: a compressed file cannot be followed; narrow the pattern, or set `follow = false`",
                path.display()
            )));
        }
        Ok(Known {
            compressed,
            beginning: Beginning::default(),
            position: 0,
            line: 1,
            finished: None,
            exhausted: None,
            owed: handle.length(),
            path,
            handle,
            counted: (0, 0),
        })
    }

    fn entry(&self, base: &std::path::Path) -> Entry {
        let path = self.path.strip_prefix(base).unwrap_or(&self.path);
        Entry {
            path: path.as_os_str().as_bytes().to_vec(),
            device: self.handle.id.0,
            inode: self.handle.id.1,
            compressed: self.compressed,
            beginning: self.beginning,
            position: self.position,
            line: self.line,
            finished: self.finished,
            born: self.handle.born,
        }
    }

    /// Whether nothing of it has been read.
    pub fn is_untouched(&self) -> bool {
        self.position == 0 && self.beginning == Beginning::default()
    }

    /// Takes another file for it, of which nothing has been read either.
    pub fn replace(&mut self, handle: Arc<Handle>) {
        self.path = handle.path();
        self.handle = handle;
    }

    /// Whether the file begins as it did when it was last read.
    pub fn check_beginning(&self, file: &File) -> Result<(), SourceError> {
        let fits = self.beginning.fits(file);
        match fits.map_err(unreadable(self.handle.path()))? {
            true => Ok(()),
            false => Err(self.changed(
                "it no longer begins as it did when it was read; bring the file back, or `reset` the job to read it from its beginning",
            )),
        }
    }

    /// Whether the file can be the one that was read.
    pub fn check(&self) -> Result<(), SourceError> {
        let least = match (self.finished, self.compressed) {
            (Some(length), _) => length,
            (None, false) => self.position,
            (None, true) => u64::from(self.beginning.length),
        };
        if self.handle.length() < least {
            return Err(self.shorter());
        }
        self.check_beginning(&*self.handle.file()?)
    }

    /// The file is shorter than what was read of it.
    pub fn shorter(&self) -> SourceError {
        self.changed(&format!(
            "it is shorter than what was read of it, {} bytes: it was truncated or replaced; bring the file back, or \
             `reset` the job to read it from its beginning. Rotate a followed file by renaming it",
            self.position
        ))
    }

    pub fn changed(&self, what: &str) -> SourceError {
        SourceError::Changed {
            path: self.handle.path(),
            what: what.to_owned(),
        }
    }
}
