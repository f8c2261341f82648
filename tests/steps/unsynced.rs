//! What has been written and not synced, and how it was before.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use wasm_host::disk::{Operation, parent};

/// What a power cut forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgets {
    /// Everything that is not synced.
    All,
    /// What was written into files; names are kept, as a file system may that journals them alone.
    Content,
}

/// Changes that are not synced, in their order.
#[derive(Default)]
pub struct Unsynced(Vec<Change>);

enum Change {
    /// There was nothing of this name.
    Made(PathBuf),
    /// So much of a file was this, and it had this length.
    Content {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
        length: u64,
    },
    /// `from` is called `to` now, where there was a file of this content, or nothing.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
    /// A file of this content was there.
    Removed { path: PathBuf, bytes: Vec<u8> },
}

impl Unsynced {
    /// An operation is about to be made.
    pub fn note(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Create(path) | Operation::CreateFolder(path) => {
                if !path.exists() {
                    self.0.push(Change::Made(path.to_owned()));
                }
            }
            Operation::Write(path, at, length) => self.content(path, at, length as u64),
            Operation::Free(path, at, length) => self.content(path, at, length),
            Operation::Truncate(path, length) => self.content(path, length, u64::MAX),
            Operation::Rename(from, to) => self.0.push(Change::Renamed {
                from: from.to_owned(),
                to: to.to_owned(),
                replaced: fs::read(to).ok(),
            }),
            // Folders are removed with what an earlier attempt has left of them, which nothing depends on.
            Operation::Remove(path) => {
                if let Ok(bytes) = fs::read(path) {
                    let path = path.to_owned();
                    self.0.push(Change::Removed { path, bytes });
                }
            }
            Operation::Sync(synced) => self
                .0
                .retain(|change| !matches!(change, Change::Content { path, .. } if path == synced)),
            Operation::SyncFolder(folder) => self.0.retain(|change| match change {
                Change::Made(path) | Change::Removed { path, .. } => parent(path) != folder,
                Change::Renamed { to, .. } => parent(to) != folder,
                Change::Content { .. } => true,
            }),
        }
    }

    fn content(&mut self, path: &Path, at: u64, length: u64) {
        let Ok(file) = File::open(path) else { return };
        let before = file.metadata().map_or(0, |found| found.len());
        let kept = before.saturating_sub(at).min(length);
        let mut bytes = vec![0; usize::try_from(kept).expect("a small file")];
        file.read_exact_at(&mut bytes, at).expect("it can be read");
        self.0.push(Change::Content {
            path: path.to_owned(),
            at,
            bytes,
            length: before,
        });
    }

    /// Undoes what is not synced, the last first.
    pub fn forget(&mut self, forgets: Forgets) {
        // Where a file is found that has another name since.
        let mut names: Vec<(PathBuf, PathBuf)> = Vec::new();
        while let Some(change) = self.0.pop() {
            match change {
                Change::Content {
                    path,
                    at,
                    bytes,
                    length,
                } => {
                    let now = names.iter().rev().find(|(before, _)| *before == path);
                    let now = now.map_or(&path, |(_, now)| now);
                    if let Ok(file) = OpenOptions::new().write(true).open(now) {
                        file.write_all_at(&bytes, at).expect("it can be written");
                        file.set_len(length).expect("it can be cut");
                    }
                }
                Change::Renamed { from, to, .. } if forgets == Forgets::Content => {
                    names.push((from, to));
                }
                Change::Renamed { from, to, replaced } => {
                    fs::rename(&to, &from).expect("it can be renamed");
                    if let Some(bytes) = replaced {
                        fs::write(to, bytes).expect("it can be written");
                    }
                }
                _ if forgets == Forgets::Content => {}
                Change::Made(path) if path.is_dir() => {
                    fs::remove_dir_all(path).expect("it can be removed");
                }
                Change::Made(path) => {
                    let _ = fs::remove_file(path);
                }
                Change::Removed { path, bytes } => {
                    fs::write(path, bytes).expect("it can be written");
                }
            }
        }
    }
}
