//! The commit's own thread: one epoch after the other, and writes on behalf of others between them.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::machine::Deliveries;
use super::produce::PendingAppend;
use tokio::sync::oneshot;

use super::letters::LetterWrite;
use crate::checkpoint::logs::LogStream;
use crate::checkpoint::outputs::ExternalStream;
use crate::checkpoint::{CommitError, Committer, HoldEnd, Progressed, decide};
use crate::disk::{Room, free_bytes};
use crate::epoch::SealedEpoch;
use crate::model::{Clock, Epoch, Messages, PartitionId, StageId, StreamId};
use crate::records::{CheckpointRecord, Encoded};

/// How often retention runs if no checkpoint has run it.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
/// How often RocksDB is asked whether it has failed in the background.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Work for the commit thread.
pub(super) enum Work {
    /// Make an epoch durable.
    Epoch(Box<SealedEpoch>),
    /// These streams are written from the next epoch on.
    Declare(Vec<LogStream>, Vec<ExternalStream>),
    /// Append to a log stream for a caller outside.
    Append(StreamId, BTreeMap<PartitionId, Messages>, PendingAppend),
    /// Write these records.
    Records(Vec<Encoded>),
    /// Write what is to become of dead letters.
    Letters(LetterWrite, oneshot::Sender<u64>),
    /// End a hold.
    End(LongWork),
}

/// What the commit thread reports.
pub(super) enum Done {
    /// The epoch is durable and published.
    Committed(Epoch, Box<CheckpointRecord>),
    /// Its output is delivered.
    Delivered(Epoch, Deliveries),
    /// An attempt failed before the decision point. The number counts consecutive failures.
    AttemptFailed(u32, CommitError),
    /// The disk has less than the reserve, and a stage holds what it does.
    DiskShort,
    /// A stage holds nothing any more: everything has gone out.
    Released(StageId),
    /// A stage holds nothing any more: everything is taken back.
    TakenBack(StageId),
    /// The outcome is unknown.
    Fatal(CommitError),
}

/// Work that is done a part at a time, between other work.
pub(super) enum LongWork {
    /// Let what a stage holds go out.
    Release(HoldEnd),
    /// Take back what a stage has done since it holds.
    TakeBack(HoldEnd),
}

/// Settings of the commit thread.
pub(super) struct CommitOptions {
    /// Where free space is asked for.
    pub(super) directory: PathBuf,
    /// Bytes that must be free before an epoch is written.
    pub(super) disk_reserve: u64,
    /// One attempt.
    pub(super) timeout: Duration,
    /// The wall clock.
    pub(super) clock: Arc<dyn Clock>,
    /// The drain's time is over: what cannot be written now is not waited for.
    pub(super) hurry: Arc<AtomicBool>,
}

/// The commit thread.
pub(super) struct CommitThread {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl CommitThread {
    pub(super) fn start(
        committer: Committer,
        options: CommitOptions,
        done: impl Fn(Done) + Send + 'static,
    ) -> CommitThread {
        let (sender, receiver) = channel();
        let thread = thread::Builder::new().name("commit".into());
        let thread = thread.spawn(move || run(committer, &options, &receiver, &done));
        match thread {
            Ok(thread) => CommitThread {
                work: Some(sender),
                thread: Some(thread),
            },
            Err(error) => panic!("a thread cannot be started: {error}"),
        }
    }

    pub(super) fn give(&self, work: Work) {
        if let Some(sender) = &self.work {
            // If the thread is gone it has already reported why, and the job is ending.
            let _ = sender.send(work);
        }
    }

    /// Waits for what was given, and closes the database.
    pub(super) fn stop(mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(committer: Committer, options: &CommitOptions, work: &Receiver<Work>, done: &dyn Fn(Done)) {
    let mut commits = Commits {
        committer,
        options,
        done,
        long: VecDeque::new(),
        retained: Instant::now(),
        forgotten: Instant::now(),
    };
    loop {
        match commits.turn(work) {
            Ok(Turn::More) => {}
            Ok(Turn::Last) => return commits.committer.close(),
            Err(error) => return done(Done::Fatal(error)),
        }
    }
}

/// What the commit thread does.
struct Commits<'a> {
    committer: Committer,
    options: &'a CommitOptions,
    done: &'a dyn Fn(Done),
    /// What is done a part at a time.
    long: VecDeque<LongWork>,
    /// When retention ran.
    retained: Instant,
    /// When marks of letters that are gone were looked for.
    forgotten: Instant,
}

/// Whether there is more to do.
enum Turn {
    More,
    Last,
}

impl Commits<'_> {
    /// Does what comes next, and a part of what is long.
    fn turn(&mut self, work: &Receiver<Work>) -> Result<Turn, CommitError> {
        let wait = match self.long.is_empty() {
            true => LOOK_EVERY,
            false => Duration::ZERO,
        };
        match work.recv_timeout(wait) {
            Ok(work) => self.execute(work)?,
            Err(RecvTimeoutError::Timeout) if !self.long.is_empty() => {}
            Err(RecvTimeoutError::Timeout) => self.committer.check_background()?,
            Err(RecvTimeoutError::Disconnected) => {
                // What goes out should be out when the job has ended; what is left, the next start does.
                self.long
                    .retain(|long| matches!(long, LongWork::Release(_)));
                if self.long.is_empty() || self.options.hurry.load(Ordering::Acquire) {
                    return Ok(Turn::Last);
                }
            }
        }
        if let Some(next) = self.long.pop_front() {
            self.proceed(next)?;
        }
        self.committer.count_letters()?;
        if self.forgotten.elapsed() >= RETAIN_EVERY {
            self.forgotten = Instant::now();
            self.committer.forget_letters()?;
        }
        if self.retained.elapsed() >= RETAIN_EVERY {
            self.retained = Instant::now();
            self.committer.retain(self.options.clock.now_ms())?;
        }
        Ok(Turn::More)
    }

