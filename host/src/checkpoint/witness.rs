//! The witness: a second account of the last synced write, outside of RocksDB.
//!
//! RocksDB's recovery drops the rest of its log silently when a bit in it flips, acknowledged writes included. The witness
//! notices. It also notices a `MANIFEST` that has lost its end ([`super::manifest`]).
//!
//! It is a file of two blocks, 4 KiB apart, of which the one that is *not* the newest is overwritten after each write, and synced
//! where the write was; so a crash within a write of the witness leaves the other block. It is also overwritten when the
//! `MANIFEST` has grown since the last write: then both speak of the same write.
//!
//! A block (numbers little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `WHWITNES` |
//! | 8..12 | version, 2 |
//! | 12..28 | state id |
//! | 28..36 | seq |
//! | 36..44 | epoch |
//! | 44..52 | nonce |
//! | 52..60 | number of the database's `MANIFEST` |
//! | 60..68 | bytes of it |
//! | 68..72 | CRC-32C of these bytes |
//! | 72..76 | CRC-32C of bytes 0..72 |
//!
//! A block of version 1, which is read too, ends after the nonce, with the CRC-32C of bytes 0..52.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::StateId;
use super::manifest::{Listed, Manifest};
use crate::disk::{Create, Disk, DiskError, DurableFile};
use crate::model::{CommitKey, Epoch, Nonce, Seq};
use crate::state::Durability;

const NAME: &str = "witness";
const MAGIC: &[u8; 8] = b"WHWITNES";
const VERSION: u32 = 2;
const BLOCK: usize = 76;
/// Bytes of a block before its checksum, in version 1 and today.
const V1_CONTENT: usize = 52;
const CONTENT: usize = 72;
const SPACING: u64 = 4096;

/// What a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) state_id: StateId,
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) nonce: Nonce,
    /// What the list of the database's files had. Version 1 does not say.
    pub(super) listed: Option<Listed>,
}

impl Block {
    /// Of two blocks the newer has the greater.
    fn age(&self) -> (Seq, Option<(u64, u64)>) {
        let listed = self.listed.map(|listed| (listed.number, listed.bytes));
        (self.seq, listed)
    }
}

/// The open witness of a state directory.
pub(super) struct Witness {
    file: DurableFile,
    manifest: Manifest,
    state_id: StateId,
    /// The block that the next write goes to.
    next: u64,
    /// What the newest block must still say before it is left behind.
    last: Option<Block>,
}

impl Witness {
    /// Makes the file in a state directory, with a first block, and syncs it.
    pub(super) fn create(
        disk: &Disk,
        folder: &Path,
        state_id: StateId,
        commit: &CommitKey,
    ) -> Result<(), DiskError> {
        let file = disk.open(&folder.join(NAME), Create::New(0o600))?;
        file.truncate("witness.make", 2 * SPACING)?;
        let mut witness = Witness {
            file,
            manifest: Manifest::new(disk, folder.join("db")),
            state_id,
            next: 0,
            last: None,
        };
        witness.write(commit, Durability::Sync)?;
        witness.file.sync("witness.make-sync")
    }

    /// Opens the file of a state directory.
    pub(super) fn open(
        disk: &Disk,
        folder: &Path,
        state_id: StateId,
    ) -> Result<Witness, DiskError> {
        let file = disk.open(&folder.join(NAME), Create::No)?;
        let newest = newest_block(|bytes, at| file.read_exact_at(bytes, at));
        Ok(Witness {
            file,
            manifest: Manifest::new(disk, folder.join("db")),
            state_id,
            next: newest.map_or(0, |(at, _)| 1 - at),
            last: newest.map(|(_, block)| block),
        })
    }

    /// Reads the newest valid block of a state directory that is not to be changed.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Block>> {
        let file = File::open(folder.join(NAME))?;
        let newest = newest_block(|bytes, at| file.read_exact_at(bytes, at));
        Ok(newest.map(|(_, block)| block))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether the next start would find this file: nobody has removed or replaced it.
    pub(super) fn is_in_place(&self) -> bool {
        let of = |found: Metadata| (found.dev(), found.ino());
        let held = self.file.metadata().ok().map(of);
        held.is_some() && fs::metadata(self.file.path()).ok().map(of) == held
    }

    /// Notes a write, as durably as it was made.
    ///
    /// An error, or a newest block that is not the one written last (another process uses the directory), leaves the outcome
    /// unknown: the process must end.
    pub(super) fn write(
        &mut self,
        commit: &CommitKey,
        durability: Durability,
    ) -> Result<(), DiskError> {
        let block = Block {
            state_id: self.state_id,
            seq: commit.seq,
            epoch: commit.epoch,
            nonce: commit.nonce,
            listed: Some(self.manifest.listed(durability)?),
        };
        self.put(block, durability)
    }

