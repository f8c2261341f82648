//! The ordered durable steps of a checkpoint. Runs on the commit's own thread, beside the next epoch.
//!
//! 1. [`Committer::prepare`]: check that the directory is still ours; read what range deletes will remove; build the one
//!    write. May fail and be tried again.
//! 2. [`Committer::commit`]: the synced write. *Decision point.* Then the witness; then readers of logs and the caches see
//!    the epoch.
//! 3. [`Committer::deliver`]: outboxes, each in order.
//!
//! A crash before the write: the epoch does not exist. Between write and witness: the next start finds the witness exactly
//! one behind and writes it first. After the witness, before or within delivery: the outbox is in the write, and the
//! sink goes back to its recorded state before it is delivered again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::Catalog;
use super::directory::{Directory, boot_id};
use super::lock::Lock;
use super::logs::{Appended, LogAppender, LogStream, Logs};
use super::outbox::{self, Outbox, Outgoing};
use super::witness::Witness;
use super::{CommitError, OpenError};
use crate::connectors::Output;
use crate::connectors::log::LogReader;
use crate::disk::Disk;
use crate::epoch::SealedEpoch;
use crate::model::{
    CommitKey, Epoch, Messages, Nonce, Offset, PartitionId, Staged, Stamp, StreamId, TaskId,
    TimestampMs, shown,
};
use crate::records::{self, CheckpointRecord, Encoded, TaskRecord, Unwitnessed};
use crate::state::{
    Db, DbError, Durability, Family, LISTED_KEYS_MAX, ResolvedRanges, StateError, WriteSet,
};

/// How many checkpoints are remembered.
const HISTORY: u64 = 100;

/// A stream outside of the database that the job writes.
pub struct ExternalStream {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// The system's side.
    pub output: Arc<dyn Output>,
}

/// Proof that an epoch is durable: the right to show it.
#[must_use]
pub struct Committed {
    /// The epoch.
    pub epoch: Epoch,
    /// What it was.
    pub record: CheckpointRecord,
    /// The tasks in it and the stamps they have now.
    pub stamps: Vec<(TaskId, Stamp)>,
    outgoing: Vec<Outgoing>,
}

/// A checkpoint that only needs to be written.
pub struct Prepared<'a> {
    writes: WriteSet<'a>,
    commit: CommitKey,
    appended: Appended,
    outgoing: Vec<Outgoing>,
    removed: Vec<ResolvedRanges>,
    stamps: Vec<(TaskId, Stamp)>,
    record: CheckpointRecord,
    readers: Vec<(TaskId, StreamId, Offset)>,
}

/// For each partition of a stream the tasks that read it, each with the offset up to which it has done so.
type Readers = BTreeMap<(StreamId, PartitionId), BTreeMap<TaskId, Offset>>;

/// From where on a task of the job has not read a partition; `None`: no task reads it.
fn unread_from(readers: &Readers, stream: StreamId, partition: PartitionId) -> Option<Offset> {
    readers.get(&(stream, partition))?.values().min().copied()
}

/// Writes checkpoints. There is one, and it is the only writer of the database.
pub struct Committer {
    db: Arc<Db>,
    lock: Lock,
    directory: std::path::PathBuf,
    witness: Witness,
    commit: CommitKey,
    appender: LogAppender,
    outboxes: Vec<Outbox>,
    stamps: BTreeMap<TaskId, Stamp>,
    /// Where the job's tasks stand in what they read.
    readers: Readers,
    /// What a commit survives.
    durability: Durability,
    disk: Disk,
    /// Whether the database says that commits are not synced.
    unwitnessed: bool,
    /// Records that become true with the next checkpoint.
    with_checkpoint: Vec<Encoded>,
}

impl Committer {
    /// Takes over an opened directory. Sinks recover here, and what the last checkpoints left undelivered is delivered.
    ///
    /// # Errors
    /// State cannot be read, or an output is not what was recorded.
    pub fn open(
        directory: Directory,
        logs: &[LogStream],
        external: &[ExternalStream],
        reads: &[(TaskId, StreamId)],
        durability: Durability,
        disk: Disk,
    ) -> Result<Committer, OpenError> {
        let path = directory.path.clone();
        let state = |source| OpenError::State {
            path: path.clone(),
            source,
        };
        let db = directory.db;
        let appender = LogAppender::open(&db, logs).map_err(state)?;
        let outboxes = outbox::open_all(&db, &path, external)?;
        let unwitnessed: Option<Unwitnessed> = records::get(&db, &()).map_err(state)?;
        let mut committer = Committer {
            stamps: BTreeMap::new(),
            readers: BTreeMap::new(),
            lock: directory.lock,
            directory: directory.path,
            witness: directory.witness,
            commit: directory.commit,
            unwitnessed: unwitnessed.is_some(),
            with_checkpoint: Vec::new(),
            appender,
            outboxes,
            durability,
            disk,
            db,
        };
        // What was never read is unread from its beginning on. Records of tasks that are no longer declared say nothing.
        for (task, stream) in reads {
            let tasks = committer.readers.entry((*stream, task.partition));
            tasks.or_default().insert(*task, 0);
        }
        for (task, record) in records::list::<TaskRecord>(&committer.db).map_err(state)? {
            committer.stamps.insert(task, record.stamp);
            let positions = record.positions.iter();
            committer.note_positions(positions.map(|(stream, at)| (task, *stream, at.next)));
        }
        committer.begin().map_err(|error| OpenError::Begin {
            path: committer.directory.clone(),
            source: Box::new(error),
        })?;
        Ok(committer)
    }

