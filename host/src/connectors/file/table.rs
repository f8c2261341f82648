//! The files of a stream that a reader knows: in the order of first discovery, with how far each has been read.
//!
//! A file is known by its inode. The device tells two of one inode apart, but is not relied on: it can change when the
//! machine starts anew. Invariant: a file that was not read to its end leaves the table by an error only.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detail::{Beginning, Entry, encode_files};
use super::look::{Pattern, Sighting, unreadable};
use crate::connectors::SourceError;

/// A followed file whose name is no longer one of the stream's is read until it has not grown for so long.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);

/// A file of the stream.
pub(super) struct Known {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub compressed: bool,
    pub beginning: Beginning,
    pub position: u64,
    pub line: u64,
    /// Read to its end, when the file itself had so many bytes.
    pub finished: Option<u64>,
    /// The bytes of the file itself when it was last looked at.
    pub length: u64,
    /// Following: up to this length there is nothing more to be had.
    pub exhausted: Option<u64>,
    /// Following: when it was last seen to grow or to have its name.
    gone: Option<Instant>,
    file: Option<Arc<File>>,
}

/// The files, by first discovery.
pub(super) struct Table {
    pub files: Vec<Known>,
    follow: bool,
    base: PathBuf,
    encoded: Option<Vec<u8>>,
}

impl Table {
    pub fn new(pattern: &Pattern, follow: bool) -> Table {
        Table {
            files: Vec::new(),
            follow,
            base: pattern.base().to_owned(),
            encoded: None,
        }
    }

    /// Whether nothing recorded has changed since [`Table::encoded`] was called.
    pub fn is_encoded(&self) -> bool {
        self.encoded.is_some()
    }

    /// The files as they are recorded, encoded.
    pub fn encoded(&mut self) -> &[u8] {
        let (files, base) = (&self.files, &self.base);
        self.encoded.get_or_insert_with(|| {
            let entry = |known: &Known| Entry {
                path: known
                    .path
                    .strip_prefix(base)
                    .unwrap_or(&known.path)
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
                device: known.device,
                inode: known.inode,
                compressed: known.compressed,
                beginning: known.beginning,
                position: known.position,
                line: known.line,
                finished: known.finished,
            };
            encode_files(&files.iter().map(entry).collect::<Vec<_>>())
        })
    }

    /// A file whose recorded part is about to change.
    pub fn change(&mut self, index: usize) -> &mut Known {
        self.encoded = None;
        &mut self.files[index]
    }

    /// Forgets a file; those after it move up.
    pub fn forget(&mut self, index: usize) {
        self.encoded = None;
        self.files.remove(index);
    }

    /// Takes the files of a recorded position, and finds out what has become of them. Returns the present index of the
    /// file that was being read.
    pub fn resume(
        &mut self,
        entries: Vec<Entry>,
        reading: Option<usize>,
        sightings: &[Sighting],
    ) -> Result<Option<usize>, SourceError> {
        self.encoded = None;
        let mut known: Vec<Known> = entries
            .into_iter()
            .map(|entry| Known::recorded(entry, &self.base))
            .collect();
        for sighting in sightings {
            let Some(index) = position_of(&known, sighting)? else {
                continue;
            };
            let before = &known[index];
            if before.finished.is_some() && before.path != sighting.path && !fits(before, sighting)?
            {
                // Its inode has gone to another file: it was deleted after it was read.
                known[index].inode = 0;
                continue;
            }
            known[index].check(sighting)?;
            known[index].see(sighting);
            if self.follow
                || known[index]
                    .finished
                    .is_some_and(|length| sighting.length > length)
            {
                known[index].finished = None;
            }
        }
        for file in &mut known {
            if file.finished.is_none() && !sightings.iter().any(|sighting| file.is(sighting)) {
                file.find_renamed()?;
                file.gone = Some(Instant::now());
            }
        }
        // A follower's finished files have gone out of the stream, and so has a bounded stream's whose inode was reused.
        let stays = |file: &Known| file.inode != 0 && !(self.follow && file.finished.is_some());
        let reading = reading.map(|index| known[..index].iter().filter(|file| stays(file)).count());
        known.retain(stays);
        self.files = known;
        Ok(reading)
    }

    /// Takes what a look at the pattern found: new files are appended, known ones get their present name.
    pub fn merge(&mut self, sightings: Vec<Sighting>) -> Result<(), SourceError> {
        for file in &mut self.files {
            if file.finished.is_none() && !sightings.iter().any(|sighting| file.is(sighting)) {
                file.gone.get_or_insert_with(Instant::now);
            }
        }
        for sighting in sightings {
            match self.files.iter().position(|file| file.is(&sighting)) {
                Some(index) => {
                    let file = &mut self.files[index];
                    file.gone = None;
                    if file.path != sighting.path {
                        self.encoded = None;
                    }
                    self.files[index].see(&sighting);
                }
                None => {
                    let mut file = Known::discovered(sighting, self.follow)?;
                    if self.follow {
                        file.hold()?;
                    }
                    self.files.push(file);
                    self.encoded = None;
                }
            }
        }
        Ok(())
    }

