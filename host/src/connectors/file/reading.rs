//! One file being read: its text, the window over it, and how reading begins at a recorded position.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::bytes::Text;
use super::decode::Decoder;
use super::look::unreadable;
use super::records::Records;
use super::table::Known;
use crate::connectors::SourceError;

/// The file that is being read.
pub(super) struct Reading {
    /// Its place in the table.
    pub index: usize,
    /// Whether nothing will be added: a last line without line end counts.
    pub to_the_end: bool,
    /// The bytes of the file itself when reading began.
    pub length: u64,
    pub file: Arc<File>,
    text: Text,
}

/// How beginning to read a file went.
pub(super) enum Begun {
    /// Its records can be read.
    Reading(Reading),
    /// Not even its header is there.
    NoHeader(Reading),
}

impl Reading {
    /// Begins to read a file where its position is, the header first.
    pub fn begin(
        index: usize,
        known: &mut Known,
        to_the_end: bool,
        records: &mut Records,
        decoder: &mut Decoder,
    ) -> Result<Begun, SourceError> {
        let file = known.hold()?;
        let metadata = file.metadata().map_err(unreadable(known.path.clone()))?;
        known.check_beginning(&file)?;
        let mut reading = Reading {
            index,
            to_the_end,
            length: metadata.len(),
            text: Text::new(Arc::clone(&file), known.compressed),
            file,
        };
        known.length = metadata.len();
        records.go_to(0, 1);
        if decoder.has_header() && !reading.read_header(records, decoder, &known.path)? {
            return Ok(Begun::NoHeader(reading));
        }
        if known.position > 0 {
            reading.go_to(known, records)?;
        }
        Ok(Begun::Reading(reading))
    }

    /// Reads more into the window; false at the present end.
    pub fn fill(&mut self, records: &mut Records, path: &Path) -> Result<bool, SourceError> {
        let read = self.text.read(records.spare(), path)?;
        records.filled(read);
        Ok(read > 0)
    }

    /// How far the file itself has been read.
    pub fn done(&self, records: &Records) -> u64 {
        self.text.compressed_read().unwrap_or(records.position())
    }

    /// Reads the header; false where it is not complete. A header without line end is followed by no record, so the
    /// file then stays at its beginning.
    fn read_header(
        &mut self,
        records: &mut Records,
        decoder: &mut Decoder,
        path: &Path,
    ) -> Result<bool, SourceError> {
        loop {
            let Some(record) = records.next() else {
                if self.fill(records, path)? {
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
                    what: format!("{}: the header: {reason}", path.display()),
                }),
            };
        }
    }

    /// Goes to the file's position, and makes sure that it still is the start of a record.
    fn go_to(&mut self, known: &Known, records: &mut Records) -> Result<(), SourceError> {
        let path = &known.path;
        if records.position() > known.position {
            return Err(known.changed(
                "its header is longer than when it was read; `reset` the job to read it anew",
            ));
        }
        let previous = match &mut self.text {
            Text::Plain { file, at } => {
                let mut byte = [0];
                let read =
                    std::os::unix::fs::FileExt::read_at(&**file, &mut byte, known.position - 1);
                let read = read.map_err(unreadable(path.clone()))?;
                *at = known.position;
                records.go_to(known.position, known.line);
                (read == 1).then_some(byte[0])
            }
            Text::Gz { .. } => {
                while records.position() < known.position {
                    let left = known.position - records.position();
                    if records.pass_over(left) == 0 && !self.fill(records, path)? {
                        return Err(known.shorter());
                    }
                }
                records.set_line(known.line);
                records.previous_byte()
            }
        };
        if previous.is_some_and(|byte| byte != b'\n') {
            while records.held().len() < 2 && self.fill(records, path)? {}
            if !records.held().is_empty() && !records.pass_over_line_end() {
                return Err(known.changed(
                    "its last line had no line end when it was read, and has been continued since; \
                     `reset` the job to read it anew",
                ));
            }
        }
        Ok(())
    }
}
