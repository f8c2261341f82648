//! The commit's own thread: one epoch after the other, and writes on behalf of others between them.

use std::collections::BTreeMap;
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
use crate::checkpoint::{CommitError, Committer, decide};
use crate::disk::Room;
use crate::epoch::SealedEpoch;
use crate::model::{Clock, Epoch, Messages, PartitionId, StreamId};
use crate::records::{CheckpointRecord, Encoded};

/// How often retention runs if no checkpoint has run it.
const RETAIN_EVERY: Duration = Duration::from_secs(30);
/// How often RocksDB is asked whether it has failed in the background.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Work for the commit thread.
pub(super) enum Work {
    /// Make an epoch durable.
    Epoch(Box<SealedEpoch>),
    /// Append to a log stream for a caller outside.
    Append(StreamId, BTreeMap<PartitionId, Messages>, PendingAppend),
    /// Write these records.
    Records(Vec<Encoded>),
    /// Write what is to become of dead letters.
    Letters(LetterWrite, oneshot::Sender<u64>),
}

/// What the commit thread reports.
pub(super) enum Done {
    /// The epoch is durable and published.
    Committed(Epoch, Box<CheckpointRecord>),
    /// Its output is delivered.
    Delivered(Epoch, Deliveries),
    /// An attempt failed before the decision point. The number counts consecutive failures.
    AttemptFailed(u32, CommitError),
    /// The outcome is unknown.
    Fatal(CommitError),
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

fn run(
    mut committer: Committer,
    options: &CommitOptions,
    work: &Receiver<Work>,
    done: &dyn Fn(Done),
) {
    let mut retained = Instant::now();
    let mut forgotten = Instant::now();
    loop {
        match work.recv_timeout(LOOK_EVERY) {
            Ok(Work::Epoch(mut sealed)) => {
                match commit(&mut committer, options, &mut sealed, done) {
                    Ok(()) => retained = Instant::now(),
                    Err(error) => return done(Done::Fatal(error)),
                }
            }
            Ok(Work::Append(stream, partitions, pending)) => {
                let pending = pending.begin();
                match committer.append(stream, &partitions, options.clock.now_ms()) {
                    Ok(offsets) => pending.answer(Ok(offsets)),
                    Err(error) => {
                        pending.answer(Err(format!("the outcome is unknown: {error}")));
                        return done(Done::Fatal(error));
                    }
                }
            }
            Ok(Work::Records(records)) => {
                if let Err(error) = committer.write_records(&records) {
                    return done(Done::Fatal(error));
                }
            }
            Ok(Work::Letters(write, reply)) => {
                match write.execute(&mut committer, options.clock.now_ms()) {
                    Ok(marked) => _ = reply.send(marked),
                    Err(error) => return done(Done::Fatal(error)),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = committer.check_background() {
                    return done(Done::Fatal(error));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return committer.close(),
        }
        if let Err(error) = committer.count_letters() {
            return done(Done::Fatal(error.into()));
        }
        if forgotten.elapsed() >= RETAIN_EVERY {
            forgotten = Instant::now();
            if let Err(error) = committer.forget_letters() {
                return done(Done::Fatal(error));
            }
        }
        if retained.elapsed() >= RETAIN_EVERY {
            retained = Instant::now();
            if let Err(error) = committer.retain(options.clock.now_ms()) {
                return done(Done::Fatal(error));
            }
        }
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
        let attempt =
            await_reserve(options, sealed.epoch).and_then(|()| committer.commit(sealed, failed));
        match attempt {
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
