//! Which files a pattern names now.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

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
    last: glob::Pattern,
}

/// A file that the pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub length: u64,
}

impl Sighting {
    pub fn new(path: PathBuf, metadata: &Metadata) -> Sighting {
        Sighting {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
        }
    }
}

impl Pattern {
    /// A pattern from an absolute path.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not an absolute path"));
        }
        glob::Pattern::new(text).map_err(|error| format!("pattern `{text}`: {error}"))?;
        let fixed = |name: &&str| !name.contains(['*', '?', '[']);
        let names: Vec<&str> = text.split('/').filter(|name| !name.is_empty()).collect();
        let literal = names.iter().all(fixed);
        let folders = names.len().saturating_sub(1);
        let base = names[..folders].iter().copied().take_while(fixed);
        let last = names.last().ok_or("the path names no file")?;
        Ok(Pattern {
            literal,
            base: Path::new("/").join(base.collect::<PathBuf>()),
            last: glob::Pattern::new(last).map_err(|error| format!("pattern `{text}`: {error}"))?,
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

    /// Whether the last part of the pattern fits a file's name.
    pub fn fits_name(&self, name: &str) -> bool {
        self.last.matches_with(name, OPTIONS)
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

    /// The file with that inode in a folder, under whatever name.
    pub fn find_inode(folder: &Path, inode: u64) -> Result<Option<Sighting>, SourceError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(folder.to_owned())(error)),
        };
        for entry in entries {
            let path = entry.map_err(unreadable(folder.to_owned()))?.path();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.ino() == inode => {
                    return Ok(Some(Sighting::new(path, &metadata)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Wraps an error in the path that it is about.
pub(super) fn unreadable(path: PathBuf) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError::Read { path, source }
}

fn no_file(path: &Path, metadata: &Metadata) -> SourceError {
    let path = path.display();
    SourceError::Unsupported(match metadata.is_dir() {
        true => format!("{path} is a folder: name the files in it, as {path}/*"),
        false => format!("{path} is not a regular file"),
    })
}