    /// The next file, from `first` on and then from the beginning, that has more to read.
    pub fn pick(&mut self, first: Option<usize>) -> Result<Option<usize>, SourceError> {
        let order = first.into_iter().chain(0..self.files.len());
        for index in order {
            let file = &mut self.files[index];
            if file.finished.is_some() {
                continue;
            }
            if !self.follow || file.has_grown()? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Whether a file has been taken out of the stream for long enough to be at its end.
    pub fn is_done(&self, index: usize) -> bool {
        self.files[index]
            .gone
            .is_some_and(|since| since.elapsed() >= FAREWELL)
    }

    /// A followed file that is at its end for good.
    pub fn done(&self) -> Option<usize> {
        (0..self.files.len()).find(|index| self.is_done(*index))
    }

    /// The folders in which files may appear or grow.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let parents = self.files.iter().filter_map(|file| file.path.parent());
        std::iter::once(self.base.as_path()).chain(parents)
    }

    /// Whether a followed file has that name.
    pub fn has_name(&self, name: &str) -> bool {
        self.files.iter().any(|file| {
            file.path
                .file_name()
                .is_some_and(|own| own.as_bytes() == name.as_bytes())
        })
    }
}

impl Known {
    fn recorded(entry: Entry, base: &Path) -> Known {
        Known {
            path: base.join(PathBuf::from(std::ffi::OsString::from_vec(entry.path))),
            device: entry.device,
            inode: entry.inode,
            compressed: entry.compressed,
            beginning: entry.beginning,
            position: entry.position,
            line: entry.line,
            finished: entry.finished,
            length: entry.finished.unwrap_or(entry.position),
            exhausted: None,
            gone: None,
            file: None,
        }
    }

    fn discovered(sighting: Sighting, follow: bool) -> Result<Known, SourceError> {
        let compressed = sighting
            .path
            .extension()
            .is_some_and(|extension| extension == "gz");
        if compressed && follow {
            return Err(SourceError::Unsupported(format!(
                "{}: a compressed file cannot be followed; narrow the pattern, or set `follow = false`",
                sighting.path.display()
            )));
        }
        Ok(Known {
            compressed,
            device: sighting.device,
            inode: sighting.inode,
            length: sighting.length,
            path: sighting.path,
            beginning: Beginning::default(),
            position: 0,
            line: 1,
            finished: None,
            exhausted: None,
            gone: None,
            file: None,
        })
    }

    fn is(&self, sighting: &Sighting) -> bool {
        self.inode == sighting.inode && self.device == sighting.device
    }

    fn see(&mut self, sighting: &Sighting) {
        self.device = sighting.device;
        self.length = sighting.length;
        if self.path != sighting.path {
            self.path.clone_from(&sighting.path);
        }
    }

    /// Opens the file, or gives what is open: what the path leads to must still be the file.
    pub fn hold(&mut self) -> Result<Arc<File>, SourceError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = File::open(&self.path).map_err(unreadable(self.path.clone()))?;
        let metadata = file.metadata().map_err(unreadable(self.path.clone()))?;
        if metadata.ino() != self.inode || metadata.dev() != self.device {
            return Err(
                self.changed("another file has taken its place just now; start the job again")
            );
        }
        let file = Arc::new(file);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Closes the file.
    pub fn release(&mut self) {
        self.file = None;
    }

    /// Whether a followed file has more than when it was last read to its end.
    fn has_grown(&mut self) -> Result<bool, SourceError> {
        let file = self.hold()?;
        let length = file
            .metadata()
            .map_err(unreadable(self.path.clone()))?
            .len();
        if length != self.length
            && let Some(gone) = &mut self.gone
        {
            *gone = Instant::now();
        }
        self.length = length;
        if length < self.position {
            return Err(self.shorter());
        }
        Ok(length > self.position && self.exhausted != Some(length))
    }

    /// Whether the file begins as it did when it was last read.
    pub fn check_beginning(&self, file: &File) -> Result<(), SourceError> {
        match self.beginning.fits(file).map_err(unreadable(self.path.clone()))? {
            true => Ok(()),
            false => Err(self.changed(
                "it no longer begins as it did when it was read; bring the file back, or `reset` the job to read it anew",
            )),
        }
    }

    fn check(&self, sighting: &Sighting) -> Result<(), SourceError> {
        let least = match (self.finished, self.compressed) {
            (Some(length), _) => length,
            (None, false) => self.position,
            (None, true) => u64::from(self.beginning.length),
        };
        if sighting.length < least {
            return Err(self.shorter());
        }
        let file = File::open(&sighting.path).map_err(unreadable(sighting.path.clone()))?;
        self.check_beginning(&file)
    }

    /// Looks for an unfinished file that the pattern does not name (any more) in the folder where it was.
    fn find_renamed(&mut self) -> Result<(), SourceError> {
        let found = match self.path.parent() {
            Some(folder) => Pattern::find_inode(folder, self.inode)?,
            None => None,
        };
        let Some(sighting) = found else {
            return Err(self.changed(
                "it was read in part and is gone; bring it back (also under another name), or `reset` the job",
            ));
        };
        self.check(&sighting)?;
        self.see(&sighting);
        Ok(())
    }

    /// The file is shorter than what was read of it.
    pub fn shorter(&self) -> SourceError {
        self.changed(&format!(
            "it is shorter than what was read of it, {} bytes: it was truncated or replaced; bring the file back, or \
             `reset` the job to read it anew. Rotate a followed file by renaming it",
            self.position
        ))
    }

    pub fn changed(&self, what: &str) -> SourceError {
        SourceError::Changed {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }
}

/// Which recorded file a sighting is, if any. Of another device it is one only where it begins alike.
fn position_of(known: &[Known], sighting: &Sighting) -> Result<Option<usize>, SourceError> {
    if let Some(index) = known.iter().position(|file| file.is(sighting)) {
        return Ok(Some(index));
    }
    for (index, file) in known.iter().enumerate() {
        if file.inode == sighting.inode && file.beginning.length > 0 && fits(file, sighting)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn fits(known: &Known, sighting: &Sighting) -> Result<bool, SourceError> {
    let file = match File::open(&sighting.path) {
        Ok(file) => file,
        Err(error) => return Err(unreadable(sighting.path.clone())(error)),
    };
    known
        .beginning
        .fits(&file)
        .map_err(unreadable(sighting.path.clone()))
}
