//! How much is read ahead, over all tasks of a job.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that were read for all tasks of the job and not processed yet. Beyond the bound each lane has one arrival at a time, so
/// that none waits for another's task.
#[derive(Debug)]
pub struct ReadAhead {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Told when there is room again.
    pub(super) room: Notify,
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

    /// Whether more than one arrival of a lane may wait.
    pub(super) fn has_room(&self) -> bool {
        self.bytes() < self.bytes_max
    }

    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.bytes_max && before - bytes < self.bytes_max {
            self.room.notify_waiters();
        }
    }
}

/// Space for an arrival, while it is being read.
#[derive(Debug)]
pub struct Space<'a> {
    of: &'a ReadAhead,
    bytes: usize,
}

impl Space<'_> {
    /// Takes space.
    pub(super) fn take(of: &ReadAhead, bytes: usize) -> Space<'_> {
        of.add(bytes);
        Space { of, bytes }
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.of.remove(self.bytes);
    }
}