    /// What must be on the disk before the first write of this process can be relied on.
    ///
    /// Unsynced writes leave the witness behind by any number, so while there may be some, the database carries a mark that
    /// says so. It is synced before the first of them; and on the way back the witness is brought up to date, under the
    /// mark, before the write that removes the mark.
    fn begin(&mut self) -> Result<(), CommitError> {
        if self.durability == Durability::Sync && !self.unwitnessed {
            return Ok(());
        }
        let db = Arc::clone(&self.db);
        let mut writes = db.write_set();
        let commit = self.next_commit(self.commit.epoch);
        records::put(&mut writes, &(), &commit);
        if self.durability == Durability::Process {
            let mark = Unwitnessed {
                boot_id: boot_id().unwrap_or_default(),
                synced: self.commit.epoch,
            };
            records::put(&mut writes, &(), &mark);
        }
        self.before_write("begin.write")?;
        writes
            .commit(Durability::Sync)
            .map_err(CommitError::Write)?;
        self.commit = commit;
        self.witness
            .write(&self.commit, Durability::Sync)
            .map_err(CommitError::Witness)?;
        self.unwitnessed |= self.durability == Durability::Process;
        Ok(())
    }

    /// Announces a step of a write to the database.
    fn before_write(&self, step: &'static str) -> Result<(), CommitError> {
        let refused = |source| CommitError::Write(DbError::Disk(source));
        self.disk.before(step).map_err(refused)
    }

    fn next_commit(&self, epoch: Epoch) -> CommitKey {
        CommitKey {
            seq: self.commit.seq.next(),
            epoch,
            nonce: Nonce(rand::random()),
            prev_nonce: self.commit.nonce,
        }
    }

    /// Remembers how far the job has read what it reads.
    fn note_positions(&mut self, positions: impl IntoIterator<Item = (TaskId, StreamId, Offset)>) {
        for (task, stream, next) in positions {
            let readers = self.readers.get_mut(&(stream, task.partition));
            if let Some(position) = readers.and_then(|readers| readers.get_mut(&task)) {
                *position = next;
            }
        }
    }

    /// The published part of the logs.
    pub fn logs(&self) -> Arc<Logs> {
        self.appender.logs()
    }

    /// Whether RocksDB has failed in the background. It takes no more writes then, and a job that writes seldom should not
    /// learn it late.
    ///
    /// # Errors
    /// What the next write would meet.
    pub fn check_background(&self) -> Result<(), CommitError> {
        match self.db.property(Family::State, "rocksdb.background-errors") {
            None | Some(0) => Ok(()),
            Some(_) => self
                .db
                .write_set()
                .commit(Durability::Process)
                .map_err(CommitError::Write),
        }
    }

    /// The lock on the directory, to say who holds it.
    pub fn lock_mut(&mut self) -> &mut Lock {
        &mut self.lock
    }

    /// The last committed epoch.
    pub fn epoch(&self) -> Epoch {
        self.commit.epoch
    }

    /// Whether a delivery is not yet recorded: a drain or the end of input ends with one more checkpoint.
    pub fn has_unrecorded_delivery(&self) -> bool {
        self.outboxes.iter().any(Outbox::has_delivered)
    }

