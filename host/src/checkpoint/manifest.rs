//! What RocksDB's `MANIFEST` held when a write was witnessed.
//!
//! The `MANIFEST` lists the files of the database; each flush and compaction appends to it. RocksDB takes one that has lost its end
//! for the work of a crash, and serves what the files of the earlier list hold: state is missing, and nothing says so. So the witness
//! has the number of the `MANIFEST`, its length, and a checksum of so many bytes. It only grows, and a later one has a greater
//! number.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::disk::{Create, Disk, DiskError, DurableFile};
use crate::state::Durability;

/// What a `MANIFEST` held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    /// The number in its name.
    pub(super) number: u64,
    /// So many bytes.
    pub(super) bytes: u64,
    /// CRC-32C of these bytes.
    pub(super) crc: u32,
}

impl Listed {
    fn none_of(number: u64) -> Listed {
        Listed {
            number,
            bytes: 0,
            crc: 0,
        }
    }

    /// Goes on to so many bytes.
    fn read_to(
        &mut self,
        bytes: u64,
        read_exact_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while self.bytes < bytes {
            let piece = (bytes - self.bytes).min(buffer.len() as u64);
            let piece = &mut buffer[..piece as usize];
            read_exact_at(piece, self.bytes)?;
            self.crc = crc32c::crc32c_append(self.crc, piece);
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether the database in `folder` still has all of it; else a sentence that says what is wrong.
    pub(super) fn check(&self, folder: &Path) -> Result<(), String> {
        let (number, path) = current(folder).map_err(|error| error.to_string())?;
        let name = shown(&path);
        if number != self.number {
            return match number > self.number {
                true => Ok(()),
                false => Err(format!(
                    "Its list of files is {name}, but the witness saw number {}",
                    self.number
                )),
            };
        }
        let cannot = |error| format!("{name} cannot be read: {error}");
        let file = File::open(&path).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        if bytes < self.bytes {
            return Err(format!(
                "{name} has lost its end: it has {bytes} bytes, and the witness saw {}",
                self.bytes
            ));
        }
        let mut found = Listed::none_of(number);
        found
            .read_to(self.bytes, |bytes, at| file.read_exact_at(bytes, at))
            .map_err(cannot)?;
        match found == *self {
            true => Ok(()),
            false => Err(format!("{name} is not as the witness saw it")),
        }
    }
}

/// The `MANIFEST` of an open database.
pub(super) struct Manifest {
    disk: Disk,
    folder: PathBuf,
    held: Option<Held>,
}

struct Held {
    file: DurableFile,
    listed: Listed,
    /// Bytes that are known to be on the disk.
    synced: u64,
}

impl Manifest {
    /// Of the database in `folder`.
    pub(super) fn new(disk: &Disk, folder: PathBuf) -> Manifest {
        Manifest {
            disk: disk.clone(),
            folder,
            held: None,
        }
    }

    /// What it holds now, and holds after a loss of power if `durability` says so. RocksDB may be appending to it.
    pub(super) fn listed(&mut self, durability: Durability) -> Result<Listed, DiskError> {
        let cannot = DiskError::of("read", &self.folder);
        let (number, path) = current(&self.folder).map_err(cannot)?;
        let held = match self.held.take() {
            Some(held) if held.listed.number == number => held,
            _ => Held {
                file: self.disk.open(&path, Create::No)?,
                listed: Listed::none_of(number),
                synced: 0,
            },
        };
        let held = self.held.insert(held);
        let bytes = held.file.metadata()?.len();
        if durability == Durability::Sync && held.synced < bytes {
            held.file.sync_data("manifest.sync")?;
            held.synced = bytes;
        }
        let file = &held.file;
        held.listed
            .read_to(bytes, |bytes, at| file.read_exact_at(bytes, at))
            .map_err(DiskError::of("read", &path))?;
        Ok(held.listed)
    }
}

/// The number and the path of the `MANIFEST` that the database goes by.
fn current(folder: &Path) -> io::Result<(u64, PathBuf)> {
    let text = fs::read_to_string(folder.join("CURRENT"))?;
    let name = text.trim_end_matches('\n');
    let number = name.strip_prefix("MANIFEST-").map(str::parse);
    match number {
        Some(Ok(number)) => Ok((number, folder.join(name))),
        _ => Err(io::Error::other("CURRENT does not name a MANIFEST")),
    }
}

fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::Folder;
    use crate::state::{Db, DbOptions, Family};

    /// A database whose `MANIFEST` has grown since it was opened.
    fn grown(folder: &Path) -> Listed {
        let options = DbOptions {
            write_buffer_bytes: 128 << 10,
            ..DbOptions::default()
        };
        let db = Db::create(folder, &options).expect("a database");
        let mut manifest = Manifest::new(&Disk::default(), folder.to_owned());
        let first = manifest.listed(Durability::Sync).expect("it is read");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        for number in 0_u64.. {
            let mut writes = db.write_set();
            writes.put(Family::State, &number.to_be_bytes(), &[7; 16 << 10]);
            writes.commit(Durability::Process).expect("a write");
            let listed = manifest.listed(Durability::Process).expect("it is read");
            if listed.bytes > first.bytes {
                assert_eq!(listed.number, first.number);
                assert_ne!(listed.crc, first.crc);
                break;
            }
            assert!(std::time::Instant::now() < until, "nothing is flushed");
        }
        drop(db);
        manifest.listed(Durability::Sync).expect("it is read")
    }

    #[test]
    fn what_was_seen_is_found_again_and_every_loss_is_noticed() {
        let temporary = Folder::new();
        let folder = temporary.path().join("db");
        let seen = grown(&folder);
        let path = folder.join(format!("MANIFEST-{:06}", seen.number));
        assert_eq!(seen.check(&folder), Ok(()));
        let whole = fs::read(&path).expect("it is read");
        assert_eq!(whole.len() as u64, seen.bytes);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("it is cut");
            let refused = seen.check(&folder).expect_err("it is cut");
            assert!(refused.contains("lost its end"), "{refused}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("it is damaged");
            let refused = seen.check(&folder).expect_err("it is damaged");
            assert!(refused.contains("not as the witness saw it"), "{refused}");
        }
        // It may have grown since.
        fs::write(&path, [whole.as_slice(), b"more"].concat()).expect("it grows");
        assert_eq!(seen.check(&folder), Ok(()));
    }

    #[test]
    fn an_earlier_list_is_refused_and_a_later_one_is_taken() {
        let temporary = Folder::new();
        let folder = temporary.path().join("db");
        let seen = grown(&folder);
        drop(Db::open(&folder, &DbOptions::default()).expect("it opens"));
        assert_eq!(seen.check(&folder), Ok(()));
        let later = Listed::none_of(seen.number + 100);
        let refused = later.check(&folder).expect_err("it is older");
        assert!(refused.contains("the witness saw number"), "{refused}");
        fs::write(folder.join("CURRENT"), "elsewhere\n").expect("it is damaged");
        assert!(seen.check(&folder).is_err());
    }
}
