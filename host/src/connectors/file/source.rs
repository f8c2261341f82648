//! A reader of one partition: it reads all files of the stream, counts every record, and gives those of its partition.
//!
//! Invariants: what one poll gives lies within one file, so that reading on from the place before it finds the same
//! records, however other files have grown meanwhile. A place names the file to go on with first. Bounded, the files are
//! read in the order of the table. Following, so is what was there when they were found; then each file that has more
//! has its turn, and no turn ends while records are passed over that were read before the place was recorded.

use std::sync::Arc;

use super::decode::{Decoded, Decoder, Share};
use super::detail::{self, Beginning, Cursor};
use super::files::Member;
use super::look::unreadable;
use super::reading::{Begun, Reading};
use super::records::{Framing, Records};
use super::resume::find_files;
use super::table::{Key, Table};
use super::{Config, FileFormat};
use crate::connectors::{
    FetchBounds, Fetched, OpenAt, Polled, Progress, ProgressUnit, Ready, Source, SourceError,
};
use crate::model::{Column, Detail, Offset, Position, StartAt, TimestampMs};

pub(super) struct FileSource {
    config: Arc<Config>,
    decoder: Decoder,
    records: Records,
    table: Table,
    /// Following: how it hears of files.
    member: Option<Arc<Member>>,
    reading: Option<Reading>,
    /// The file to go on with.
    first: Option<Key>,
    /// The number of the next record.
    record: u64,
    /// Records before this one are passed over.
    next: Offset,
    /// Messages older than this are passed over, until the first that is not.
    since: Option<TimestampMs>,
    /// A record that is not a message, found after messages that had to be returned first.
    undecodable: Option<Undecodable>,
    /// The last detail that was made, and how often the table had changed then.
    made: Option<(Place, u64, Detail)>,
    /// A file was found, or read to its end, since a position was given that says so.
    passed: bool,
    /// The last unfinished record that was reported as too long: its file and where it begins.
    told_of: Option<(Key, u64)>,
    /// The end at that time, for a reader that began at the end.
    begins_at: Option<Position>,
    /// Entries, bytes of keys and bytes of values of the last fetch: the next is likely to be alike.
    last: (usize, usize, usize),
}

/// Following: the bytes read of one file before others have their turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// Where the next record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: Option<Key>,
    position: u64,
    line: u64,
    record: u64,
}

