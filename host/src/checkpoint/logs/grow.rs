//! Segments as they are written: appended to, given up, and given back to the file system.
//!
//! A write appends beyond what exists, syncs it, and only then is made; so what a crash leaves behind there was never part of a
//! log, and is written over. A segment is removed, and the room of chunks in it is freed, only after a synced write that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::segments::Segments;
use super::stored::Place;
use crate::checkpoint::BuildError;
use crate::disk::{Create, Disk, DiskError, DurableFile};
use crate::model::{SegmentId, shown};
use crate::records::{self, SegmentRecord};
use crate::state::{Db, StateError, WriteSet};

/// Where one part in so many of a segment has been deleted, its room is freed. Most segments go as a whole soon.
const FREED_AT: u64 = 4;
/// Deleted parts that are remembered; beyond that the room of the oldest is freed.
const PARTS_MAX: usize = 1 << 16;
/// The room of a part is freed in whole blocks.
const BLOCK: u64 = 4 << 10;
/// How long the process waits at its end for room to be freed.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The writing side of the segments.
pub(super) struct Growing {
    files: Arc<Segments>,
    disk: Disk,
    directory: PathBuf,
    /// As committed. The last one is appended to, and stays, so that no number is given twice.
    known: BTreeMap<SegmentId, SegmentRecord>,
    /// The last one, once it was appended to.
    last: Option<(SegmentId, Arc<DurableFile>)>,
    /// Parts that were deleted since the process started and whose room is not freed.
    deleted: BTreeMap<SegmentId, Deleted>,
    /// How many parts these are.
    parts: usize,
    /// Whether the file system frees the room of a part.
    frees: bool,
    /// Segments that are given up.
    gone: Vec<SegmentId>,
    /// Segments of which much is deleted.
    holey: BTreeSet<SegmentId>,
}

/// What was deleted of a segment.
#[derive(Default)]
struct Deleted {
    bytes: u64,
    /// First byte, bytes.
    parts: Vec<(u64, u64)>,
}

/// What a write changes.
#[derive(Default)]
pub(super) struct Changes {
    target: Option<Target>,
    /// `None`: the segment is gone.
    records: BTreeMap<SegmentId, Option<SegmentRecord>>,
    deleted: Vec<Place>,
    /// Bytes that are appended.
    appended: u64,
}

/// The segment that a write appends to.
struct Target {
    id: SegmentId,
    file: Arc<DurableFile>,
}

impl Changes {
    /// Makes durable what is appended.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        match &self.target {
            Some(target) => target.file.sync_data("log.sync"),
            None => Ok(()),
        }
    }

    /// Bytes that are appended.
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }
}

impl Growing {
    pub(super) fn open(
        db: &Db,
        files: Arc<Segments>,
        directory: PathBuf,
        disk: Disk,
    ) -> Result<Growing, StateError> {
        Ok(Growing {
            files,
            disk,
            directory,
            known: records::list(db)?.into_iter().collect(),
            last: None,
            deleted: BTreeMap::new(),
            parts: 0,
            frees: true,
            gone: Vec::new(),
            holey: BTreeSet::new(),
        })
    }

    /// Appends bytes. Returns the segment and where they begin in it.
    pub(super) fn append(
        &self,
        changes: &mut Changes,
        bytes: &[u8],
    ) -> Result<(SegmentId, u64), BuildError> {
        let target = match changes.target.take() {
            Some(target) => target,
            None => self.begin(changes)?,
        };
        let Target { id, file } = changes.target.insert(target);
        let (id, file) = (*id, Arc::clone(file));
        let record = self.record(changes, id);
        let at = record.end;
        if let Err(error) = file.write_at("log.write", bytes, at) {
            // What there was no room for must not take up room.
            let end = self.known.get(&id).map_or(0, |record| record.end);
            let _ = file.truncate("log.cut", end);
            return Err(error.into());
        }
        let len = bytes.len() as u64;
        changes.appended += len;
        let grown = SegmentRecord {
            end: at + len,
            live: record.live + len,
        };
        changes.records.insert(id, Some(grown));
        Ok((id, at))
    }

    /// Chooses the segment to append to, or makes one.
    fn begin(&self, changes: &mut Changes) -> Result<Target, BuildError> {
        let last = self.known.last_key_value();
        if let Some((id, record)) = last
            && record.end < self.disk.sizes().file
            && let Some(file) = self.reopen(*id)?
        {
            if file.metadata()?.len() > record.end {
                file.truncate("log.cut", record.end)?;
            }
            return Ok(Target { id: *id, file });
        }
        let id = last.map_or(SegmentId(1), |(id, _)| id.next());
        if let Some((before, record)) = last {
            // It may have been emptied while it was the last.
            changes.records.entry(*before).or_insert(Some(*record));
        }
        let (folder, path) = (self.files.folder(), self.files.path(id));
        self.disk.before_at("log.create", "make", &path)?;
        self.disk.make_private(folder)?;
        let sync = |folder| self.disk.sync_folder(folder).map_err(BuildError::Sync);
        sync(&self.directory)?;
        // Another attempt of the same write may have made it.
        self.disk.remove_if_there(&path)?;
        let file = Arc::new(self.disk.open(&path, Create::New(0o600))?);
        sync(folder)?;
        changes.records.insert(id, Some(SegmentRecord::default()));
        Ok(Target { id, file })
    }

