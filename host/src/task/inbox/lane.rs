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
    /// Told when half of the arrivals were taken: a reader that is woken for each of them costs more than it reads.
    pub(super) space: Notify,
}

impl Lane {
    /// Whether so many more may come. One always may if there is none.
    pub(super) fn has_space(&self, read_ahead: &ReadAhead, more: usize) -> bool {
        let waiting = self.queue.lock().len();
        waiting + more <= 1 || waiting + more <= WAITING && read_ahead.has_room()
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
        let mut queue = self.queue.lock();
        let popped = queue.pop_front();
        let left = queue.len();
        drop(queue);
        if popped.is_some() && left <= WAITING / 2 {
            self.space.notify_one();
        }
        popped
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }
}