struct Undecodable {
    at: Place,
    after: Place,
    raw: Vec<u8>,
    length: u64,
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
            table: Table::new(config.files.pattern(), options.follow),
            member: None,
            reading: None,
            first: None,
            record: 0,
            next: 0,
            since: None,
            undecodable: None,
            made: None,
            passed: false,
            told_of: None,
            begins_at: None,
            last: (0, 0, 0),
            config,
        };
        let found = find_files(&source.config, &mut source.table, &at)?;
        (source.member, source.first, source.record) = (found.member, found.first, found.record);
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
            OpenAt::Start(StartAt::Group) => return Err(SourceError::no_group()),
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

    /// Makes sure that a file is being read; false if there is nothing to read now.
    fn choose(&mut self) -> Result<bool, SourceError> {
        while self.reading.is_none() {
            self.hear()?;
            let first = self.first.take();
            let follow = self.config.options.follow;
            let (key, to_the_end) = match self.table.pick(first) {
                Some(key) => (key, !follow),
                None => match self.table.done() {
                    Some(key) if follow && self.table.get(key).handle.is_lost() => {
                        self.table.forget(key);
                        self.passed = true;
                        continue;
                    }
                    Some(key) if follow => (key, true),
                    _ => return Ok(false),
                },
            };
            if follow && self.table.get(key).finished.is_some() {
                self.table.change(key).finished = None;
            }
            let known = self.table.get(key);
            let begun =
                Reading::begin(key, known, to_the_end, &mut self.records, &mut self.decoder);
            match begun {
                Ok(Begun::Reading(reading)) => self.reading = Some(reading),
                Ok(Begun::NoHeader(reading)) => {
                    // Nothing is taken of the file, so that the header is read again when it has grown.
                    let read_to = self.records.read_to();
                    self.records.go_to(0, 1);
                    self.leave(reading, read_to)?;
                }
                Err(_) if !follow && known.handle.is_lost() && known.is_untouched() => {
                    self.look_again_at(key)?;
                }
                Err(_) if self.config.options.drop_unread && known.handle.is_lost() => {
                    let what = "it was deleted or moved while it was closed, and before it was read to its end: the rest \
                                is lost, how much is not known (`drop-unread`)";
                    self.config.files.say(&known.handle.path(), what);
                    self.table.forget(key);
                    self.passed = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Following: hears of files that are new, have grown or were renamed.
    fn hear(&mut self) -> Result<(), SourceError> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        self.config.files.update()?;
        let news = member.take();
        // A file that is known by a name that it may lose must be recorded soon.
        self.passed |= !news.found.is_empty();
        self.table.take(news)
    }

    /// A file that was found is not there any more, and nothing of it has been read: what has its name now is of the
    /// stream too.
    fn look_again_at(&mut self, key: Key) -> Result<(), SourceError> {
        let path = self.table.get(key).handle.path();
        let sightings = self.config.files.pattern().look()?;
        let now = sightings
            .into_iter()
            .find(|sighting| sighting.path == path && !self.table.knows(sighting));
        match now {
            Some(sighting) => {
                let handle = self.config.files.share(sighting);
                self.table.change(key).replace(handle);
                self.table.weigh(key)
            }
            None => {
                let what = "it went away before anything of it was read, and is passed over";
                self.config.files.say(&path, what);
                self.table.forget(key);
                Ok(())
            }
        }
    }

    /// Following: whether it is another file's turn. Never while records are passed over: those were read one after the
    /// other.
    fn turn_is_over(&mut self) -> Result<bool, SourceError> {
        let Some(reading) = &self.reading else {
            return Ok(false);
        };
        let (key, position) = (reading.key, self.records.position());
        if self.member.is_none()
            || position - reading.began < TURN_BYTES
            || self.record < self.next
            || reading.to_the_end
        {
            return Ok(false);
        }
        self.hear()?;
        if position < self.table.get(key).owed {
            return Ok(false);
        }
        self.table.is_paid(key);
        if !self.table.others_wait(key) {
            if let Some(reading) = &mut self.reading {
                reading.began = position;
            }
            return Ok(false);
        }
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
            let found = match self.records.next() {
                Some(record) => record,
                None if reading.fill(&mut self.records)? => continue,
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
            let decoded = match found.refused(self.config.options.record_bytes) {
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
                    let path = reading.path.display();
                    let reason = format!("{path}, line {}: {reason}", found.line);
                    self.undecodable = Some(Undecodable {
                        at: before,
                        after: self.place(),
                        raw: bytes.to_vec(),
                        length: found.oversize.unwrap_or(bytes.len() as u64),
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
        let values = fetched.messages.values.data_len();
        self.last = (fetched.offsets.len(), keys, values);
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
            length: found.length,
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

    /// The file being read has no more for now, or for good.
    fn end_file(&mut self) -> Result<(), SourceError> {
        match self.reading.take() {
            Some(reading) => self.leave(reading, self.records.read_to()),
            None => Ok(()),
        }
    }

    /// Notes how far a file was read that has no more.
    fn leave(&mut self, reading: Reading, read_to: u64) -> Result<(), SourceError> {
        self.note_beginning(&reading)?;
        let key = reading.key;
        let follow = self.config.options.follow;
        if follow && reading.to_the_end {
            self.table.forget(key);
            self.passed = true;
            return Ok(());
        }
        let position = self.records.position();
        let line = self.records.line();
        if let Some(bytes) = self.records.unfinished_oversize()
            && self.told_of.replace((key, position)) != Some((key, position))
        {
            tracing::warn!(
                "{}, line {line}: it has {bytes} bytes so far, more than `record-bytes` = {}, and no end: what follows it waits for that",
                reading.path.display(),
                self.config.options.record_bytes
            );
        }
        let known = self.table.change(key);
        known.position = position;
        known.line = line;
        if follow {
            let finished = (position == read_to).then_some(read_to);
            let told = self.made.as_ref().is_some_and(|(made, ..)| {
                (made.file, made.position, made.record) == (Some(key), position, self.record)
            });
            self.passed |= !told || known.finished != finished;
            known.exhausted = Some(read_to);
            known.finished = finished;
            self.table.had_its_turn(key);
            return self.table.weigh(key);
        }
        let length = match known.compressed {
            true => reading.length,
            false => {
                let metadata = reading.file.file()?.metadata();
                if metadata.map_err(unreadable(reading.path))?.len() < read_to {
                    return Err(known.shorter());
                }
                read_to
            }
        };
        known.finished = Some(length);
        known.handle.release();
        self.table.weigh(key)
    }

    /// Following: another file's turn has come before the end of this one.
    fn pause_file(&mut self) -> Result<(), SourceError> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        self.note_beginning(&reading)?;
        let (position, line) = (self.records.position(), self.records.line());
        let known = self.table.change(reading.key);
        known.position = position;
        known.line = line;
        known.finished = (known.handle.measure()? == Some(position)).then_some(position);
        self.table.had_its_turn(reading.key);
        self.table.weigh(reading.key)
    }

    /// Remembers as much of the file's beginning as has been read.
    fn note_beginning(&mut self, reading: &Reading) -> Result<(), SourceError> {
        let known = self.table.get_mut(reading.key);
        let read = match known.compressed {
            true => reading.length,
            false => self.records.position(),
        };
        if known.beginning.can_grow(read) {
            let file = reading.file.file()?;
            known.beginning =
                Beginning::of(&file, read).map_err(unreadable(reading.path.clone()))?;
        }
        Ok(())
    }

    /// Following: notes whether the file has nothing more just now. A file that has been read to its end may go.
    fn note_end(&mut self, place: Place) -> Result<(), SourceError> {
        let Some(reading) = self.reading.as_ref().filter(|_| self.member.is_some()) else {
            return Ok(());
        };
        let mut finished = None;
        if place.file == Some(reading.key) && self.records.read_to() == place.position {
            let metadata = reading.file.file()?.metadata();
            let length = metadata.map_err(unreadable(reading.path.clone()))?.len();
            finished = (length == place.position).then_some(length);
        }
        let key = reading.key;
        if self.table.get(key).finished != finished {
            self.table.change(key).finished = finished;
        }
        Ok(())
    }

    fn place(&self) -> Place {
        match &self.reading {
            Some(reading) => Place {
                file: Some(reading.key),
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
    fn detail_at(&mut self, place: Place) -> Result<Detail, SourceError> {
        if let Some(reading) = self.reading.take() {
            let noted = self.note_beginning(&reading);
            self.reading = Some(reading);
            noted?;
        }
        self.note_end(place)?;
        let changes = self.table.changes();
        if let Some((made, at, detail)) = &self.made
            && (*made, *at) == (place, changes)
        {
            return Ok(detail.clone());
        }
        let beginning = place.file.map(|key| self.table.get(key).beginning);
        let (files, file) = self.table.recorded(place.file);
        let cursor = Cursor {
            file,
            position: place.position,
            line: place.line,
            record: place.record,
            division: self.config.division(),
            beginning: beginning.unwrap_or_default(),
        };
        let detail = detail::encode(&cursor, &files);
        self.made = Some((place, changes, detail.clone()));
        self.passed = false;
        Ok(detail)
    }

    /// Nothing is left to read: what was asked for must have been there.
    fn check_next(&self) -> Result<(), SourceError> {
        if self.record < self.next {
            return Err(SourceError::OffsetOutOfRange {
                place: None,
                offset: self.next,
                oldest: 0,
                end: self.record,
            });
        }
        Ok(())
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
        loop {
            if self.turn_is_over()? {
                self.pause_file()?;
            }
            if !self.choose()? {
                break;
            }
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
        match &self.member {
            Some(member) if self.reading.is_none() && self.undecodable.is_none() => {
                Box::pin(member.told())
            }
            _ => Box::pin(std::future::ready(())),
        }
    }

    fn begins_at(&self) -> Option<Position> {
        self.begins_at.clone()
    }

    fn passed(&mut self) -> Result<Option<Position>, SourceError> {
        if !std::mem::take(&mut self.passed) || self.member.is_none() || self.record < self.next {
            return Ok(None);
        }
        Ok(Some(Position {
            next: self.record,
            detail: Some(self.detail_at(self.place())?),
        }))
    }

    fn progress(&self) -> Option<Progress> {
        let (mut done, mut total) = self.table.progress();
        if let Some(reading) = &self.reading {
            let (done_before, total_before) = self.table.counted(reading.key);
            done = done - done_before + reading.done(&self.records);
            let length = reading.file.length().max(reading.done(&self.records));
            total = total - total_before + length;
        }
        Some(Progress {
            done,
            total,
            unit: ProgressUnit::Bytes,
        })
    }
}
