//! A reader of one partition: it reads all files of the stream, counts every record, and gives those of its partition.
//!
//! Invariants: what one poll gives lies within one file, so that reading on from the place before it finds the same
//! records whatever other files have grown meanwhile. The files are read in the order of the table; a place names the
//! file to go on with first.

use std::sync::Arc;

use super::decode::{Decoded, Decoder, Share};
use super::detail::{self, Beginning, Cursor};
use super::look::unreadable;
use super::reading::{Begun, Reading};
use super::records::{Framing, Record, Records};
use super::table::Table;
use super::watch::{Heard, Watch};
use super::{Config, FileFormat};
use crate::connectors::{
    FetchBounds, Fetched, OpenAt, Polled, Progress, ProgressUnit, Ready, Source, SourceError,
};
use crate::model::{Column, Offset, Position, StartAt, TimestampMs};

pub(super) struct FileSource {
    config: Arc<Config>,
    decoder: Decoder,
    records: Records,
    table: Table,
    watch: Option<Watch>,
    reading: Option<Reading>,
    /// The file to go on with.
    first: Option<usize>,
    /// The number of the next record.
    record: u64,
    /// Records before this one are passed over.
    next: Offset,
    /// Messages are passed over until one is not older.
    since: Option<TimestampMs>,
    /// A record that is no message, found after messages that had to be given first.
    undecodable: Option<Undecodable>,
    made: Option<(Place, Arc<[u8]>)>,
    /// Where the end was, for a reader that began there.
    begins_at: Option<Position>,
    /// Entries, bytes of keys and bytes of values of the last fetch: the next is likely to be alike.
    last: (usize, usize, usize),
}

/// Where the next record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: Option<u32>,
    position: u64,
    line: u64,
    record: u64,
}

struct Undecodable {
    at: Place,
    after: Place,
    raw: Vec<u8>,
    reason: String,
}

impl FileSource {
    pub fn open(config: Arc<Config>, share: Share, at: OpenAt) -> Result<FileSource, SourceError> {
        let options = &config.options;
        let decoder = config.decoder(share).map_err(SourceError::Unsupported)?;
        let framing = match options.format {
            FileFormat::Csv => Framing::Csv,
            FileFormat::Jsonl | FileFormat::Lines => Framing::Lines,
        };
        let mut source = FileSource {
            decoder,
            records: Records::new(framing, options.record_bytes),
            table: Table::new(&config.pattern, options.follow),
            watch: options.follow.then(Watch::new),
            reading: None,
            first: None,
            record: 0,
            next: 0,
            since: None,
            undecodable: None,
            made: None,
            begins_at: None,
            last: (0, 0, 0),
            config,
        };
        source.find_files(&at)?;
        match at {
            OpenAt::Position(position) => source.next = position.next,
            OpenAt::Start(StartAt::Oldest) => {}
            OpenAt::Start(StartAt::Offset(offset)) => source.next = offset,
            OpenAt::Start(StartAt::Time(time)) if source.config.options.timestamp.is_some() => {
                source.since = Some(time);
            }
            OpenAt::Start(StartAt::Time(_)) => {
                return Err(SourceError::Unsupported(
                    "a file stream can start at a time only if it has a `timestamp`".to_owned(),
                ));
            }
            OpenAt::Start(StartAt::Latest) => {
                source.pass_over_all()?;
                let detail = source.detail_at(source.place())?;
                source.begins_at = Some(Position {
                    next: source.next,
                    detail: Some(detail),
                });
            }
        }
        Ok(source)
    }