    /// The last segment, to go on with it. `None`: it was empty, and is gone.
    fn reopen(&self, id: SegmentId) -> Result<Option<Arc<DurableFile>>, DiskError> {
        match &self.last {
            Some((open, file)) if *open == id => return Ok(Some(Arc::clone(file))),
            _ => {}
        }
        match self.disk.open(&self.files.path(id), Create::No) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A chunk is deleted by the write.
    pub(super) fn delete(&self, changes: &mut Changes, place: Place) -> Result<(), StateError> {
        let id = place.segment;
        let record = self.record(changes, id);
        let Some(live) = record.live.checked_sub(place.len.into()) else {
            return Err(StateError::Damaged(format!(
                "segment {id} of the log has more chunks than its record says"
            )));
        };
        changes
            .records
            .insert(id, Some(SegmentRecord { live, ..record }));
        changes.deleted.push(place);
        Ok(())
    }

    /// Adds the records of the segments to the write.
    pub(super) fn write_records(&self, writes: &mut WriteSet<'_>, changes: &mut Changes) {
        let last = changes
            .records
            .keys()
            .chain(self.known.keys())
            .max()
            .copied();
        for (id, change) in &mut changes.records {
            match change {
                Some(record) if record.live > 0 || Some(*id) == last => {
                    records::put(writes, id, record);
                }
                _ => {
                    records::delete::<SegmentRecord>(writes, id);
                    *change = None;
                }
            }
        }
    }

    /// The write is made. `synced`: it survives the loss of power, and what it deletes is needed no more.
    pub(super) fn apply(&mut self, changes: Changes, synced: bool) {
        if let Some(Target { id, file }) = changes.target {
            self.last = Some((id, file));
        }
        let deleted = if synced { changes.deleted } else { Vec::new() };
        for place in &deleted {
            let parts = self.deleted.entry(place.segment).or_default();
            parts.bytes += u64::from(place.len);
            parts.parts.push((place.at, place.len.into()));
            self.parts += 1;
        }
        for (id, record) in changes.records {
            match record {
                Some(record) => _ = self.known.insert(id, record),
                None => {
                    self.known.remove(&id);
                    self.forget(id);
                    self.gone.extend(synced.then_some(id));
                }
            }
        }
        for Place { segment, .. } in deleted {
            let end = self.known.get(&segment).map_or(0, |record| record.end);
            let bytes = self.deleted.get(&segment).map_or(0, |it| it.bytes);
            if bytes > 0 && bytes >= end / FREED_AT {
                self.holey.insert(segment);
            }
        }
    }

    /// Whether there is something to clear away; `all`: also where it is little.
    pub(super) fn has_waste(&self, all: bool) -> bool {
        let is_much = !self.holey.is_empty() || self.parts > PARTS_MAX;
        !self.gone.is_empty() || is_much || all && self.parts > 0
    }

    /// Removes segments that are given up, and frees the room of what was deleted where it is much.
    pub(super) fn clear_away(&mut self) {
        for id in std::mem::take(&mut self.gone) {
            self.remove(id);
        }
        for id in std::mem::take(&mut self.holey) {
            self.free(id);
        }
        while self.parts > PARTS_MAX
            && let Some((oldest, _)) = self.deleted.first_key_value()
        {
            self.free(*oldest);
        }
    }

    /// Frees the room of all that was deleted: the next process does not know what that is.
    pub(super) fn clear_away_all(&mut self) {
        let began = Instant::now();
        while let Some((oldest, _)) = self.deleted.first_key_value()
            && began.elapsed() < CLOSE_MAX
        {
            self.free(*oldest);
        }
    }

    /// Removes files that are no segments: a process was ended before the write that makes them one, or after the write that
    /// gives them up.
    pub(super) fn remove_unknown(&self) -> Result<(), DiskError> {
        let unknown = self.files.found()?;
        let unknown = unknown
            .into_iter()
            .filter(|id| !self.known.contains_key(id));
        unknown.for_each(|id| self.remove(id));
        Ok(())
    }

    fn record(&self, changes: &Changes, id: SegmentId) -> SegmentRecord {
        match changes.records.get(&id) {
            Some(record) => record.unwrap_or_default(),
            None => self.known.get(&id).copied().unwrap_or_default(),
        }
    }

    /// What is not removed now is removed at the next start.
    fn remove(&self, id: SegmentId) {
        let path = self.files.path(id);
        let removed = self.disk.before_at("log.remove", "remove", &path);
        if let Err(error) = removed.and_then(|()| self.disk.remove_if_there(&path)) {
            tracing::warn!("{}; it is not needed", shown::chain(&error));
        }
        self.files.close(id);
    }

    fn forget(&mut self, id: SegmentId) -> Vec<(u64, u64)> {
        self.holey.remove(&id);
        let deleted = self.deleted.remove(&id).unwrap_or_default();
        self.parts -= deleted.parts.len();
        deleted.parts
    }

    /// Frees the room of what was deleted of a segment.
    fn free(&mut self, id: SegmentId) {
        let parts = self.forget(id);
        if self.frees
            && let Err(error) = self.try_to_free(id, parts)
        {
            self.frees = error.source.kind() != io::ErrorKind::Unsupported;
            tracing::warn!(
                "{}; the room of deleted messages is freed when all of the file are deleted",
                shown::chain(&error)
            );
        }
    }

    fn try_to_free(&self, id: SegmentId, mut parts: Vec<(u64, u64)>) -> Result<(), DiskError> {
        let file = self.disk.open(&self.files.path(id), Create::No)?;
        parts.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (at, len) in parts {
            match joined.last_mut() {
                Some((_, end)) if *end == at => *end += len,
                _ => joined.push((at, at + len)),
            }
        }
        for (at, end) in joined {
            let (from, to) = (at.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
            if from < to {
                file.free("log.free", from, to - from)?;
            }
        }
        Ok(())
    }
}