    /// Notes what has become of the list of files since the last write. An error is as one of [`Witness::write`].
    pub(super) fn renew(&mut self, durability: Durability) -> Result<(), DiskError> {
        let Some(last) = self.last else {
            return Ok(());
        };
        let listed = Some(self.manifest.listed(durability)?);
        if listed == last.listed {
            return Ok(());
        }
        let block = Block { listed, ..last };
        self.put(block, durability)
    }

    /// Overwrites the older block.
    fn put(&mut self, block: Block, durability: Durability) -> Result<(), DiskError> {
        let read = |index| read_block(|bytes, at| self.file.read_exact_at(bytes, at), index);
        if let Some(last) = self.last
            && read(1 - self.next) != Some(last)
        {
            return Err(DiskError {
                action: "write to",
                path: self.file.path().to_owned(),
                source: io::Error::other(
                    "the witness is not as it was left: another process uses the state directory",
                ),
            });
        }
        self.file
            .write_at("witness.write", &encode(&block), self.next * SPACING)?;
        if durability == Durability::Sync {
            self.file.sync_data("witness.sync")?;
        }
        self.next = 1 - self.next;
        self.last = Some(block);
        Ok(())
    }
}

fn encode(block: &Block) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..28].copy_from_slice(&block.state_id.0);
    bytes[28..36].copy_from_slice(&block.seq.0.to_le_bytes());
    bytes[36..44].copy_from_slice(&block.epoch.0.to_le_bytes());
    bytes[44..52].copy_from_slice(&block.nonce.0.to_le_bytes());
    if let Some(listed) = &block.listed {
        bytes[52..60].copy_from_slice(&listed.number.to_le_bytes());
        bytes[60..68].copy_from_slice(&listed.bytes.to_le_bytes());
        bytes[68..72].copy_from_slice(&listed.crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..CONTENT]);
    bytes[CONTENT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The newest valid block, and which of the two it is.
fn newest_block(read_exact_at: impl Fn(&mut [u8], u64) -> io::Result<()>) -> Option<(u64, Block)> {
    let block = |index| Some((index, read_block(&read_exact_at, index)?));
    [0, 1]
        .into_iter()
        .filter_map(block)
        .max_by_key(|(_, block)| block.age())
}

fn read_block(
    read_exact_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
    index: u64,
) -> Option<Block> {
    let mut bytes = [0; BLOCK];
    read_exact_at(&mut bytes, index * SPACING).ok()?;
    decode(&bytes)
}

fn decode(bytes: &[u8; BLOCK]) -> Option<Block> {
    let number = |at: usize| {
        bytes[at..]
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes))
    };
    let word = |at: usize| {
        bytes[at..]
            .first_chunk()
            .map(|bytes| u32::from_le_bytes(*bytes))
    };
    let version = word(8)?;
    let content = match version {
        1 => V1_CONTENT,
        VERSION => CONTENT,
        _ => return None,
    };
    if bytes[0..8] != *MAGIC || word(content)? != crc32c::crc32c(&bytes[..content]) {
        return None;
    }
    let listed = Listed {
        number: number(52)?,
        bytes: number(60)?,
        crc: word(68)?,
    };
    Some(Block {
        state_id: StateId(*bytes[12..].first_chunk()?),
        seq: Seq(number(28)?),
        epoch: Epoch(number(36)?),
        nonce: Nonce(number(44)?),
        listed: (version == VERSION).then_some(listed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: StateId = StateId([7; 16]);

    fn block(seq: u64, nonce: u64) -> Block {
        Block {
            state_id: STATE,
            seq: Seq(seq),
            epoch: Epoch(seq),
            nonce: Nonce(nonce),
            listed: Some(Listed {
                number: 4,
                bytes: 1000,
                crc: 77,
            }),
        }
    }

    #[test]
    fn blocks_of_version_1_are_read() {
        let mut bytes = encode(&block(5, 50));
        bytes[8] = 1;
        let crc = crc32c::crc32c(&bytes[..V1_CONTENT]);
        bytes[V1_CONTENT..56].copy_from_slice(&crc.to_le_bytes());
        bytes[56..].fill(0);
        let old = Block {
            listed: None,
            ..block(5, 50)
        };
        assert_eq!(decode(&bytes), Some(old));
        bytes[20] ^= 1;
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn every_flipped_bit_makes_a_block_invalid() {
        let bytes = encode(&block(5, 50));
        assert_eq!(decode(&bytes), Some(block(5, 50)));
        for bit in 0..BLOCK * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }
}