    fn execute(&mut self, work: Work) -> Result<(), CommitError> {
        let now = self.options.clock.now_ms();
        match work {
            Work::Epoch(mut sealed) => {
                commit(&mut self.committer, self.options, &mut sealed, self.done)?;
                self.retained = Instant::now();
            }
            Work::Append(stream, partitions, pending) => {
                let pending = pending.begin();
                match self.committer.append(stream, &partitions, now) {
                    Ok(offsets) => pending.answer(Ok(offsets)),
                    Err(error) => {
                        pending.answer(Err(format!("the outcome is unknown: {error}")));
                        return Err(error);
                    }
                }
            }
            Work::Declare(logs, external) => self.committer.declare(&logs, &external)?,
            Work::Records(records) => self.committer.write_records(&records)?,
            Work::Letters(write, reply) => {
                let marked = write.execute(&mut self.committer, now)?;
                let _ = reply.send(marked);
            }
            // The first part at once: what comes behind may write the same records.
            Work::End(end) => self.proceed(end)?,
        }
        Ok(())
    }

    /// Does a part of long work.
    fn proceed(&mut self, mut next: LongWork) -> Result<(), CommitError> {
        let progressed = match &mut next {
            LongWork::Release(end) => self.committer.release(end, self.options.clock.now_ms())?,
            LongWork::TakeBack(end) => self.committer.take_back(end)?,
        };
        match (progressed, next) {
            (Progressed::Partly, next) => self.long.push_back(next),
            (Progressed::Entirely, LongWork::Release(end)) => {
                (self.done)(Done::Released(end.stage))
            }
            (Progressed::Entirely, LongWork::TakeBack(end)) => {
                (self.done)(Done::TakenBack(end.stage))
            }
        }
        Ok(())
    }
}

fn commit(
    committer: &mut Committer,
    options: &CommitOptions,
    sealed: &mut SealedEpoch,
    done: &dyn Fn(Done),
) -> Result<(), CommitError> {
    let mut failed = 0;
    let committed = loop {
        let has_room = match committer.is_holding() && is_short(options) {
            // A way back makes room, and waits for this.
            true => {
                done(Done::DiskShort);
                Ok(())
            }
            false => await_reserve(options, sealed.epoch),
        };
        match has_room.and_then(|()| committer.commit(sealed, failed)) {
            Ok(committed) => break committed,
            Err(error @ (CommitError::NotPrepared { .. } | CommitError::NoRoom { .. }))
                if !options.hurry.load(Ordering::Acquire) =>
            {
                failed += 1;
                done(Done::AttemptFailed(failed, error));
                thread::sleep(decide::backoff(failed));
            }
            Err(error) => return Err(error),
        }
    };
    done(Done::Committed(
        committed.epoch,
        Box::new(committed.record.clone()),
    ));
    let epoch = committed.epoch;
    committer.deliver(committed)?;
    done(Done::Delivered(epoch, deliveries(committer)));
    Ok(())
}

/// Whether the database has recorded what was delivered.
pub(super) fn deliveries(committer: &Committer) -> Deliveries {
    match committer.has_unrecorded_delivery() {
        true => Deliveries::Unrecorded,
        false => Deliveries::Recorded,
    }
}

/// Whether the disk has less than the reserve.
fn is_short(options: &CommitOptions) -> bool {
    free_bytes(&options.directory).is_ok_and(|free| free < options.disk_reserve)
}

/// Waits until the disk has the reserve.
fn await_reserve(options: &CommitOptions, epoch: Epoch) -> Result<(), CommitError> {
    let (directory, reserve) = (&options.directory, options.disk_reserve);
    let short = |free: u64| {
        let place = directory.display();
        format!("{place}: {free} bytes are free, fewer than disk-reserve = {reserve} bytes")
    };
    let waits = |free| tracing::warn!("checkpoint {epoch} waits for room: {}", short(free));
    let gave_up = |waited| waited >= options.timeout || options.hurry.load(Ordering::Acquire);
    match Room::wait(directory, reserve, waits, gave_up) {
        Ok(Room::Enough) => Ok(()),
        Ok(Room::Short(free)) => Err(CommitError::NoRoom {
            epoch,
            why: short(free),
        }),
        Err(error) => Err(CommitError::NotPrepared {
            epoch,
            why: format!("ask for free space of {}: {error}", directory.display()),
        }),
    }
}
