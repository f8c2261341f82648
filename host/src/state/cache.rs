//! The account of committed values at hand, of all stores of the container.
//!
//! Each store holds its own values ([`super::table`]), in chunks. Those of `rocksdb` stores are given up when all together take more than
//! they may: each store that its task, or a worker on the task's behalf, comes to gives up its oldest chunks. What a `memory` store holds
//! is never given up, and takes from what the others may have.
//!
//! Age is counted in bytes: a chunk is born when so many bytes of chunks were before it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The container's account.
#[derive(Debug)]
pub struct CleanCache {
    budget: u64,
    /// Part of the budget that is left to others, as far as `memory` stores do not need it.
    reserved: u64,
    /// Bytes of `rocksdb` stores.
    shared: AtomicU64,
    /// Bytes of `memory` stores.
    pinned: AtomicU64,
    /// Bytes of `memory` stores without what is superseded in their chunks.
    needed: AtomicU64,
    /// Bytes of all chunks that were ever added to `shared`.
    born: AtomicU64,
}

impl CleanCache {
    /// At most `bytes`, including what `memory` stores pin.
    pub fn new(bytes: u64) -> CleanCache {
        Self::with_reserve(bytes, 0)
    }

    /// At most `bytes`, of which `reserved` are left to others, as far as `memory` stores do not need them.
    pub fn with_reserve(bytes: u64, reserved: u64) -> CleanCache {
        CleanCache {
            budget: bytes,
            reserved,
            shared: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            needed: AtomicU64::new(0),
            born: AtomicU64::new(0),
        }
    }

    /// Bytes that are held, and how many may be.
    pub fn usage(&self) -> (u64, u64) {
        let shared = self.shared.load(Ordering::Relaxed);
        (shared + self.pinned.load(Ordering::Relaxed), self.budget)
    }

    /// Whether `memory` stores alone exceed the budget.
    pub(super) fn pinned_over_budget(&self) -> Option<(u64, u64)> {
        let pinned = self.pinned.load(Ordering::Relaxed);
        (pinned > self.budget).then_some((pinned, self.budget))
    }

    /// Whether what `memory` stores need exceeds the budget.
    pub(super) fn needed_over_budget(&self) -> Option<(u64, u64)> {
        let needed = self.needed.load(Ordering::Relaxed);
        (needed > self.budget).then_some((needed, self.budget))
    }

    /// What a `memory` store needs changes.
    pub(super) fn note_needed(&self, before: u64, now: u64) {
        self.needed.fetch_add(now, Ordering::Relaxed);
        self.needed.fetch_sub(before, Ordering::Relaxed);
    }

    /// Whether `rocksdb` stores hold more than they may.
    pub fn is_over(&self) -> bool {
        self.over() > 0
    }

    /// Whether they hold so much more that nothing is to be added.
    pub(super) fn is_far_over(&self) -> bool {
        self.over() > self.budget / 8
    }

    /// Whether they hold so much more that giving up cannot be done a little at a time.
    pub(super) fn is_much_too_full(&self) -> bool {
        self.over() > self.budget / 2
    }

    fn over(&self) -> u64 {
        let pinned = self.pinned.load(Ordering::Relaxed);
        let may = self.budget.saturating_sub(pinned + self.reserved);
        self.shared.load(Ordering::Relaxed).saturating_sub(may)
    }

    /// Adds bytes of a chunk. Its birth.
    pub(super) fn add(&self, is_pinned: bool, bytes: u64) -> u64 {
        self.account(is_pinned).fetch_add(bytes, Ordering::Relaxed);
        self.born.fetch_add(bytes, Ordering::Relaxed)
    }

    /// Takes bytes away.
    pub(super) fn remove(&self, is_pinned: bool, bytes: u64) {
        self.account(is_pinned).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of all chunks that were ever added: the birth of the next.
    pub(super) fn born(&self) -> u64 {
        self.born.load(Ordering::Relaxed)
    }

    fn account(&self, is_pinned: bool) -> &AtomicU64 {
        match is_pinned {
            true => &self.pinned,
            false => &self.shared,
        }
    }
}
