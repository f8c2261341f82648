//! The text of a file: its bytes, or what they decompress to.

use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::handle::Handle;
use crate::connectors::SourceError;

/// How many compressed bytes are read at a time.
const COMPRESSED_READ_BYTES: usize = 64 * 1024;

/// A reader of one file's text.
pub(super) enum Text {
    /// The bytes as they are; `at` is where reading goes on.
    Plain { file: Arc<Handle>, at: u64 },
    /// Decompressed, from the beginning only; `consumed` counts compressed bytes.
    Gz {
        decoder: Box<MultiGzDecoder<BufReader<Counted>>>,
        consumed: Arc<AtomicU64>,
    },
}

impl Text {
    /// The text of a file from its beginning.
    pub fn new(file: Arc<Handle>, compressed: bool) -> Text {
        if !compressed {
            return Text::Plain { file, at: 0 };
        }
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            file,
            at: Arc::clone(&consumed),
        };
        let buffered = BufReader::with_capacity(COMPRESSED_READ_BYTES, counted);
        Text::Gz {
            decoder: Box::new(MultiGzDecoder::new(buffered)),
            consumed,
        }
    }

    /// Reads more; 0 at the end.
    pub fn read(&mut self, into: &mut [u8], path: &Path) -> Result<usize, SourceError> {
        loop {
            let result = match self {
                Text::Plain { file, at } => {
                    let open = file.file()?;
                    open.read_at(into, *at).inspect(|read| *at += *read as u64)
                }
                Text::Gz { decoder, .. } => decoder.read(into),
            };
            match result {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error, path)),
            }
        }
    }

    /// How many bytes of the file itself have been read, if that is not the position in the text.
    pub fn compressed_read(&self) -> Option<u64> {
        match self {
            Text::Plain { .. } => None,
            Text::Gz { consumed, .. } => Some(consumed.load(Ordering::Relaxed)),
        }
    }

    fn explain(&self, error: io::Error, path: &Path) -> SourceError {
        let damaged = |what: &str| SourceError::Damaged {
            what: format!(
                "{}: {what}; replace the file, or take it out of the stream",
                path.display()
            ),
        };
        match (self, error.kind()) {
            (Text::Gz { .. }, io::ErrorKind::UnexpectedEof) => {
                damaged("the compressed data ends early")
            }
            (Text::Gz { .. }, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                damaged(&format!("the compressed data is corrupt ({error})"))
            }
            _ => SourceError::Read {
                path: path.to_owned(),
                source: error,
            },
        }
    }
}

/// A file that is read from its beginning, and counts the bytes read.
pub(super) struct Counted {
    file: Arc<Handle>,
    at: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let file = self.file.file().map_err(io::Error::other)?;
        let read = file.read_at(into, self.at.load(Ordering::Relaxed))?;
        self.at.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
