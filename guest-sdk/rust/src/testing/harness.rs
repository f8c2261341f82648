//! Feeding a task and looking at what it did.

use std::rc::Rc;

use super::host::{self, Calls, Figure, Host, Line, Rights, Shared};
use super::messages::{self, Incoming, Rejected, Sent};
use super::{Entries, limits};
use crate::backend::types::Rejection;
use crate::task::Instance;
use crate::{Codec, Error, Progress, Shape, Task, migration, packed};

/// A task and its host in memory. Made by [`Setup::start`](super::Setup::start).
pub struct Harness<T: Task> {
    host: Shared,
    instance: Option<Instance<T>>,
    /// The next offset of each input.
    offsets: Vec<u64>,
    latest_timestamp_ms: Option<i64>,
}

/// The outcome for the messages of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// The rejected messages, by offset.
    pub rejected: Vec<Rejected>,
    /// The reason why a `batch` handler failed the call; the messages then came again one by one.
    pub replayed: Option<String>,
}

impl<T: Task> Harness<T> {
    pub(super) fn start(host: Shared) -> Result<Self, Error> {
        let offsets = vec![0; host.borrow().inputs.len()];
        let mut harness = Self {
            host,
            instance: None,
            offsets,
            latest_timestamp_ms: None,
        };
        harness.open()?;
        Ok(harness)
    }

    /// Feeds a batch to the first input.
    #[track_caller]
    pub fn feed<M: Into<Incoming>>(&mut self, messages: impl IntoIterator<Item = M>) -> Fed {
        self.feed_input(0, messages)
    }

    /// Feeds a batch to an input by its index.
    #[track_caller]
    pub fn feed_input<M: Into<Incoming>>(
        &mut self,
        input: u32,
        messages: impl IntoIterator<Item = M>,
    ) -> Fed {
        let messages: Vec<Incoming> = messages.into_iter().map(Into::into).collect();
        assert!(!messages.is_empty(), "a batch has at least one message");
        let Some(next) = self.offsets.get_mut(input as usize) else {
            panic!("there is no input {input}")
        };
        let offset = *next;
        *next += messages.len() as u64;
        self.host.borrow_mut().begin_batch();
        let mut fed = match T::SHAPE {
            Shape::Batch => self.feed_batch(input, offset, &messages),
            Shape::Message => self.feed_each(input, offset, &messages),
        };
        fed.rejected.sort_by_key(|rejected| rejected.offset);
        fed
    }

    fn feed_batch(&mut self, input: u32, offset: u64, messages: &[Incoming]) -> Fed {
        let mut fed = Fed::default();
        match self.call_batch(input, offset, messages) {
            Ok(rejections) => fed.rejected = rejections,
            Err(error) if messages.len() == 1 => {
                fed.rejected.extend(rejected(messages, offset, error))
            }
            Err(error) => {
                fed.replayed = Some(error.reason().to_owned());
                for (offset, message) in (offset..).zip(messages.chunks(1)) {
                    fed.rejected
                        .append(&mut self.feed_batch(input, offset, message).rejected);
                }
            }
        }
        fed
    }

    /// One call of the `batch` handler, undone if it fails.
    fn call_batch(
        &mut self,
        input: u32,
        offset: u64,
        messages: &[Incoming],
    ) -> Result<Vec<Rejected>, Error> {
        let (partition, clock_ms) = self.place();
        let batch = messages::batch(messages, input, partition, offset, clock_ms);
        let latest_ms = packed::iter(&batch.messages.timestamps)
            .map(i64::from_le_bytes)
            .max();
        self.latest_timestamp_ms = self.latest_timestamp_ms.max(latest_ms);
        let rejections = self.call(latest_ms, |instance| instance.batch(&batch))?;
        let mut seen = vec![false; messages.len()];
        let of_batch = |Rejection {
                            index,
                            reason,
                            detail,
                        }: Rejection| {
            match seen.get_mut(index as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => limits::trap(format_args!(
                    "rejection of message {index} of a batch of {}",
                    messages.len()
                )),
            }
            let message = messages.get(index as usize)?.clone();
            Some(Rejected {
                offset: offset + u64::from(index),
                reason,
                detail,
                message,
            })
        };
        Ok(rejections.into_iter().filter_map(of_batch).collect())
    }

    fn feed_each(&mut self, input: u32, offset: u64, messages: &[Incoming]) -> Fed {
        let (partition, clock_ms) = self.place();
        let mut fed = Fed::default();
        for (offset, message) in (offset..).zip(messages.chunks(1)) {
            let [only] = message else { continue };
            let row = messages::row(only, input, partition, offset, clock_ms);
            self.latest_timestamp_ms = self.latest_timestamp_ms.max(Some(row.timestamp));
            if let Err(error) = self.call(Some(row.timestamp), |instance| instance.message(&row)) {
                fed.rejected.extend(rejected(message, offset, error));
            }
        }
        fed
    }

    /// Ends the input: calls `on_end` until it is done. The error is what it returns.
    pub fn end(&mut self) -> Result<(), Error> {
        loop {
            self.host.borrow_mut().begin_batch();
            if self.call(self.latest_timestamp_ms, Instance::on_end)? == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Drops the instance and makes another, as a host may between any two calls: what the task holds in its struct is lost.
    /// The error is what `open` returns.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.close();
        self.open()
    }

    /// Ends the instance in good order: calls `close`.
    pub fn close(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.host.borrow_mut().begin_call(Rights::Read);
            host::enter(&self.host, || instance.close());
        }
    }