    fn find_files(&mut self, at: &OpenAt) -> Result<(), SourceError> {
        let config = Arc::clone(&self.config);
        let sightings = config.pattern.look()?;
        if sightings.is_empty() && !config.options.follow {
            return Err(SourceError::Unsupported(format!(
                "no file matches `{}`",
                config.pattern.text()
            )));
        }
        if let OpenAt::Position(Position {
            detail: Some(detail),
            ..
        }) = at
        {
            let unusable = |why: String| {
                SourceError::Unsupported(format!("the recorded position cannot be used: {why}"))
            };
            let (cursor, files) = detail::decode(detail).map_err(unusable)?;
            if cursor.division != config.division() {
                return Err(unusable(
                    "`key` or `format` has changed, and with them which records belong to which partition; change them back, \
                     or reset the job"
                        .to_owned(),
                ));
            }
            // Records between the position's offset and the cursor's, if any, are of other partitions.
            self.record = cursor.record;
            let reading = cursor.file.map(|file| file as usize);
            self.first = self.table.resume(files, reading, &sightings)?;
        }
        self.table.merge(sightings)?;
        if let Some(watch) = &mut self.watch {
            watch.set_folders(self.table.folders());
        }
        Ok(())
    }

    /// Reads to the present end and gives nothing.
    fn pass_over_all(&mut self) -> Result<(), SourceError> {
        self.next = Offset::MAX;
        while self.choose()? {
            while self.reading.is_some() {
                let bounds = FetchBounds {
                    messages: usize::MAX,
                    bytes: usize::MAX,
                };
                self.read(bounds)?;
            }
        }
        self.next = self.record;
        Ok(())
    }

    /// Makes sure that a file is being read; false where there is nothing to read now.
    fn choose(&mut self) -> Result<bool, SourceError> {
        while self.reading.is_none() {
            let first = self.first.take();
            let follow = self.config.options.follow;
            let (index, to_the_end) = match self.table.pick(first)? {
                Some(index) => (index, !follow),
                None => match self.table.done() {
                    Some(index) if follow => (index, true),
                    _ => match self.look_again()? {
                        true => continue,
                        false => return Ok(false),
                    },
                },
            };
            let known = &mut self.table.files[index];
            match Reading::begin(
                index,
                known,
                to_the_end,
                &mut self.records,
                &mut self.decoder,
            )? {
                Begun::Reading(reading) => self.reading = Some(reading),
                Begun::NoHeader(reading) => {
                    // Nothing is taken of the file, so that the header is read again when it has grown.
                    let read_to = self.records.read_to();
                    self.records.go_to(0, 1);
                    self.leave(reading, read_to)?;
                }
            }
        }
        Ok(true)
    }

    /// Following: whether a look at the pattern was due, and may have found more.
    fn look_again(&mut self) -> Result<bool, SourceError> {
        let Some(watch) = &mut self.watch else {
            return Ok(false);
        };
        let (config, table) = (&self.config, &mut self.table);
        match watch.drain(|name| config.pattern.fits_name(name) || table.has_name(name)) {
            Heard::Nothing | Heard::Grown => return Ok(false),
            Heard::Names => {}
        }
        table.merge(config.pattern.look()?)?;
        watch.set_folders(table.folders());
        Ok(true)
    }

