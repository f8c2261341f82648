//! A lane: what has arrived at one input, in order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Arrival, ReadAhead};

/// Arrivals of a lane that may wait, if there is room.
const WAITING: usize = 4;

/// What has arrived at an input and waits.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Arrival>>,
    /// Told when an arrival was taken.
    pub(super) space: Notify,
}

impl Lane {
    /// Whether one more may come.
    pub(super) fn has_space(&self, read_ahead: &ReadAhead) -> bool {
        let waiting = self.queue.lock().len();
        waiting == 0 || waiting < WAITING && read_ahead.has_room()
    }

    /// Adds an arrival.
    pub(super) fn push(&self, arrival: Arrival) {
        self.queue.lock().push_back(arrival);
    }

    /// Puts an arrival back: it comes first again.
    pub(super) fn push_front(&self, arrival: Arrival) {
        self.queue.lock().push_front(arrival);
    }

    /// Takes the oldest arrival.
    pub(super) fn pop(&self) -> Option<Arrival> {
        let popped = self.queue.lock().pop_front();
        if popped.is_some() {
            self.space.notify_one();
        }
        popped
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }
}