    /// Migrates the state from a version, as a host does before code of a higher one takes over: drops the instance, calls `migrate` until
    /// it is done, and opens another. Prepare the state with [`Harness::store`]. The error is what `migrate` or `open` returns; after one of
    /// `migrate` the state is what it was, and the task is closed.
    #[track_caller]
    pub fn migrate(&mut self, from: u32) -> Result<(), Error> {
        assert!(
            from < T::STATE_VERSION,
            "state of version {from} is not migrated to version {}",
            T::STATE_VERSION
        );
        self.close();
        self.host.borrow_mut().begin_batch();
        let mark = self.host.borrow().mark();
        let mut resume = None;
        loop {
            self.host.borrow_mut().begin_call(Rights::WriteState);
            let resumed = resume.as_deref();
            let called = host::enter(&self.host, || migration::migrate::<T>(from, resumed));
            let mut host = self.host.borrow_mut();
            host.rights = Rights::Read;
            match called {
                Ok(Some(next)) => {
                    limits::at_most("`resume`, in bytes,", limits::VALUE_BYTES, next.len());
                    resume = Some(next);
                }
                Ok(None) => break,
                Err(error) => {
                    host.undo(mark);
                    return Err(error);
                }
            }
        }
        self.open()
    }

    fn open(&mut self) -> Result<(), Error> {
        {
            let mut host = self.host.borrow_mut();
            host.begin_batch();
            host.begin_call(Rights::Read);
        }
        self.instance = Some(host::enter(&self.host, Instance::open)?);
        Ok(())
    }

    /// A call of the guest, undone if it fails.
    fn call<R>(
        &mut self,
        default_timestamp_ms: Option<i64>,
        work: impl FnOnce(&mut Instance<T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let Some(instance) = &mut self.instance else {
            panic!("the task is closed")
        };
        let mark = {
            let mut host = self.host.borrow_mut();
            host.begin_call(Rights::Write);
            host.default_timestamp_ms = default_timestamp_ms.unwrap_or(host.clock_ms);
            host.mark()
        };
        let result = host::enter(&self.host, || work(instance));
        let mut host = self.host.borrow_mut();
        host.rights = Rights::Read;
        if result.is_err() {
            host.undo(mark);
        }
        result
    }

    fn place(&self) -> (u32, i64) {
        let host = self.host.borrow();
        (host.partition, host.clock_ms)
    }
}

fn rejected(message: &[Incoming], offset: u64, error: Error) -> Option<Rejected> {
    let message = message.first()?.clone();
    Some(Rejected {
        offset,
        reason: error.reason().to_owned(),
        detail: None,
        message,
    })
}

/// Looking at the host.
impl<T: Task> Harness<T> {
    /// The entries of a store, to prepare and to inspect.
    #[track_caller]
    pub fn store<K: Codec, V: Codec>(&self, name: &str) -> Entries<K, V> {
        Entries::new(Rc::clone(&self.host), name)
    }

    /// What was sent to an output port, in order.
    #[track_caller]
    pub fn sent(&self, port: &str) -> Vec<Sent> {
        self.read(|host| host.ports.sent(port).to_vec())
    }

    /// Forgets what was sent so far, the log lines and the calls.
    pub fn forget(&mut self) {
        let mut host = self.host.borrow_mut();
        host.ports.clear();
        host.lines.clear();
        host.calls = Calls::default();
    }

    /// How many calls of the host the task has made, undone ones included.
    pub fn calls(&self) -> Calls {
        self.read(|host| host.calls.clone())
    }

    /// The log lines.
    pub fn lines(&self) -> Vec<Line> {
        self.read(|host| host.lines.clone())
    }

    /// The sum of a counter.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.read(|host| {
            if let Figure::Counter(sum) = host.figures.get(name)? {
                Some(*sum)
            } else {
                None
            }
        })
    }

    /// The value of a gauge.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        self.read(|host| {
            if let Figure::Gauge(value) = host.figures.get(name)? {
                Some(*value)
            } else {
                None
            }
        })
    }

    /// The values that a histogram was given.
    pub fn histogram(&self, name: &str) -> Vec<f64> {
        self.read(|host| match host.figures.get(name) {
            Some(Figure::Histogram(values)) => values.clone(),
            _ => Vec::new(),
        })
    }

    /// Whether the task has asked for a checkpoint.
    pub fn checkpoint_requested(&self) -> bool {
        self.read(|host| host.checkpoint_requested)
    }

    /// Why the task has asked to be stopped.
    pub fn stop_requested(&self) -> Option<String> {
        self.read(|host| host.stop.clone())
    }

    /// Sets the clock, in milliseconds since the Unix epoch. Store time follows with the next batch, and never goes back.
    pub fn set_clock_ms(&mut self, clock_ms: i64) {
        self.host.borrow_mut().clock_ms = clock_ms;
    }

    /// Moves the clock.
    pub fn advance_ms(&mut self, by_ms: i64) {
        let mut host = self.host.borrow_mut();
        host.clock_ms = host.clock_ms.saturating_add(by_ms);
    }

    #[track_caller]
    fn read<R>(&self, work: impl FnOnce(&Host) -> R) -> R {
        work(&self.host.borrow())
    }
}