    /// Gives what the file being read has, if anything. At its end there is no such file any more.
    fn read(&mut self, bounds: FetchBounds) -> Result<Option<Polled>, SourceError> {
        let start = self.place();
        let now = self.config.clock.now_ms();
        let mut fetched = self.expected(bounds);
        while fetched.offsets.len() < bounds.messages.max(1)
            && (fetched.offsets.is_empty() || fetched.messages.data_len() < bounds.bytes)
        {
            let before = self.place();
            let Some(reading) = &mut self.reading else {
                break;
            };
            let path = &self.table.files[reading.index].path;
            let found = match self.records.next() {
                Some(record) => record,
                None if reading.fill(&mut self.records, path)? => continue,
                None if !fetched.offsets.is_empty() => break,
                None => match reading.to_the_end.then(|| self.records.rest()).flatten() {
                    Some(record) => record,
                    None => {
                        self.end_file()?;
                        return Ok(None);
                    }
                },
            };
            let bytes = self.records.bytes(&found);
            if found.oversize.is_none() && self.decoder.is_blank(bytes) {
                continue;
            }
            let offset = self.record;
            self.record += 1;
            if offset < self.next {
                continue;
            }
            let decoded = match refuse(&found, self.config.options.record_bytes) {
                None => self.decoder.decode(bytes, now),
                Some(reason) => self.decoder.undecodable(reason),
            };
            match decoded {
                Decoded::Other => {}
                Decoded::Message(message)
                    if self.since.is_some_and(|since| message.timestamp < since) => {}
                Decoded::Message(message) => {
                    self.since = None;
                    fetched.offsets.push(offset);
                    fetched.messages.push(message);
                }
                Decoded::Undecodable(_) if self.since.is_some() => {}
                Decoded::Undecodable(reason) => {
                    let reason = format!("{}, line {}: {reason}", path.display(), found.line);
                    self.undecodable = Some(Undecodable {
                        at: before,
                        after: self.place(),
                        raw: bytes.to_vec(),
                        reason,
                    });
                    break;
                }
            }
        }
        if fetched.offsets.is_empty() {
            return self.give_undecodable(start);
        }
        let keys = fetched.messages.keys.as_ref().map_or(0, Column::data_len);
        self.last = (
            fetched.offsets.len(),
            keys,
            fetched.messages.values.data_len(),
        );
        let end = self
            .undecodable
            .as_ref()
            .map_or_else(|| self.place(), |found| found.at);
        fetched.start_detail = Some(self.detail_at(start)?);
        fetched.end_detail = Some(self.detail_at(end)?);
        Ok(Some(Polled::Messages(fetched)))
    }

    fn give_undecodable(&mut self, start: Place) -> Result<Option<Polled>, SourceError> {
        let Some(found) = self.undecodable.take() else {
            return Ok(None);
        };
        Ok(Some(Polled::Undecodable {
            offset: found.at.record,
            raw: found.raw,
            reason: found.reason,
            start_detail: Some(self.detail_at(start)?),
            end_detail: Some(self.detail_at(found.after)?),
        }))
    }

    /// An empty fetch with room for as much as the last had.
    fn expected(&self, bounds: FetchBounds) -> Fetched {
        let (entries, keys, values) = self.last;
        let entries = entries.min(bounds.messages);
        let mut fetched = Fetched::default();
        fetched.offsets.reserve(entries);
        fetched.messages.timestamps.reserve(entries);
        fetched.messages.values = Column::with_capacity(entries, values);
        if self.config.options.key.is_some() {
            fetched.messages.keys = Some(Column::with_capacity(entries, keys));
        }
        fetched
    }

    /// The file being read has no more now, or at all.
    fn end_file(&mut self) -> Result<(), SourceError> {
        match self.reading.take() {
            Some(reading) => self.leave(reading, self.records.read_to()),
            None => Ok(()),
        }
    }

    /// Notes how far a file was read that has nothing more.
    fn leave(&mut self, reading: Reading, read_to: u64) -> Result<(), SourceError> {
        self.note_beginning(&reading)?;
        let follow = self.config.options.follow;
        if follow && reading.to_the_end {
            self.table.forget(reading.index);
            return Ok(());
        }
        let known = self.table.change(reading.index);
        known.position = self.records.position();
        known.line = self.records.line();
        if follow {
            known.exhausted = Some(read_to);
            return Ok(());
        }
        let length = match known.compressed {
            true => reading.length,
            false => {
                let metadata = reading
                    .file
                    .metadata()
                    .map_err(unreadable(known.path.clone()))?;
                if metadata.len() < read_to {
                    return Err(known.shorter());
                }
                read_to
            }
        };
        known.finished = Some(length);
        known.length = length;
        known.release();
        Ok(())
    }

