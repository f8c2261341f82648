//! Readers: one asynchronous task for each partition of each input. Each waits for space in the inbox of its task, reads one
//! batch, and wakes the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::connectors::{FetchBounds, Input, OpenAt, Polled, ProgressUnit, Source, SourceError};
use crate::model::{PartitionId, Position, StartAt, shown};
use crate::scheduler::{TaskIndex, Waker};
use crate::task::{Arrival, Backoff, Inbox};

/// Figures of a reader, for any thread to read.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct ReaderFigures {
    pub(in crate::coordinator) done: AtomicU64,
    pub(in crate::coordinator) total: AtomicU64,
    /// Whether `done` and `total` count bytes.
    pub(in crate::coordinator) bytes: AtomicBool,
    /// Whether they are known at all.
    pub(in crate::coordinator) known: AtomicBool,
    /// Messages that were gone before they were read.
    pub(in crate::coordinator) skipped: AtomicU64,
    /// How often it read again after it had failed.
    pub(in crate::coordinator) restarts: AtomicU64,
    /// It has read all there is, for now.
    pub(in crate::coordinator) idle: AtomicBool,
    /// It has read all there will be.
    pub(in crate::coordinator) ended: AtomicBool,
}

/// A budget of messages a second, shared by the readers of a stream.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    next: Mutex<Instant>,
}

/// The longest stretch that one read may use up of a pace: what is shown moves evenly.
const PACE_SLICE: Duration = Duration::from_millis(50);

impl Pace {
    pub(super) fn new(per_second: f64) -> Pace {
        Pace {
            per_second,
            next: Mutex::new(Instant::now()),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number, and saturating"
    )]
    fn messages_max(&self) -> usize {
        (self.per_second * PACE_SLICE.as_secs_f64()) as usize
    }

    /// Takes the time of `messages` and says when they may be shown.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of messages in a slice are small"
    )]
    fn take(&self, messages: usize) -> Instant {
        let time = Duration::from_secs_f64(messages as f64 / self.per_second);
        let mut next = self.next.lock();
        let from = (*next).max(Instant::now());
        *next = from + time;
        from
    }
}

/// How long a reader keeps a thread.
const WHILE: Duration = Duration::from_millis(5);

/// After so long without a failure, a reader has not failed.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// One reader.
pub(super) struct Reader {
    pub(super) input: Arc<dyn Input>,
    pub(super) partition: PartitionId,
    pub(super) at: OpenAt,
    pub(super) bounds: FetchBounds,
    pub(super) pace: Option<Arc<Pace>>,
    /// How often it reads again after it has failed, and how long it waits before that.
    pub(super) restarts: u32,
    pub(super) backoff: Backoff,
    pub(super) inbox: Arc<Inbox>,
    /// The place of the input in the inbox.
    pub(super) place: usize,
    pub(super) task: TaskIndex,
    pub(super) waker: Waker,
    pub(super) figures: Arc<ReaderFigures>,
}

