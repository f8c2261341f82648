//! Segments as they are written: appended to, given up, and given back to the file system.
//!
//! A write appends beyond what exists, syncs it, and only then is made; so what a crash leaves behind there was never part of a
//! log, and is written over. A segment is removed, and the room of chunks in it is freed, only after a synced write that says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::segments::Segments;
use super::stored::Place;
use crate::disk::{Create, Disk, DiskError, DurableFile};
use crate::model::{SegmentId, shown};
use crate::records::{self, SegmentRecord};
use crate::state::{Db, StateError, WriteSet};

/// Where one part in so many of a segment has been deleted, its room is freed. Most segments go as a whole soon.
const FREED_AT: u64 = 4;

/// The writing side of the segments.
pub(super) struct Growing {
    files: Arc<Segments>,
    disk: Disk,
    directory: PathBuf,
    /// As committed. The last one is appended to, and stays, so that no number is given twice.
    known: BTreeMap<SegmentId, SegmentRecord>,
    /// The last one, once it was appended to.
    last: Option<(SegmentId, Arc<DurableFile>)>,
    /// Parts that were deleted since the process started and whose room is not freed: first byte, bytes.
    deleted: BTreeMap<SegmentId, Vec<(u64, u64)>>,
}

/// What a write changes.
#[derive(Default)]
pub(super) struct Changes {
    target: Option<Target>,
    /// `None`: the segment is gone.
    records: BTreeMap<SegmentId, Option<SegmentRecord>>,
    deleted: Vec<Place>,
}

/// The segment that a write appends to.
struct Target {
    id: SegmentId,
    file: Arc<DurableFile>,
}

impl Changes {
    /// Whether something was appended.
    pub(super) fn has_appended(&self) -> bool {
        self.target.is_some()
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
        })
    }

    /// Appends bytes. Returns the segment and where they begin in it.
    pub(super) fn append(
        &self,
        changes: &mut Changes,
        bytes: &[u8],
    ) -> Result<(SegmentId, u64), DiskError> {
        let target = match changes.target.take() {
            Some(target) => target,
            None => self.begin(changes)?,
        };
        let Target { id, file } = changes.target.insert(target);
        let (id, file) = (*id, Arc::clone(file));
        let record = self.record(changes, id);
        let at = record.end;
        file.write_at("log.write", bytes, at)?;
        let len = bytes.len() as u64;
        let grown = SegmentRecord {
            end: at + len,
            live: record.live + len,
        };
        changes.records.insert(id, Some(grown));
        Ok((id, at))
    }

    /// Chooses the segment to append to, or makes one. Another attempt of the same write may have made it.
    fn begin(&self, changes: &mut Changes) -> Result<Target, DiskError> {
        let last = self.known.last_key_value();
        if let Some((id, record)) = last
            && record.end < self.disk.sizes().file
        {
            let file = match &self.last {
                Some((open, file)) if open == id => Arc::clone(file),
                _ => Arc::new(self.disk.open(&self.files.path(*id), Create::No)?),
            };
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
        self.disk.sync_folder(&self.directory)?;
        self.disk.remove_if_there(&path)?;
        let file = Arc::new(self.disk.open(&path, Create::New(0o600))?);
        self.disk.sync_folder(folder)?;
        changes.records.insert(id, Some(SegmentRecord::default()));
        Ok(Target { id, file })
    }

    /// A chunk is deleted by the write.
    pub(super) fn delete(&self, changes: &mut Changes, place: Place) {
        let mut record = self.record(changes, place.segment);
        record.live = record.live.saturating_sub(place.len.into());
        changes.records.insert(place.segment, Some(record));
        changes.deleted.push(place);
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

    /// Makes durable what was appended.
    pub(super) fn sync(&self, changes: &Changes) -> Result<(), DiskError> {
        match &changes.target {
            Some(target) => target.file.sync_data("log.sync"),
            None => Ok(()),
        }
    }

    /// The write is made. `synced`: it survives the loss of power, and what it deletes is needed no more.
    pub(super) fn apply(&mut self, changes: Changes, synced: bool) {
        let is_empty = changes.records.is_empty();
        if let Some(Target { id, file }) = changes.target {
            self.last = Some((id, file));
        }
        if synced {
            for place in changes.deleted {
                let deleted = self.deleted.entry(place.segment).or_default();
                deleted.push((place.at, place.len.into()));
            }
        }
        for (id, record) in changes.records {
            match record {
                Some(record) => _ = self.known.insert(id, record),
                None => {
                    self.known.remove(&id);
                    self.deleted.remove(&id);
                    if synced {
                        self.remove(id);
                    }
                }
            }
        }
        if synced && !is_empty {
            self.free_deleted(Some(FREED_AT));
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
        self.files.close(id);
        let removed = self.disk.before_at("log.remove", "remove", &path);
        if let Err(error) = removed.and_then(|()| self.disk.remove_if_there(&path)) {
            tracing::warn!("{}; it is not needed", shown::chain(&error));
        }
    }

    /// Frees the room of what was deleted, where it is at least one part in so many of a segment; `None`: everywhere.
    fn free_deleted(&mut self, part: Option<u64>) {
        let is_much = |(id, parts): (&SegmentId, &Vec<(u64, u64)>)| {
            let bytes: u64 = parts.iter().map(|(_, len)| len).sum();
            let end = self.known.get(id).map_or(0, |record| record.end);
            part.is_none_or(|part| bytes >= end / part).then_some(*id)
        };
        let much: Vec<SegmentId> = self.deleted.iter().filter_map(is_much).collect();
        for id in much {
            let parts = self.deleted.remove(&id).unwrap_or_default();
            if let Err(error) = self.free(id, parts) {
                // A file system without such a call frees it with the whole segment.
                tracing::debug!("{}", shown::chain(&error));
            }
        }
    }

    fn free(&self, id: SegmentId, mut parts: Vec<(u64, u64)>) -> Result<(), DiskError> {
        let file = self.disk.open(&self.files.path(id), Create::No)?;
        parts.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (at, len) in parts {
            match joined.last_mut() {
                Some((from, bytes)) if *from + *bytes == at => *bytes += len,
                _ => joined.push((at, len)),
            }
        }
        joined
            .into_iter()
            .try_for_each(|(at, len)| file.free("log.free", at, len))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // The next process does not know what this one has deleted.
        self.free_deleted(None);
    }
}