    /// Remembers as much of the file's beginning as has been read.
    fn note_beginning(&mut self, reading: &Reading) -> Result<(), SourceError> {
        let known = &mut self.table.files[reading.index];
        let read = match known.compressed {
            true => reading.length,
            false => self.records.position(),
        };
        if known.beginning.can_grow(read) {
            known.beginning =
                Beginning::of(&reading.file, read).map_err(unreadable(known.path.clone()))?;
        }
        Ok(())
    }

    fn place(&self) -> Place {
        match &self.reading {
            Some(reading) => Place {
                file: u32::try_from(reading.index).ok(),
                position: self.records.position(),
                line: self.records.line(),
                record: self.record,
            },
            None => Place {
                file: None,
                position: 0,
                line: 1,
                record: self.record,
            },
        }
    }

    /// The detail of a place in the file being read, or of one in none.
    fn detail_at(&mut self, place: Place) -> Result<Arc<[u8]>, SourceError> {
        if let Some(reading) = self.reading.take() {
            let noted = self.note_beginning(&reading);
            self.reading = Some(reading);
            noted?;
        }
        if let Some((made, detail)) = &self.made
            && *made == place
            && self.table.is_encoded()
        {
            return Ok(Arc::clone(detail));
        }
        let beginning = place
            .file
            .map(|file| self.table.files[file as usize].beginning);
        let cursor = Cursor {
            file: place.file,
            position: place.position,
            line: place.line,
            record: place.record,
            division: self.config.division(),
            beginning: beginning.unwrap_or_default(),
        };
        let detail = detail::encode(&cursor, self.table.encoded());
        self.made = Some((place, Arc::clone(&detail)));
        Ok(detail)
    }

    /// Nothing is left to read: what was asked for must have been there.
    fn check_next(&self) -> Result<(), SourceError> {
        if self.record < self.next {
            return Err(SourceError::OffsetOutOfRange {
                offset: self.next,
                oldest: 0,
                end: self.record,
            });
        }
        Ok(())
    }
}

/// Why a record is not even decoded.
fn refuse(record: &Record, record_bytes: usize) -> Option<String> {
    match record.oversize {
        Some(bytes) => Some(format!(
            "{bytes} bytes, more than `record-bytes` = {record_bytes}"
        )),
        None if record.unclosed => {
            Some("a quoted field is not closed before the end of the file".to_owned())
        }
        None => None,
    }
}

impl Source for FileSource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        if let Some(found) = &self.undecodable {
            let start = found.at;
            if let Some(polled) = self.give_undecodable(start)? {
                return Ok(polled);
            }
        }
        while self.choose()? {
            if let Some(polled) = self.read(bounds)? {
                return Ok(polled);
            }
        }
        self.check_next()?;
        if self.config.options.follow {
            return Ok(Polled::Idle);
        }
        let detail = self.detail_at(self.place())?;
        Ok(Polled::End {
            at: Position {
                next: self.record,
                detail: Some(detail),
            },
        })
    }

    fn ready(&mut self) -> Ready<'_> {
        let FileSource {
            watch,
            config,
            table,
            ..
        } = self;
        match watch {
            Some(watch) if self.reading.is_none() && self.undecodable.is_none() => Box::pin(
                watch.changed(|name| config.pattern.fits_name(name) || table.has_name(name)),
            ),
            _ => Box::pin(std::future::ready(())),
        }
    }

    fn begins_at(&self) -> Option<Position> {
        self.begins_at.clone()
    }

    fn progress(&self) -> Option<Progress> {
        let mut progress = Progress {
            done: 0,
            total: 0,
            unit: ProgressUnit::Bytes,
        };
        for (index, known) in self.table.files.iter().enumerate() {
            let done = match (&self.reading, known.finished) {
                (Some(reading), _) if reading.index == index => reading.done(&self.records),
                (_, Some(length)) => length,
                (_, None) if known.compressed => 0,
                (_, None) => known.position,
            };
            progress.done += done;
            progress.total += known.length.max(done);
        }
        Some(progress)
    }
}
