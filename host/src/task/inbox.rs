//! What has been read for a task and not processed. Bounded: a reader waits for space, so a slow task holds up its own
//! readers and nobody else's.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connectors::{Fetched, SourceError};
use crate::model::{Offset, Position};
use std::sync::Arc;

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
        end_detail: Option<Arc<[u8]>>,
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

/// The inbox of a task.
#[derive(Debug)]
pub struct Inbox {
    inputs: Vec<Mutex<VecDeque<Delivery>>>,
    space: Vec<Notify>,
}

impl Inbox {
    /// For so many inputs.
    pub fn new(inputs: usize) -> Inbox {
        Inbox {
            inputs: (0..inputs).map(|_| Mutex::default()).collect(),
            space: (0..inputs).map(|_| Notify::new()).collect(),
        }
    }

    /// Completes when a delivery of the input finds space.
    pub async fn space(&self, input: usize) {
        loop {
            let notified = self.space[input].notified();
            if self.inputs[input].lock().len() < WAITING {
                return;
            }
            notified.await;
        }
    }

    /// Adds a delivery.
    pub fn push(&self, input: usize, delivery: Delivery) {
        self.inputs[input].lock().push_back(delivery);
    }

    /// Puts back the rest of a batch: it comes first again.
    pub(super) fn push_front(&self, input: usize, delivery: Delivery) {
        self.inputs[input].lock().push_front(delivery);
    }

    /// Takes the oldest delivery of an input.
    pub(super) fn pop(&self, input: usize) -> Option<Delivery> {
        let popped = self.inputs[input].lock().pop_front();
        if popped.is_some() {
            self.space[input].notify_one();
        }
        popped
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inputs.iter().all(|input| input.lock().is_empty())
    }
}
