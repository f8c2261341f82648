//! What has been read for a task and not processed. Bounded: a reader waits for space, so a slow task holds up its own
//! readers and nobody else's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connectors::{Fetched, SourceError};
use crate::model::{Detail, Offset, Position};

/// Something that a reader found.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all of them are messages: a box would cost an allocation for each batch"
)]
pub enum Delivery {
    /// Where the reader begins: comes first, and only where no position was stored.
    Begin {
        /// The place.
        position: Position,
        /// Another start would choose another: told when a checkpoint has recorded this one. The reader waits for that.
        chosen: Option<Recorded>,
    },
    /// Where reading goes on after what was no message of this task.
    Passed(Position),
    /// Messages, as one batch.
    Messages(Fetched),
    /// A record that is no message.
    Undecodable {
        /// Its offset.
        offset: Offset,
        /// Its bytes, as far as they were read.
        raw: Vec<u8>,
        /// Why.
        reason: String,
        /// Where reading goes on after it.
        end_detail: Option<Detail>,
    },
    /// The input has ended.
    End(Position),
    /// The reader failed.
    Failed(SourceError),
}

/// Told when something is recorded by a checkpoint.
pub type Recorded = tokio::sync::oneshot::Sender<()>;

/// Deliveries of each input that may wait.
const WAITING: usize = 4;

/// What has been read for all tasks of the job and not processed, in bytes. Beyond the bound an input has one delivery at a time, so
/// that none waits for another's task.
#[derive(Debug)]
pub struct ReadAhead {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// There is room again.
    room: Notify,
}

impl ReadAhead {
    /// A bound.
    pub fn new(bytes_max: usize) -> ReadAhead {
        ReadAhead {
            bytes_max,
            bytes: AtomicUsize::new(0),
            room: Notify::new(),
        }
    }

    /// What has been read, or is being read.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.bytes() < self.bytes_max
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.bytes_max && before - bytes < self.bytes_max {
            self.room.notify_waiters();
        }
    }
}

/// Space for a delivery, for as long as it is being read.
#[derive(Debug)]
pub struct Space<'a> {
    of: &'a ReadAhead,
    bytes: usize,
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.of.remove(self.bytes);
    }
}

/// The inbox of a task.
#[derive(Debug)]
pub struct Inbox {
    inputs: Vec<Mutex<VecDeque<Delivery>>>,
    space: Vec<Notify>,
    read_ahead: Arc<ReadAhead>,
}

impl Inbox {
    /// For so many inputs.
    pub fn new(inputs: usize, read_ahead: Arc<ReadAhead>) -> Inbox {
        Inbox {
            inputs: (0..inputs).map(|_| Mutex::default()).collect(),
            space: (0..inputs).map(|_| Notify::new()).collect(),
            read_ahead,
        }
    }

    /// Completes when a delivery of the input, of about so many bytes, finds space.
    pub async fn space(&self, input: usize, bytes: usize) -> Space<'_> {
        loop {
            let (taken, room) = (
                self.space[input].notified(),
                self.read_ahead.room.notified(),
            );
            let waiting = self.inputs[input].lock().len();
            if waiting == 0 || waiting < WAITING && self.read_ahead.has_room() {
                self.read_ahead.add(bytes);
                return Space {
                    of: &self.read_ahead,
                    bytes,
                };
            }
            tokio::select! {
                () = taken => {}
                () = room => {}
            }
        }
    }

    /// Adds a delivery.
    pub fn push(&self, input: usize, delivery: Delivery) {
        self.read_ahead.add(delivery.bytes());
        self.inputs[input].lock().push_back(delivery);
    }

    /// Puts back the rest of a batch: it comes first again.
    pub(super) fn push_front(&self, input: usize, delivery: Delivery) {
        self.read_ahead.add(delivery.bytes());
        self.inputs[input].lock().push_front(delivery);
    }

    /// Takes the oldest delivery of an input.
    pub(super) fn pop(&self, input: usize) -> Option<Delivery> {
        let popped = self.inputs[input].lock().pop_front();
        if let Some(delivery) = &popped {
            self.read_ahead.remove(delivery.bytes());
            self.space[input].notify_one();
        }
        popped
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inputs.iter().all(|input| input.lock().is_empty())
    }
}

impl Delivery {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        match self {
            Delivery::Messages(fetched) => {
                fetched.messages.data_len() + fetched.offsets.len() * MESSAGE_BYTES
            }
            Delivery::Undecodable { raw, .. } => raw.len(),
            _ => 0,
        }
    }
}

/// What a message takes beside its bytes: offset, timestamp, the ends of key and value.
const MESSAGE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageRef;

    fn delivery(bytes: usize) -> Delivery {
        let mut fetched = Fetched::default();
        fetched.offsets.push(0);
        let value = vec![0; bytes];
        fetched
            .messages
            .push(MessageRef::new(None, Some(&value), 0));
        Delivery::Messages(fetched)
    }

    #[tokio::test]
    async fn what_is_read_ahead_of_all_tasks_is_bounded_and_each_has_something() {
        let read_ahead = Arc::new(ReadAhead::new(1_000));
        let (first, second) = (
            Inbox::new(1, Arc::clone(&read_ahead)),
            Inbox::new(1, Arc::clone(&read_ahead)),
        );
        let space = first.space(0, 500).await;
        first.push(0, delivery(2_000));
        drop(space);
        assert!(read_ahead.bytes() > 1_000);
        // Another task's input has its first delivery all the same, and no second one.
        drop(second.space(0, 500).await);
        second.push(0, delivery(10));
        let more = second.space(0, 500);
        tokio::pin!(more);
        assert!(futures_poll(&mut more).await.is_none());
        assert!(first.pop(0).is_some());
        assert!(
            futures_poll(&mut more).await.is_some(),
            "there is room again"
        );
        assert!(second.pop(0).is_some());
        assert_eq!(read_ahead.bytes(), 0);
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<()> {
        tokio::select! {
            biased;
            _ = future => Some(()),
            () = std::future::ready(()) => None,
        }
    }
}
