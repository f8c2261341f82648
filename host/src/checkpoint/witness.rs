//! The witness: a second account of the last synced write, outside of RocksDB.
//!
//! RocksDB's recovery drops the rest of its log silently when a bit in it flips, acknowledged writes included. The witness
//! notices. It is a file of two blocks, 4 KiB apart, of which the one that is *not* the newest is overwritten after
//! each write, and synced where the write was; so a crash within a write of the witness leaves the other block.
//!
//! A block (numbers little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `WHWITNES` |
//! | 8..12 | version, 1 |
//! | 12..28 | state id |
//! | 28..36 | seq |
//! | 36..44 | epoch |
//! | 44..52 | nonce |
//! | 52..56 | CRC-32C of bytes 0..52 |

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::StateId;
use crate::disk::{Create, Disk, DiskError, DurableFile};
use crate::model::{CommitKey, Epoch, Nonce, Seq};
use crate::state::Durability;

const MAGIC: &[u8; 8] = b"WHWITNES";
const VERSION: u32 = 1;
const BLOCK: usize = 56;
const SPACING: u64 = 4096;

/// What a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) state_id: StateId,
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) nonce: Nonce,
}

/// The open witness of a state directory.
pub(super) struct Witness {
    file: DurableFile,
    state_id: StateId,
    /// The block that the next write goes to.
    next: u64,
    /// What the newest block must still say before it is left behind.
    last: Option<Block>,
}

impl Witness {
    /// Makes the file with a first block and syncs it.
    pub(super) fn create(
        disk: &Disk,
        path: &Path,
        state_id: StateId,
        commit: &CommitKey,
    ) -> Result<(), DiskError> {
        let file = disk.open(path, Create::New(0o600))?;
        file.truncate("witness.make", 2 * SPACING)?;
        let mut witness = Witness {
            file,
            state_id,
            next: 0,
            last: None,
        };
        witness.write(commit, Durability::Sync)?;
        witness.file.sync("witness.make-sync")
    }

    /// Opens the file and reads the newest valid block.
    pub(super) fn open(
        disk: &Disk,
        path: &Path,
        state_id: StateId,
    ) -> Result<(Witness, Option<Block>), DiskError> {
        let file = disk.open(path, Create::No)?;
        let read = |index| read_block(|bytes, at| file.read_exact_at(bytes, at), index);
        let blocks = [read(0), read(1)];
        let newest = match blocks {
            [Some(a), Some(b)] if b.seq > a.seq => Some((1, b)),
            [Some(a), _] => Some((0, a)),
            [None, Some(b)] => Some((1, b)),
            [None, None] => None,
        };
        let witness = Witness {
            file,
            state_id,
            next: newest.map_or(0, |(at, _)| 1 - at),
            last: newest.map(|(_, block)| block),
        };
        Ok((witness, newest.map(|(_, block)| block)))
    }

    /// Reads the newest valid block of a file that is not to be changed.
    pub(super) fn read(path: &Path) -> io::Result<Option<Block>> {
        let file = File::open(path)?;
        let read = |index| read_block(|bytes, at| file.read_exact_at(bytes, at), index);
        let blocks = [read(0), read(1)];
        Ok(blocks.into_iter().flatten().max_by_key(|block| block.seq))
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
        let block = Block {
            state_id: self.state_id,
            seq: commit.seq,
            epoch: commit.epoch,
            nonce: commit.nonce,
        };
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
    let crc = crc32c::crc32c(&bytes[..52]);
    bytes[52..].copy_from_slice(&crc.to_le_bytes());
    bytes
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
    if bytes[0..8] != *MAGIC || word(8)? != VERSION || word(52)? != crc32c::crc32c(&bytes[..52]) {
        return None;
    }
    Some(Block {
        state_id: StateId(*bytes[12..].first_chunk()?),
        seq: Seq(number(28)?),
        epoch: Epoch(number(36)?),
        nonce: Nonce(number(44)?),
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
        }
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