    /// Builds the one write of an epoch. Changes nothing.
    ///
    /// # Errors
    /// It can be tried again, except where the directory is gone.
    pub fn prepare(
        &self,
        sealed: &SealedEpoch,
        failed_attempts: u32,
    ) -> Result<Prepared<'_>, CommitError> {
        if !self.lock.is_ours() {
            return Err(CommitError::DirectoryGone(self.directory.clone()));
        }
        let not_prepared = |error: StateError| CommitError::NotPrepared {
            epoch: sealed.epoch,
            why: shown::chain(&error),
        };
        let commit = self.next_commit(sealed.epoch);
        assert!(
            commit.epoch > self.commit.epoch,
            "an epoch is committed twice"
        );
        let mut writes = self.db.write_set();
        let mut appended = Appended::default();
        let (mut removed, mut listed) = (Vec::new(), LISTED_KEYS_MAX);
        let mut stamps = Vec::new();
        let mut readers = Vec::new();
        let mut sent: BTreeMap<(StreamId, PartitionId), Messages> = BTreeMap::new();
        let (mut entries, mut messages, mut pause) = (0, 0, Duration::ZERO);
        for task in &sealed.tasks {
            if let Some(state) = &task.state {
                let ranges = state.resolve_ranges(&mut listed).map_err(not_prepared)?;
                state
                    .write_into(&mut writes, &ranges)
                    .map_err(not_prepared)?;
                removed.push(ranges);
                entries += state.size().0 as u64;
            }
            let before = self.stamps.get(&task.task).copied().unwrap_or_default();
            let stamp = Stamp {
                task_epoch: before.task_epoch + 1,
                container_epoch: sealed.epoch,
                nonce: commit.nonce,
            };
            stamps.push((task.task, stamp));
            let record = TaskRecord {
                stamp,
                ..task.record.clone()
            };
            for (stream, position) in &record.positions {
                readers.push((task.task, *stream, position.next));
            }
            records::put(&mut writes, &task.task, &record);
            messages += task.staged.len() as u64;
            sort_out(&task.staged, &task.ports, &mut sent);
            pause = pause.max(task.pause);
        }
        let mut outgoing = Vec::new();
        for (index, outbox) in self.outboxes.iter().enumerate() {
            let messages = sent.remove(&outbox.place());
            if messages.is_some() || outbox.is_unrecorded() {
                outgoing.push(outbox.stage(index, &mut writes, messages.as_ref()));
            }
        }
        for (at, messages) in sent {
            self.appender
                .append(&mut writes, &mut appended, at, &messages, sealed.time);
        }
        let unread = |stream, partition| unread_from(&self.readers, stream, partition);
        self.appender
            .retain(&mut writes, &mut appended, &unread, sealed.time)
            .map_err(not_prepared)?;
        self.appender.write_records(&mut writes, &appended);
        let record = CheckpointRecord {
            epoch: sealed.epoch,
            trigger: sealed.trigger.to_owned(),
            time: sealed.time,
            duration_us: micros(sealed.began.elapsed()),
            pause_us: micros(pause),
            tasks: sealed.tasks.len() as u64,
            entries,
            messages,
            bytes: writes.bytes() as u64,
            failed_attempts,
        };
        records::put(&mut writes, &sealed.epoch, &record);
        for record in &self.with_checkpoint {
            record.write_into(&mut writes);
        }
        if let Some(old) = sealed.epoch.0.checked_sub(HISTORY) {
            records::delete::<CheckpointRecord>(&mut writes, &Epoch(old));
        }
        self.finish(&mut writes, &commit);
        Ok(Prepared {
            writes,
            commit,
            appended,
            outgoing,
            removed,
            stamps,
            record,
            readers,
        })
    }

    /// Adds the commit key, and removes the mark of unsynced writes where this one is synced.
    fn finish(&self, writes: &mut WriteSet<'_>, commit: &CommitKey) {
        records::put(writes, &(), commit);
        if self.unwitnessed && self.durability == Durability::Sync {
            records::delete::<Unwitnessed>(writes, &());
        }
    }

    /// The decision point, and what follows from it at once.
    fn write(&mut self, writes: Written) -> Result<(), CommitError> {
        self.before_write("commit.witness")?;
        self.commit = writes.commit;
        self.unwitnessed = self.durability == Durability::Process;
        self.witness
            .write(&self.commit, self.durability)
            .map_err(CommitError::Witness)?;
        self.before_write("commit.publish")?;
        self.appender.publish(writes.appended);
        Ok(())
    }

    /// Makes a prepared epoch durable and shows it to readers inside of the process.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn commit(
        &mut self,
        sealed: &mut SealedEpoch,
        failed_attempts: u32,
    ) -> Result<Committed, CommitError> {
        let prepared = self.prepare(sealed, failed_attempts)?;
        // What was sent is in the write now, and there is no other attempt after it.
        for task in &mut sealed.tasks {
            task.staged = Staged::default();
        }
        self.before_write("commit.write")?;
        prepared
            .writes
            .commit(self.durability)
            .map_err(CommitError::Write)?;
        let (removed, stamps, readers) = (prepared.removed, prepared.stamps, prepared.readers);
        let (mut record, outgoing) = (prepared.record, prepared.outgoing);
        let written = Written {
            commit: prepared.commit,
            appended: prepared.appended,
        };
        self.write(written)?;
        self.stamps.extend(stamps.iter().copied());
        self.note_positions(readers);
        // The record is part of the write, so what the write itself took is known to the next checkpoint only.
        record.duration_us = micros(sealed.began.elapsed());
        self.with_checkpoint = vec![Encoded::new(&sealed.epoch, &record)];
        let states = sealed.tasks.iter().filter_map(|task| task.state.as_ref());
        for (state, removed) in states.zip(&removed) {
            state.refresh_caches(removed)?;
        }
        Ok(Committed {
            epoch: sealed.epoch,
            record,
            stamps,
            outgoing,
        })
    }

    /// Delivers an epoch's output to the places outside of the database.
    ///
    /// # Errors
    /// How much was delivered is unknown: the process must end.
    pub fn deliver(&mut self, committed: &mut Committed) -> Result<(), CommitError> {
        let outgoing = std::mem::take(&mut committed.outgoing);
        outbox::deliver_all(&mut self.outboxes, outgoing, &self.disk)
    }

    /// Appends messages to a log stream on behalf of somebody outside: durable when it returns, all or nothing. Returns the
    /// offset of the first message in each partition.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn append(
        &mut self,
        stream: StreamId,
        partitions: &BTreeMap<PartitionId, Messages>,
        now: TimestampMs,
    ) -> Result<BTreeMap<PartitionId, Offset>, CommitError> {
        let ends = partitions
            .keys()
            .map(|partition| {
                (
                    *partition,
                    self.appender.logs().bounds(stream, *partition).1,
                )
            })
            .collect();
        self.write_alone(|committer, writes, appended| {
            for (partition, messages) in partitions {
                committer
                    .appender
                    .append(writes, appended, (stream, *partition), messages, now);
            }
            Ok(())
        })?;
        Ok(ends)
    }

    /// Writes down what is new in the catalog and where tasks begin to read, and deletes what was dropped. `begins`: the records
    /// of tasks of which something is new.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn register(
        &mut self,
        catalog: &Catalog,
        begins: &[(TaskId, TaskRecord)],
    ) -> Result<(), CommitError> {
        self.with_checkpoint = catalog.with_checkpoint().to_vec();
        if !catalog.has_changes() && begins.is_empty() {
            return Ok(());
        }
        self.write_alone(|_, writes, _| {
            catalog.write_into(writes);
            for (task, record) in begins {
                records::put(writes, task, record);
            }
            Ok(())
        })?;
        for (task, record) in begins {
            let positions = record.positions.iter();
            self.note_positions(positions.map(|(stream, at)| (*task, *stream, at.next)));
        }
        Ok(())
    }

    /// Lets logs go of what retention does not keep. Writes nothing where there is nothing to remove.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn retain(&mut self, now: TimestampMs) -> Result<(), CommitError> {
        self.write_alone(|committer, writes, appended| {
            let unread = |stream, partition| unread_from(&committer.readers, stream, partition);
            committer.appender.retain(writes, appended, &unread, now)
        })
    }

    /// A synced write that is no epoch.
    fn write_alone(
        &mut self,
        fill: impl FnOnce(&Committer, &mut WriteSet<'_>, &mut Appended) -> Result<(), StateError>,
    ) -> Result<(), CommitError> {
        let db = Arc::clone(&self.db);
        let mut writes = db.write_set();
        let mut appended = Appended::default();
        fill(self, &mut writes, &mut appended)?;
        if writes.is_empty() {
            return Ok(());
        }
        if !self.lock.is_ours() {
            return Err(CommitError::DirectoryGone(self.directory.clone()));
        }
        self.appender.write_records(&mut writes, &appended);
        let commit = self.next_commit(self.commit.epoch);
        self.finish(&mut writes, &commit);
        self.before_write("append.write")?;
        writes.commit(self.durability).map_err(CommitError::Write)?;
        self.write(Written { commit, appended })
    }
}

/// What became true with a synced write.
struct Written {
    commit: CommitKey,
    appended: Appended,
}

/// Gives each message to its partition, in the order in which the task sent them.
fn sort_out(
    staged: &Staged,
    ports: &[StreamId],
    into: &mut BTreeMap<(StreamId, PartitionId), Messages>,
) {
    let mut from = 0;
    while from < staged.len() {
        let (port, partition) = staged.routes[from];
        let same = |route: &&_| **route == (port, partition);
        let to = from + staged.routes[from..].iter().take_while(same).count();
        into.entry((ports[port.index()], partition))
            .or_default()
            .extend_from(&staged.messages, from..to);
        from = to;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
