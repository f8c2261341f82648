//! The commit protocol: the only place that moves an epoch from one stage to the next. Runs on the commit's own thread
//! while tasks process the next epoch.
//!
//! [`CommitStage`] names the stages, [`EpochWrite`] is the one write, the [`Ledger`] makes it and proves it, and what may
//! be shown is shown to the holder of that proof alone.
//!
//! A crash before the decision: the epoch does not exist. Between the write and its witness: the next start finds the witness
//! exactly one behind and writes it first. After that, before or within delivery: the outbox is in the write, and the sink goes
//! back to its recorded state before it is delivered again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::authority::{Authority, Deciding, Local};
use super::catalog::Catalog;
use super::directory::{Directory, Lock, Opened};
use super::epoch_write::{self, Consequences, EpochWrite, Parts, micros};
use super::hold::{Holds, kept_positions};
use super::ledger::{Ledger, Unconfirmed, Written};
use super::logs::{Appended, LogAppender, LogStream, Logs, Part};
use super::mirrors::Mirrors;
use super::outputs::{ExternalStream, Outgoing, Outputs};
use super::read_up_to::ReadUpTo;
use super::stage::{CommitStage, Progress};
use super::{BuildError, CommitError, OpenError};
use crate::connectors::Input;
use crate::connectors::log::LogReader as _;
use crate::disk::Disk;
use crate::epoch::SealedEpoch;
use crate::model::{
    CommitKey, Epoch, Messages, Offset, PartitionId, Staged, Stamp, StreamId, TaskId, TimestampMs,
    shown,
};
use crate::records::{self, CheckpointRecord, Encoded, TaskRecord, Unwitnessed};
use crate::state::{Db, Durability, Family, StateError, WriteSet};

/// A task that begins to read streams at a position that must be recorded, because another start would choose a later one.
pub struct Beginning {
    /// The task.
    pub task: TaskId,
    /// Its record, with these positions.
    pub record: TaskRecord,
    /// The streams that begin.
    pub began: Vec<StreamId>,
}

/// What a committer commits.
pub struct CommitterOptions {
    /// The log streams.
    pub logs: Vec<LogStream>,
    /// The other streams that the job writes.
    pub external: Vec<ExternalStream>,
    /// Inputs whose positions are noted outside of the job, too.
    pub mirrored: Vec<(StreamId, Arc<dyn Input>)>,
    /// Which task reads which stream.
    pub reads: Vec<(TaskId, StreamId)>,
    /// What a commit survives.
    pub durability: Durability,
    /// The disk that the directory is on.
    pub disk: Disk,
}

/// An epoch that is durable and shown. Its output is still to be delivered.
#[must_use]
pub struct Committed {
    /// The epoch.
    pub epoch: Epoch,
    /// What it was.
    pub record: CheckpointRecord,
    /// The tasks in it and the stamps they have now.
    pub stamps: Vec<(TaskId, Stamp)>,
    outgoing: Vec<Outgoing>,
    written: Written,
}

