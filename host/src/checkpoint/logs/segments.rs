//! The files of the embedded log: chunks of all its streams, one after the other, in the folder `segments` of the state
//! directory.
//!
//! The database says which part of which file is a chunk, and how much of a file exists. Invariants: a part that exists was
//! synced before the write that says so; nothing of it is written again; what does not exist is never read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::stored::Place;
use crate::disk::DiskError;
use crate::model::SegmentId;
use crate::records::{self, SegmentRecord};
use crate::state::{Db, StateError};

/// Files that are kept open for readers.
const OPEN_MAX: usize = 64;

/// The segments as they are read.
pub(super) struct Segments {
    folder: PathBuf,
    /// The last used at the end.
    open: Mutex<Vec<(SegmentId, Arc<File>)>>,
}

impl Segments {
    /// Those of a state directory.
    pub(super) fn of(directory: &Path) -> Segments {
        Segments {
            folder: directory.join("segments"),
            open: Mutex::default(),
        }
    }

    /// The folder that they are in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a segment.
    pub(super) fn path(&self, id: SegmentId) -> PathBuf {
        self.folder.join(format!("{:012}", id.0))
    }

    /// The segments that have a file, whether or not they exist.
    pub(super) fn found(&self) -> Result<Vec<SegmentId>, DiskError> {
        let read = DiskError::of("read", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let number = |entry: fs::DirEntry| {
            let is_file = entry.file_type().is_ok_and(|it| it.is_file());
            is_file.then(|| entry.file_name().to_str()?.parse().ok())?
        };
        let found = entries.map_err(read)?.into_iter().filter_map(number);
        Ok(found.map(SegmentId).collect())
    }

    /// A chunk. `None`: the segment is gone.
    pub(super) fn read(&self, place: &Place) -> Result<Option<Vec<u8>>, DiskError> {
        let read = || {
            let Some(file) = self.file(place.segment)? else {
                return Ok(None);
            };
            let mut bytes = vec![0; place.len as usize];
            file.read_exact_at(&mut bytes, place.at)?;
            Ok(Some(bytes))
        };
        read().map_err(DiskError::of("read", &self.path(place.segment)))
    }

    /// Closes a segment that is about to go.
    pub(super) fn close(&self, id: SegmentId) {
        self.open.lock().retain(|(open, _)| *open != id);
    }

    fn file(&self, id: SegmentId) -> io::Result<Option<Arc<File>>> {
        let mut open = self.open.lock();
        let file = match open.iter().position(|(found, _)| *found == id) {
            Some(at) => open.remove(at).1,
            None => match File::open(self.path(id)) {
                Ok(file) => Arc::new(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((id, Arc::clone(&file)));
        Ok(Some(file))
    }
}

/// What the files lack of what the database says is in them, in words.
pub(in crate::checkpoint) fn find_missing(
    directory: &Path,
    db: &Db,
) -> Result<Option<String>, StateError> {
    let segments = Segments::of(directory);
    for (id, record) in records::list::<SegmentRecord>(db)? {
        let (path, end) = (segments.path(id), record.end);
        let (shown, needed) = (
            path.display(),
            format!("{end} bytes of the log should be in it"),
        );
        return Ok(Some(match fs::metadata(&path) {
            Ok(found) if found.len() >= end => continue,
            _ if record.live == 0 => continue,
            Ok(found) => format!("{shown} has {} bytes, and {needed}", found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{shown} is missing, and {needed}")
            }
            Err(error) => format!("{shown} cannot be looked at: {error}; {needed}"),
        }));
    }
    Ok(None)
}