impl Reader {
    /// Reads until the input ends, or has failed as often as it may.
    pub(super) async fn run(mut self) {
        if let Some(pace) = &self.pace {
            self.bounds.messages = self.bounds.messages.min(pace.messages_max().max(1));
        }
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(error) = self.read().await else {
                return;
            };
            if began.elapsed() >= FORGOTTEN {
                failures = 0;
            }
            if failures >= self.restarts || !self.input.rewindable() {
                return self.arrive(Arrival::Failed(error));
            }
            failures += 1;
            self.figures.restarts.fetch_add(1, Ordering::Relaxed);
            self.figures.idle.store(false, Ordering::Release);
            let wait = self.backoff.wait(failures, rand::random());
            let wait = wait.unwrap_or_default();
            tracing::warn!(
                partition = self.partition.0,
                "{}; it is read again in {:.1} s, {failures} of {}",
                shown::chain(&error),
                wait.as_secs_f64(),
                self.restarts
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads from where it was until the input ends.
    async fn read(&mut self) -> Result<(), SourceError> {
        // Files may have to be read from their beginning.
        let mut source = slowly(|| self.input.open(self.partition, self.at.clone())).await?;
        let is_slow = self.input.polls_may_block();
        let inbox = Arc::clone(&self.inbox);
        self.note_progress(&*source);
        self.begin(source.begins_at()).await;
        let mut lulls = false;
        loop {
            let space = inbox.space(self.place, self.bounds.bytes).await;
            let polled = match is_slow {
                true => slowly(|| self.poll_for_a_while(&mut *source)).await,
                false => source.poll(self.bounds),
            };
            let arrival = match polled? {
                Polled::Idle => {
                    match source.passed()? {
                        None => {}
                        Some(position) => self.arrive(Arrival::Passed(position)),
                    }
                    self.note_progress(&*source);
                    if source.has_read_all() {
                        if self.input.may_lull() && !lulls {
                            lulls = true;
                            self.arrive(Arrival::Lull);
                        }
                        self.figures.idle.store(true, Ordering::Release);
                    }
                    drop(space);
                    source.ready().await;
                    continue;
                }
                Polled::End { at } => {
                    self.note_progress(&*source);
                    self.arrive(Arrival::End(at));
                    // Who sees it finds the arrival in the inbox, or its task at work.
                    self.figures.ended.store(true, Ordering::Release);
                    return Ok(());
                }
                found => self.arrival_of(found).await,
            };
            self.note_progress(&*source);
            lulls = false;
            self.arrive(arrival);
            drop(space);
            // A source that always has more must not keep the thread from others.
            tokio::task::yield_now().await;
        }
    }

    /// Polls until there is no more space, or time to let others have the thread; what was found before that has arrived. To take a
    /// thread costs more than most polls.
    fn poll_for_a_while(&mut self, source: &mut dyn Source) -> Result<Polled, SourceError> {
        let until = Instant::now() + WHILE;
        loop {
            let found = source.poll(self.bounds)?;
            let goes_on = self.pace.is_none()
                && self.inbox.has_space_for_two(self.place)
                && Instant::now() < until;
            match found {
                Polled::Messages(fetched) if goes_on => {
                    self.figures.idle.store(false, Ordering::Release);
                    self.note_progress(source);
                    self.arrive(Arrival::Messages(fetched));
                }
                found => return Ok(found),
            }
        }
    }

    /// Says where the input begins, if no position was stored, and waits until that is recorded, if it must be.
    async fn begin(&mut self, at: Option<Position>) {
        let (OpenAt::Start(start), Some(position)) = (&self.at, at) else {
            return;
        };
        // The oldest message is the same at every start; the latest, or the first after a time, is not.
        if !matches!(start, StartAt::Latest | StartAt::Time(_) | StartAt::Group) {
            let chosen = None;
            return self.arrive(Arrival::Begin { position, chosen });
        }
        let (recorded, is_recorded) = oneshot::channel();
        self.arrive(Arrival::Begin {
            position,
            chosen: Some(recorded),
        });
        // A crash before that would choose another place, and pass over what has come meanwhile.
        let _ = is_recorded.await;
    }

    /// What a source has found, for the task. Messages wait for their pace.
    async fn arrival_of(&self, found: Polled) -> Arrival {
        match found {
            Polled::Messages(fetched) => {
                self.figures.idle.store(false, Ordering::Release);
                if let Some(pace) = &self.pace {
                    tokio::time::sleep_until(pace.take(fetched.offsets.len()).into()).await;
                }
                Arrival::Messages(fetched)
            }
            Polled::Undecodable {
                offset,
                raw,
                length,
                reason,
                end_detail,
                ..
            } => Arrival::Undecodable {
                offset,
                raw,
                length,
                reason,
                end_detail,
            },
            Polled::Skipped { at, messages } => {
                self.figures.skipped.fetch_add(messages, Ordering::Relaxed);
                tracing::warn!(
                    partition = self.partition.0,
                    "{messages} messages that were not read are gone (`drop-unread`): reading goes on at offset {}",
                    at.next
                );
                Arrival::Passed(at)
            }
            Polled::Idle | Polled::End { .. } => unreachable!("there is nothing for the task"),
        }
    }

    /// Hands something to the task. A reader that fails goes on after it.
    fn arrive(&mut self, arrival: Arrival) {
        if self.restarts > 0
            && let Some(position) = arrival.end()
        {
            self.at = OpenAt::Position(position);
        }
        self.inbox.push(self.place, arrival);
        self.waker.wake(self.task);
    }

    fn note_progress(&self, source: &dyn Source) {
        if let Some(progress) = source.progress() {
            self.figures.done.store(progress.done, Ordering::Relaxed);
            self.figures.total.store(progress.total, Ordering::Relaxed);
            self.figures
                .bytes
                .store(progress.unit == ProgressUnit::Bytes, Ordering::Relaxed);
            self.figures.known.store(true, Ordering::Release);
        }
    }
}

/// Does what may wait for a disk: others take over the thread's work meanwhile. Each needs a thread of its own for it, so that only
/// some may at a time.
async fn slowly<R>(work: impl FnOnce() -> R) -> R {
    static PLACES: Semaphore = Semaphore::const_new(16);
    // It is never closed.
    let _place = PLACES.acquire().await;
    tokio::task::block_in_place(work)
}