/// An epoch on its way: each variant holds what the stage before it has made.
enum Way<'a> {
    Prepare {
        sealed: &'a mut SealedEpoch,
        failed_attempts: u32,
    },
    Decide(&'a mut SealedEpoch, EpochWrite<'a>),
    Write(&'a mut SealedEpoch, EpochWrite<'a>),
    Confirm(&'a mut SealedEpoch, Unconfirmed, Consequences),
    Publish(&'a mut SealedEpoch, Written, Consequences),
    Deliver(Committed),
    Delivered,
}

/// Writes checkpoints. There is one, and it is the only writer of the database.
pub struct Committer {
    pub(super) db: Arc<Db>,
    ledger: Ledger,
    pub(super) appender: LogAppender,
    pub(super) outputs: Outputs,
    pub(super) stamps: BTreeMap<TaskId, Stamp>,
    pub(super) read_up_to: ReadUpTo,
    pub(super) holds: Holds,
    /// Records that become true with the next checkpoint.
    with_checkpoint: Vec<Encoded>,
    /// Stages with another component than at the last checkpoint of its work.
    components: Vec<Encoded>,
    progress: Progress,
    pub(super) mirrors: Mirrors,
}

impl Committer {
    /// Takes over an opened directory, whose database decides. Sinks recover here, and what the last checkpoints left undelivered
    /// is delivered.
    ///
    /// # Errors
    /// State cannot be read, or an output is not what was recorded.
    pub fn open(directory: Directory, options: &CommitterOptions) -> Result<Committer, OpenError> {
        let (path, db) = (directory.path.clone(), Arc::clone(&directory.db));
        let (opened, witness) = directory.split();
        let mark: Option<Unwitnessed> =
            records::get(&db, &()).map_err(|source| cannot_read(&path, source))?;
        let local = Local::new(witness, options.durability, mark.is_some());
        Committer::open_with(opened, options, Box::new(local))
    }

    /// The same, with another authority.
    ///
    /// # Errors
    /// Also if authority and database do not belong together.
    pub fn open_with(
        opened: Opened,
        options: &CommitterOptions,
        mut authority: Box<dyn Authority>,
    ) -> Result<Committer, OpenError> {
        let Opened {
            path,
            db,
            state_id,
            lock,
            last,
        } = opened;
        let state = |source| cannot_read(&path, source);
        let last = authority.catch_up(&db, last)?;
        let durability = authority.durability();
        let disk = options.disk.clone();
        let appender = LogAppender::open(&db, &path, &options.logs, durability, disk.clone());
        let appender = appender.map_err(state)?;
        let external = (options.external.as_slice(), state_id);
        let outputs = Outputs::open(&db, &path, external, options.disk.clone())?;
        let (mut stamps, mut read_up_to) = (BTreeMap::new(), ReadUpTo::default());
        for (task, stream) in &options.reads {
            read_up_to.add_reader(*task, *stream);
        }
        let holds = Holds::open(&db).map_err(state)?;
        for (task, stream, next) in kept_positions(&db, &holds).map_err(state)? {
            read_up_to.note(task, stream, next);
        }
        holds.stages().for_each(|stage| read_up_to.freeze(stage));
        for (task, record) in records::list::<TaskRecord>(&db).map_err(state)? {
            stamps.insert(task, record.stamp);
            for (stream, at) in &record.positions {
                read_up_to.note(task, *stream, at.next);
            }
        }
        let mut ledger = Ledger::new(Arc::clone(&db), lock, path.clone(), authority, last, disk);
        ledger.begin().map_err(|error| OpenError::Begin {
            path,
            source: Box::new(error),
        })?;
        appender.clean_up()?;
        Ok(Committer {
            db,
            ledger,
            appender,
            outputs,
            stamps,
            read_up_to,
            holds,
            with_checkpoint: Vec::new(),
            components: Vec::new(),
            progress: Progress::default(),
            mirrors: Mirrors::new(state_id, &options.mirrored),
        })
    }

    /// The published part of the logs.
    pub fn logs(&self) -> Arc<Logs> {
        self.appender.logs()
    }

    /// Once this is set, what cannot be delivered now is left for the next start.
    pub fn heed(&mut self, hurry: &Arc<AtomicBool>) {
        self.outputs.heed(hurry);
    }

    /// Where the epoch is that is being committed.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Looks at what RocksDB has done in the background since the last write. If it has failed it takes no more writes, and a job
    /// that writes seldom should not learn it late; flushes and compactions are witnessed.
    ///
    /// # Errors
    /// What the next write would meet, or the witness cannot be written.
    pub fn check_background(&mut self) -> Result<(), CommitError> {
        self.mirrors.settle(self.ledger.last().epoch);
        match self.db.property(Family::State, "rocksdb.background-errors") {
            None | Some(0) => self.ledger.renew(),
            Some(_) => self
                .db
                .write_set()
                .commit(Durability::Process)
                .map_err(CommitError::Write),
        }
    }

    /// The lock on the directory, to say who holds it.
    pub fn lock_mut(&mut self) -> &mut Lock {
        self.ledger.lock_mut()
    }

    /// The last committed epoch.
    pub fn epoch(&self) -> Epoch {
        self.ledger.last().epoch
    }

    /// Whether a delivery is not yet recorded: a drain or the end of input ends with one more checkpoint.
    pub fn has_unrecorded_delivery(&self) -> bool {
        self.outputs.have_delivered()
    }

    /// Makes an epoch durable and shows it to readers inside of the process.
    ///
    /// # Errors
    /// [`CommitError::NotPrepared`]: nothing happened, and it can be tried again. After any other error what happened is
    /// unknown, and the process must end.
    pub fn commit(
        &mut self,
        sealed: &mut SealedEpoch,
        failed_attempts: u32,
    ) -> Result<Committed, CommitError> {
        let db = Arc::clone(&self.db);
        let mut way = Way::Prepare {
            sealed,
            failed_attempts,
        };
        loop {
            way = match way {
                Way::Deliver(committed) => return Ok(committed),
                way => self.advance(&db, way)?,
            };
        }
    }

    /// Delivers an epoch's output to the places outside of the database.
    ///
    /// # Errors
    /// How much was delivered is unknown: the process must end.
    pub fn deliver(&mut self, committed: Committed) -> Result<(), CommitError> {
        let db = Arc::clone(&self.db);
        match self.advance(&db, Way::Deliver(committed))? {
            Way::Delivered => Ok(()),
            _ => unreachable!("delivery is the last stage"),
        }
    }

    /// The job writes other streams from now on, whose records come with the next epoch.
    ///
    /// # Errors
    /// They cannot be opened: the process must end.
    pub fn declare(
        &mut self,
        logs: &[LogStream],
        external: &[ExternalStream],
    ) -> Result<(), CommitError> {
        let (db, path) = (Arc::clone(&self.db), self.ledger.path().to_owned());
        for stream in logs {
            self.appender.add(&db, stream)?;
        }
        let opened = self.outputs.add(&db, &path, external);
        let names: Vec<&str> = external.iter().map(|stream| &*stream.name).collect();
        opened.map_err(|source| CommitError::Declare {
            stream: names.join(", "),
            source: Box::new(source),
        })
    }

    /// Moves an epoch by one stage.
    fn advance<'a>(&mut self, db: &'a Db, way: Way<'a>) -> Result<Way<'a>, CommitError> {
        match way {
            Way::Prepare {
                sealed,
                failed_attempts,
            } => {
                self.progress.enter(sealed.epoch, CommitStage::Prepare);
                let write = self.prepare(db, sealed, failed_attempts)?;
                Ok(Way::Decide(sealed, write))
            }
            Way::Decide(sealed, write) => {
                self.progress.enter(sealed.epoch, CommitStage::Decide);
                self.ledger.decide(&Deciding {
                    key: &write.then.key,
                    sealed,
                    carried: &write.carried,
                    stamps: &write.then.stamps,
                })?;
                Ok(Way::Write(sealed, write))
            }
            Way::Write(sealed, EpochWrite { writes, then, .. }) => {
                self.progress.enter(sealed.epoch, CommitStage::Write);
                // The write holds what was sent, and this attempt is the last.
                for task in &mut sealed.tasks {
                    task.staged = Staged::default();
                }
                match sealed.migrated.is_empty() {
                    true => self.ledger.before("commit.write")?,
                    false => self.ledger.before("migrate.last")?,
                }
                let unconfirmed = self.ledger.write(writes, then.key)?;
                Ok(Way::Confirm(sealed, unconfirmed, then))
            }
            Way::Confirm(sealed, unconfirmed, then) => {
                self.progress.enter(sealed.epoch, CommitStage::Confirm);
                let written = self.ledger.confirm(unconfirmed)?;
                Ok(Way::Publish(sealed, written, then))
            }
            Way::Publish(sealed, written, then) => {
                self.progress.enter(sealed.epoch, CommitStage::Publish);
                let committed = self.publish(sealed, written, then)?;
                Ok(Way::Deliver(committed))
            }
            Way::Deliver(committed) => {
                self.progress.enter(committed.epoch, CommitStage::Deliver);
                self.clear_away(false);
                self.outputs
                    .deliver(committed.outgoing, &committed.written)?;
                self.progress.end();
                Ok(Way::Delivered)
            }
            Way::Delivered => unreachable!("nothing comes after delivery"),
        }
    }

    fn prepare<'a>(
        &self,
        db: &'a Db,
        sealed: &SealedEpoch,
        failed_attempts: u32,
    ) -> Result<EpochWrite<'a>, CommitError> {
        self.ledger.check_directory()?;
        let key = self.ledger.next(sealed.epoch);
        assert!(
            key.epoch > self.ledger.last().epoch,
            "an epoch is committed twice"
        );
        let parts = Parts {
            appender: &self.appender,
            outputs: &self.outputs,
            stamps: &self.stamps,
            read_up_to: &self.read_up_to,
            holds: &self.holds,
            write_ahead: &|writes| self.ledger.write_ahead(writes),
            with_checkpoint: &self.with_checkpoint,
            components: &self.components,
            carries: &|stream| self.ledger.carries(stream),
            failed_attempts,
        };
        let write = epoch_write::build(db, &parts, sealed, key);
        write.map_err(|error| {
            let (epoch, why) = (sealed.epoch, shown::chain(&error));
            match error {
                BuildError::Log(error) if error.no_space() => CommitError::NoRoom { epoch, why },
                BuildError::Sync(error) => CommitError::Log(error),
                BuildError::Log(_) | BuildError::State(_) => {
                    CommitError::NotPrepared { epoch, why }
                }
            }
        })
    }

    fn publish(
        &mut self,
        sealed: &mut SealedEpoch,
        written: Written,
        then: Consequences,
    ) -> Result<Committed, CommitError> {
        assert_eq!(
            written.key().seq,
            then.key.seq,
            "another write is proved than the one that is shown"
        );
        self.ledger.before("commit.publish")?;
        self.appender.publish(then.appended, &written);
        self.stamps.extend(then.stamps.iter().copied());
        for (task, stream, next) in then.positions {
            self.read_up_to.note(task, stream, next);
            self.mirrors.note(task, stream, next);
        }
        self.mirrors.settle(self.ledger.last().epoch);
        self.note_holds(then.holds)?;
        // The record is inside the write, so the write's own duration can only be recorded by the next checkpoint.
        let mut record = then.record;
        record.duration_us = micros(sealed.began.elapsed());
        self.with_checkpoint = vec![Encoded::new(&sealed.epoch, &record)];
        let replaces = |old: &Encoded| sealed.records.iter().any(|new| new.replaces(old));
        self.components
            .retain(|old| !sealed.has_work() && !replaces(old));
        // From here on the tasks alone hold what they wrote.
        let states = sealed.tasks.iter_mut().filter_map(|task| task.state.take());
        for (state, removed) in states.zip(&then.removed) {
            state.note_durable(removed)?;
        }
        Ok(Committed {
            epoch: sealed.epoch,
            record,
            stamps: then.stamps,
            outgoing: then.outgoing,
            written,
        })
    }

    /// Appends messages to a log stream for a caller outside: durable when it returns, all or nothing. Returns the offset of the
    /// first message in each partition.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn append(
        &mut self,
        stream: StreamId,
        partitions: &BTreeMap<PartitionId, Messages>,
        now: TimestampMs,
    ) -> Result<BTreeMap<PartitionId, Offset>, CommitError> {
        let logs = self.appender.logs();
        let end = |partition: &PartitionId| (*partition, logs.bounds(stream, *partition).1);
        let ends = partitions.keys().map(end).collect();
        self.write_alone(|committer, writes, appended| {
            for (partition, messages) in partitions {
                let at = (stream, *partition);
                let range = 0..messages.len();
                let all = [Part { messages, range }];
                committer.appender.append(writes, appended, at, all, now)?;
            }
            Ok(())
        })?;
        Ok(ends)
    }

    /// Writes down what is new in the catalog and where tasks begin to read, and deletes what was dropped.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn register(&mut self, catalog: &Catalog, begins: &[Beginning]) -> Result<(), CommitError> {
        self.components = catalog.with_checkpoint().to_vec();
        if !catalog.has_changes() && begins.is_empty() {
            return Ok(());
        }
        let db = Arc::clone(&self.db);
        self.write_alone(|committer, writes, _| {
            catalog.write_into(writes);
            for Beginning {
                task,
                record,
                began,
            } in begins
            {
                let holds = &committer.holds;
                holds.keep_beginnings(&db, (*task, record, began), writes)?;
                records::put(writes, task, record);
            }
            Ok(())
        })?;
        for Beginning { task, record, .. } in begins {
            self.note_positions(*task, record);
        }
        Ok(())
    }

    pub(super) fn note_positions(&mut self, task: TaskId, record: &TaskRecord) {
        for (stream, at) in &record.positions {
            self.read_up_to.note(task, *stream, at.next);
        }
    }

    /// Records are written: what waited to be written in their places is out of date.
    pub(super) fn supersede(&mut self, records: &[Encoded]) {
        self.components
            .retain(|old| !records.iter().any(|new| new.replaces(old)));
    }

    /// Writes records that belong to no epoch.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn write_records(&mut self, records: &[Encoded]) -> Result<(), CommitError> {
        self.supersede(records);
        self.write_alone(|_, writes, _| {
            records.iter().for_each(|record| record.write_into(writes));
            Ok(())
        })
    }

    /// A task does not judge so many of its next messages.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn leave_unjudged(&mut self, task: TaskId, messages: u64) -> Result<(), CommitError> {
        self.write_alone(|committer, writes, _| {
            let record: Option<TaskRecord> = records::get(&committer.db, &task)?;
            let mut record = record.unwrap_or_default();
            record.failing.unjudged = messages;
            records::put(writes, &task, &record);
            Ok(())
        })
    }

    /// Deletes what retention does not keep. Writes nothing if nothing is to be deleted.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn retain(&mut self, now: TimestampMs) -> Result<(), CommitError> {
        self.write_alone(|committer, writes, appended| {
            let read_up_to = &committer.read_up_to;
            let unread = |stream, partition| read_up_to.unread_from(stream, partition);
            Ok(committer.appender.retain(writes, appended, &unread, now)?)
        })
    }

    /// A write that is not an epoch. Nothing to write: nothing happens.
    pub(super) fn write_alone(
        &mut self,
        fill: impl FnOnce(&Committer, &mut WriteSet<'_>, &mut Appended) -> Result<(), BuildError>,
    ) -> Result<(), CommitError> {
        self.write_step("append.write", fill).map(drop)
    }

    /// The same, as a step of this name. Returns the proof of the write.
    pub(super) fn write_step(
        &mut self,
        step: &'static str,
        fill: impl FnOnce(&Committer, &mut WriteSet<'_>, &mut Appended) -> Result<(), BuildError>,
    ) -> Result<Option<Written>, CommitError> {
        self.write_keyed_step(step, |committer, writes, appended, _| {
            fill(committer, writes, appended)
        })
    }

    /// The same with the key that the write will have.
    pub(super) fn write_keyed_step(
        &mut self,
        step: &'static str,
        fill: impl FnOnce(
            &Committer,
            &mut WriteSet<'_>,
            &mut Appended,
            &CommitKey,
        ) -> Result<(), BuildError>,
    ) -> Result<Option<Written>, CommitError> {
        self.ledger.check_directory()?;
        let db = Arc::clone(&self.db);
        let mut writes = db.write_set();
        let mut appended = Appended::default();
        let key = self.ledger.next(self.ledger.last().epoch);
        fill(self, &mut writes, &mut appended, &key)?;
        self.appender.finish(&mut writes, &mut appended)?;
        if writes.is_empty() {
            return Ok(None);
        }
        appended.sync().map_err(CommitError::Log)?;
        self.ledger.before(step)?;
        let unconfirmed = self.ledger.write(writes, key)?;
        let written = self.ledger.confirm(unconfirmed)?;
        self.ledger.before("commit.publish")?;
        self.appender.publish(appended, &written);
        self.clear_away(false);
        Ok(Some(written))
    }

    /// Gives back the room of what is deleted. `all`: also where it is little, because the process ends.
    fn clear_away(&mut self, all: bool) {
        // Whoever put another directory in the place of this one needs its files.
        if self.appender.has_waste(all) && self.ledger.check_directory().is_ok() {
            self.appender.clear_away(all);
        }
    }

    /// Nothing more is to be written.
    pub fn close(mut self) {
        self.clear_away(true);
        self.mirrors.finish(self.ledger.last().epoch);
        if let Err(error) = self.ledger.renew() {
            tracing::warn!("{}", shown::chain(&error));
        }
    }
}

fn cannot_read(path: &Path, source: StateError) -> OpenError {
    OpenError::State {
        path: path.to_owned(),
        source,
    }
}
