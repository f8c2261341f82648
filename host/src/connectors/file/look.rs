//! Finds the files that match a pattern now.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::MatchOptions;
use rustix::process::{Resource, getrlimit};

use crate::connectors::SourceError;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A path in which `*`, `?`, `[…]` and `**` may stand for names. Names that begin with a dot are matched by a dot only.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    literal: bool,
    /// The folder above the first name that is not fixed.
    base: PathBuf,
    whole: glob::Pattern,
}

/// A file that the pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub length: u64,
    pub modified: SystemTime,
    pub born: u64,
}

impl Sighting {
    pub fn new(path: PathBuf, metadata: &Metadata) -> Sighting {
        Sighting {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            born: born(metadata),
        }
    }

    /// The order in which a follower reads files that it finds together: by the time of the last write, then by name,
    /// with numbers in names compared by value.
    pub fn by_age(&self, other: &Sighting) -> Ordering {
        let [own, others] = [self, other].map(|sighting| sighting.path.as_os_str().as_bytes());
        let times = self.modified.cmp(&other.modified);
        times
            .then_with(|| natural(own).cmp(&natural(others)))
            .then_with(|| own.cmp(others))
    }
}

/// When a file was made, in nanoseconds; 0 if the file system does not know. It tells a file from another that was
/// given its inode.
pub(super) fn born(metadata: &Metadata) -> u64 {
    let created = metadata.created().ok();
    let since = created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// Whether these can be times of one file.
pub(super) fn same_birth(one: u64, other: u64) -> bool {
    one == other || one == 0 || other == 0
}

/// A name in parts that compare the way a person would compare them: text by bytes, numbers by value.
fn natural(name: &[u8]) -> Vec<(usize, &[u8])> {
    let parts = name.chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit());
    let part = |part: &'_ [u8]| match part[0].is_ascii_digit() {
        true => {
            let zeros = part.iter().take_while(|digit| **digit == b'0').count();
            (part.len() - zeros, zeros)
        }
        false => (0, 0),
    };
    parts
        .map(|bytes| {
            let (digits, zeros) = part(bytes);
            (digits, &bytes[zeros..])
        })
        .collect()
}

impl Pattern {
    /// A pattern from an absolute path.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not an absolute path"));
        }
        let whole =
            glob::Pattern::new(text).map_err(|error| format!("pattern `{text}`: {error}"))?;
        let fixed = |name: &&str| !name.contains(['*', '?', '[']);
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
        let literal = names.iter().all(fixed);
        let folders = names.len().saturating_sub(1);
        let base = names[..folders].iter().copied().take_while(fixed);
        names.last().ok_or("the path names no file")?;
        Ok(Pattern {
            literal,
            base: Path::new("/").join(base.collect::<PathBuf>()),
            whole,
            text: text.to_owned(),
        })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fixed folder that all matches lie below.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Whether a path is one that the pattern names.
    pub fn fits(&self, path: &Path) -> bool {
        match self.literal {
            true => path == Path::new(&self.text),
            false => self.whole.matches_path_with(path, OPTIONS),
        }
    }

    /// The files, in the order of their paths' bytes. A file with several names is there once, under the first.
    pub fn look(&self) -> Result<Vec<Sighting>, SourceError> {
        let mut paths = Vec::new();
        if self.literal {
            paths.push(PathBuf::from(&self.text));
        } else {
            let matches = glob::glob_with(&self.text, OPTIONS).map_err(|error| {
                SourceError::Unsupported(format!("pattern `{}`: {error}", self.text))
            })?;
            for found in matches {
                match found {
                    Ok(path) => paths.push(path),
                    Err(error) if error.error().kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(unreadable(error.path().to_owned())(error.into())),
                }
            }
            paths.sort_unstable();
        }
        let mut seen = HashSet::new();
        let mut sightings = Vec::new();
        for path in paths {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(path)(error)),
            };
            if !metadata.is_file() {
                match self.literal {
                    true => return Err(no_file(&path, &metadata)),
                    false => continue,
                }
            }
            if seen.insert((metadata.dev(), metadata.ino())) {
                sightings.push(Sighting::new(path, &metadata));
            }
        }
        Ok(sightings)
    }

    /// The regular files in a folder, whatever their names. There are none if the folder does not exist.
    pub fn all_in(folder: &Path) -> Result<Vec<Sighting>, SourceError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(folder.to_owned())(error)),
        };
        let mut sightings = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable(folder.to_owned()))?.path();
            if let Ok(metadata) = fs::metadata(&path)
                && metadata.is_file()
            {
                sightings.push(Sighting::new(path, &metadata));
            }
        }
        Ok(sightings)
    }

    /// The file with that inode in a folder, under any name.
    pub fn find_inode(folder: &Path, inode: u64) -> Result<Option<Sighting>, SourceError> {
        let all = Pattern::all_in(folder)?;
        Ok(all.into_iter().find(|sighting| sighting.inode == inode))
    }
}

/// Adds the path to an error. An error about a limit names the limit.
pub(super) fn unreadable(path: PathBuf) -> impl FnOnce(io::Error) -> SourceError {
    move |source| {
        let source = match source.raw_os_error() {
            Some(code) if code == rustix::io::Errno::MFILE.raw_os_error() => {
                let limit = getrlimit(Resource::Nofile).current;
                let limit = limit.map_or("none".to_owned(), |limit| limit.to_string());
                io::Error::other(format!(
                    "too many open files: this process may have {limit} (`ulimit -n`); raise the limit"
                ))
            }
            _ => source,
        };
        SourceError::Read { path, source }
    }
}

fn no_file(path: &Path, metadata: &Metadata) -> SourceError {
    let path = path.display();
    SourceError::Unsupported(match metadata.is_dir() {
        true => format!("{path} is a folder: name the files in it, as {path}/*"),
        false => format!("{path} is not a regular file"),
    })
}
