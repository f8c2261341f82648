//! One file being read: its text, the window over it, and how reading begins at a recorded position.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::bytes::Text;
use super::decode::Decoder;
use super::handle::Handle;
use super::look::unreadable;
use super::records::Records;
use super::table::{Key, Known};
use crate::connectors::SourceError;

/// The file that is being read.
pub(super) struct Reading {
    /// Its place in the table.
    pub key: Key,
    /// Whether nothing will be added: a last line without line end counts.
    pub to_the_end: bool,
    /// The bytes of the file itself when reading began.
    pub length: u64,
    /// Where it was in the text when this reading of it began.
    pub began: u64,
    pub file: Arc<Handle>,
    /// Its path when reading began.
    pub path: PathBuf,
    text: Text,
}

/// How beginning to read a file went.
pub(super) enum Begun {
    /// Its records can be read.
    Reading(Reading),
    /// Not even its header is complete.
    NoHeader(Reading),
}

impl Reading {
    /// Begins to read a file where its position is, the header first.
    pub fn begin(
        key: Key,
        known: &Known,
        to_the_end: bool,
        records: &mut Records,
        decoder: &mut Decoder,
    ) -> Result<Begun, SourceError> {
        let file = known.handle.file()?;
        let path = known.handle.path();
        let metadata = file.metadata().map_err(unreadable(path.clone()))?;
        known.check_beginning(&file)?;
        let file = Arc::clone(&known.handle);
        let mut reading = Reading {
            key,
            to_the_end,
            length: metadata.len(),
            began: known.position,
            text: Text::new(Arc::clone(&file), known.compressed),
            file,
            path,
        };
        records.go_to(0, 1);
        if decoder.has_header() && !reading.read_header(records, decoder)? {
            return Ok(Begun::NoHeader(reading));
        }
        if known.position > 0 {
            reading.go_to(known, records)?;
        }
        Ok(Begun::Reading(reading))
    }

    /// Reads more into the window; false at the current end.
    pub fn fill(&mut self, records: &mut Records) -> Result<bool, SourceError> {
        let read = self.text.read(records.spare(), &self.path)?;
        records.filled(read);
        Ok(read > 0)
    }

    /// How far the file itself has been read.
    pub fn done(&self, records: &Records) -> u64 {
        self.text.compressed_read().unwrap_or(records.position())
    }

    /// Reads the header; false if it is not complete. A header without line end is followed by no record, so the
    /// file then stays at its beginning.
    fn read_header(
        &mut self,
        records: &mut Records,
        decoder: &mut Decoder,
    ) -> Result<bool, SourceError> {
        loop {
            let Some(record) = records.next() else {
                if self.fill(records)? {
                    continue;
                }
                return Ok(false);
            };
            let bytes = records.bytes(&record);
            if record.oversize.is_none() && decoder.is_blank(bytes) {
                continue;
            }
            let set = match record.oversize {
                Some(bytes) => Err(format!("it has {bytes} bytes, more than `record-bytes`")),
                None => decoder.set_header(bytes),
            };
            return match set {
                Ok(()) => Ok(true),
                Err(reason) => Err(SourceError::Damaged {
                    what: format!("{}: the header: {reason}", self.path.display()),
                }),
            };
        }
    }

    /// Goes to the file's position, and makes sure that it still is the start of a record.
    fn go_to(&mut self, known: &Known, records: &mut Records) -> Result<(), SourceError> {
        if records.position() > known.position {
            return Err(known.changed(
                "its header is longer than when it was read; `reset` the job to read it from its beginning",
            ));
        }
        let previous = match &mut self.text {
            Text::Plain { file, at } => {
                let mut byte = [0];
                let read = file.file()?.read_at(&mut byte, known.position - 1);
                let read = read.map_err(unreadable(self.path.clone()))?;
                *at = known.position;
                records.go_to(known.position, known.line);
                (read == 1).then_some(byte[0])
            }
            Text::Gz { .. } => {
                while records.position() < known.position {
                    let left = known.position - records.position();
                    if records.pass_over(left) == 0 && !self.fill(records)? {
                        return Err(known.shorter());
                    }
                }
                records.set_line(known.line);
                records.previous_byte()
            }
        };
        if previous.is_some_and(|byte| byte != b'\n') {
            while records.held().len() < 2 && self.fill(records)? {}
            if !records.held().is_empty() && !records.pass_over_line_end() {
                return Err(known.changed(
                    "its last line had no line end when it was read, and has been continued since; \
                     `reset` the job to read it from its beginning",
                ));
            }
        }
        Ok(())
    }
}
