//! What a position of a file stream holds in addition to the offset. Version 1:
//!
//! ```text
//! 1                       one byte: the version
//! cursor                  postcard
//!   file      option u32  index into `files` of the file being read
//!   position  u64         in that file: the first byte of the next record
//!   line      u64         its line number, from 1
//!   beginning             of that file, as below
//!   record    u64         its number in the stream; records from the position's offset up to it, if any, are of other
//!                         partitions
//!   division  8 bytes     how records are divided among partitions: the first bytes of the SHA-256 of the format's name,
//!                         a zero byte and the key; zeros if there is one partition
//! files                   postcard: a list, in the order of first discovery; each
//!   path       bytes      relative to the fixed folder of the pattern, if it lies below it
//!   device     u64
//!   inode      u64
//!   compressed bool       whether it is read as gzip
//!   beginning             length u32 (at most 4096) and the first 16 bytes of the SHA-256 of that many first bytes
//!                         of the file itself (compressed, if it is), as far as they had been read; of a compressed
//!                         file, as far as they were there
//!   position   u64        byte position at a record start, decompressed; for the cursor's file the cursor's holds
//!   line       u64
//!   finished   option u64 the length of the file itself when it was read to its end; of a followed file, that this was
//!                         so when the position was made: it may go
//! births                  postcard: a list of u64, one for each file: when it was made, in nanoseconds since the Unix
//!                         epoch; 0 if the file system does not report it. Older hosts wrote no such list
//! ```
//!
//! postcard: integers are LEB128 varints, lists and bytes are preceded by their length, an option by 0 or 1.
//! An unknown version is refused.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::recorded::Part;
use crate::model::Detail;

const VERSION: u8 = 1;

/// The most bytes that are used to tell one beginning from another.
const BEGINNING_BYTES: u64 = 4096;

/// A short hash of the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Beginning {
    pub length: u32,
    hash: [u8; 16],
}

impl Beginning {
    /// Of the first `length` bytes, or of as many as are of use.
    pub fn of(file: &File, length: u64) -> io::Result<Beginning> {
        let mut bytes = [0; BEGINNING_BYTES as usize];
        let wanted = length.min(BEGINNING_BYTES);
        let mut read = 0;
        while (read as u64) < wanted {
            let more = &mut bytes[read..];
            match file.read_at(more, read as u64) {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let read = read.min(wanted as usize);
        let mut hash = [0; 16];
        hash.copy_from_slice(&Sha256::digest(&bytes[..read])[..16]);
        Ok(Beginning {
            length: read as u32,
            hash,
        })
    }

    /// Whether more bytes of the file would make it more precise.
    pub fn can_grow(&self, position: u64) -> bool {
        u64::from(self.length) < position.min(BEGINNING_BYTES)
    }

    /// Whether a file begins so.
    pub fn fits(&self, file: &File) -> io::Result<bool> {
        Ok(*self == Beginning::default() || Beginning::of(file, u64::from(self.length))? == *self)
    }
}

/// The place of the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub file: Option<u32>,
    pub position: u64,
    pub line: u64,
    pub beginning: Beginning,
    pub record: u64,
    pub division: [u8; 8],
}

/// A file as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    pub device: u64,
    pub inode: u64,
    pub compressed: bool,
    pub beginning: Beginning,
    pub position: u64,
    pub line: u64,
    pub finished: Option<u64>,
    /// 0: not known.
    #[serde(skip)]
    pub born: u64,
}

/// Puts a detail together.
pub(super) fn encode(cursor: &Cursor, files: &Part) -> Detail {
    let head = encoded(&files.files, encoded(cursor, vec![VERSION]));
    let count = encoded(&files.files, Vec::new());
    Detail::join(vec![
        head.into(),
        files.entries.clone(),
        count.into(),
        files.births.clone(),
    ])
}

/// Appends a file as it stands in the two lists of files.
pub(super) fn encode_entry(entry: &Entry, entries: &mut Vec<u8>, births: &mut Vec<u8>) {
    *entries = encoded(entry, std::mem::take(entries));
    *births = encoded(&entry.born, std::mem::take(births));
}

fn encoded<T: Serialize + ?Sized>(value: &T, after: Vec<u8>) -> Vec<u8> {
    match postcard::to_extend(value, after) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("plain data is always encoded into memory: {error}"),
    }
}

/// Takes a detail apart; the files' own places include the cursor's.
pub(super) fn decode(detail: &[u8]) -> Result<(Cursor, Vec<Entry>), String> {
    let (version, rest) = detail.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!(
            "it has version {version}, and this program knows {VERSION}"
        ));
    }
    let decoded = postcard::take_from_bytes::<Cursor>(rest).and_then(|(cursor, rest)| {
        let (files, rest) = postcard::take_from_bytes::<Vec<Entry>>(rest)?;
        // Older hosts wrote none.
        let births = match rest {
            [] => vec![0; files.len()],
            _ => postcard::from_bytes::<Vec<u64>>(rest)?,
        };
        Ok((cursor, files, births))
    });
    let (cursor, mut files, births) = decoded.map_err(|error| error.to_string())?;
    if births.len() != files.len() {
        return Err(format!(
            "it has {} files, and {} times",
            files.len(),
            births.len()
        ));
    }
    for (file, born) in files.iter_mut().zip(births) {
        file.born = born;
    }
    if let Some(file) = cursor.file {
        let count = files.len();
        let entry = files
            .get_mut(file as usize)
            .ok_or_else(|| format!("it is in file {file} of {count}"))?;
        entry.position = cursor.position;
        entry.line = cursor.line;
        entry.beginning = cursor.beginning;
    }
    Ok((cursor, files))
}
