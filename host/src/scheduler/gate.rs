//! Which tasks may begin a batch: how much may be uncommitted, and each task's share of it.
//!
//! While less than the bound is uncommitted, every task may begin a batch. Beyond it a task may go on that has little of it:
//! together with the recent size of its batches it must stay within an equal part of a reserve, a quarter of the bound. So one
//! task that writes much fills the bound and waits for the commit, and the others do not wait with it.
//!
//! A task that has yet to seal for the barrier under way may use the whole reserve for itself: it is what the commit waits for,
//! which frees the bytes, so it must always be able to come to its barrier.
//!
//! Where tasks outrun the commit, they slow down before they stand: in the last quarter of the bound a task with much of it pauses
//! after each batch, the longer the less is left.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The reserve is the bound divided by this.
const RESERVE: usize = 4;
/// The longest pause after a batch.
const PAUSE_MAX: Duration = Duration::from_micros(1_500);

/// What is uncommitted of all tasks.
pub(super) struct Gate {
    bytes_max: usize,
    /// Bytes of open epochs.
    open: AtomicUsize,
    /// Bytes of the epoch that is sealed or being committed.
    sealed: AtomicUsize,
    /// Tasks with something in the open epoch, and in the sealed one.
    open_tasks: AtomicUsize,
    sealed_tasks: AtomicUsize,
    /// Whether it was reported that half of the bound is open.
    reported: AtomicBool,
}

/// What is uncommitted of one task.
#[derive(Default)]
pub(super) struct Share {
    /// Bytes of its open epoch, as last reported.
    open: AtomicUsize,
    /// Bytes of its sealed epoch.
    sealed: AtomicUsize,
    /// The recent size of its batches, plus one; 0: it has had none.
    batch: AtomicU64,
    /// It was asked to seal and has not.
    behind: AtomicBool,
}

/// Half of the bound is open, and that was not reported before.
#[must_use]
pub(super) struct HalfFull(pub(super) bool);

impl Gate {
    pub(super) fn new(bytes_max: usize) -> Gate {
        Gate {
            bytes_max,
            open: AtomicUsize::new(0),
            sealed: AtomicUsize::new(0),
            open_tasks: AtomicUsize::new(0),
            sealed_tasks: AtomicUsize::new(0),
            reported: AtomicBool::new(false),
        }
    }

    /// Bytes of the open epoch, and of the one that is being committed.
    pub(super) fn uncommitted(&self) -> (usize, usize) {
        let read = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        (read(&self.open), read(&self.sealed))
    }

    /// Whether the task may begin a batch.
    pub(super) fn may_begin(&self, share: &Share) -> bool {
        let (open, sealed) = self.uncommitted();
        if open.saturating_add(sealed) < self.bytes_max {
            return true;
        }
        let batch = match share.batch.load(Ordering::Relaxed) {
            // The size of a first batch is not known.
            0 => return false,
            batch => usize::try_from(batch).unwrap_or(usize::MAX),
        };
        share.bytes().saturating_add(batch) <= self.part(share)
    }

    /// A task's part of the reserve.
    fn part(&self, share: &Share) -> usize {
        let tasks = match share.behind.load(Ordering::SeqCst) {
            true => 1,
            false => {
                self.open_tasks.load(Ordering::SeqCst) + self.sealed_tasks.load(Ordering::SeqCst)
            }
        };
        self.bytes_max / RESERVE / tasks.max(1)
    }

    /// How long a task is to pause after a batch that took so long.
    pub(super) fn pause(&self, share: &Share, batch: Duration) -> Duration {
        let (open, sealed) = self.uncommitted();
        let used = open.saturating_add(sealed);
        let from = self.bytes_max - self.bytes_max / RESERVE;
        // Without a commit under way a pause brings nothing.
        if used < from || sealed == 0 || share.bytes() <= self.part(share) {
            return Duration::ZERO;
        }
        let left = self.bytes_max.saturating_sub(used).max(1);
        let slower = (used - from) as f64 / left as f64;
        batch.mul_f64(slower.min(100.0)).min(PAUSE_MAX)
    }

    /// A task now has `bytes` in its open epoch; `new`: these are its first.
    pub(super) fn report(&self, share: &Share, bytes: usize, new: bool) -> HalfFull {
        let before = share.open.swap(bytes, Ordering::Relaxed);
        let grown = bytes.saturating_sub(before) as u64 + 1;
        // A small batch after a large one does not make the next one small.
        let lately = share.batch.load(Ordering::Relaxed);
        share
            .batch
            .store(grown.max(lately - lately / 8), Ordering::Relaxed);
        if new {
            self.open_tasks.fetch_add(1, Ordering::SeqCst);
        }
        let open = match bytes >= before {
            true => self.open.fetch_add(bytes - before, Ordering::SeqCst) + (bytes - before),
            false => self.open.fetch_sub(before - bytes, Ordering::SeqCst) - (before - bytes),
        };
        HalfFull(open >= self.bytes_max / 2 && !self.reported.swap(true, Ordering::SeqCst))
    }

    /// A barrier is set: that half of the bound is open is reported again for the next epoch.
    pub(super) fn begin_epoch(&self) {
        self.reported.store(false, Ordering::SeqCst);
    }

    /// A task has sealed its epoch. `changed`: it had reported changes.
    pub(super) fn seal(&self, share: &Share, changed: bool) {
        share.behind.store(false, Ordering::SeqCst);
        let bytes = share.open.swap(0, Ordering::Relaxed);
        share.sealed.fetch_add(bytes, Ordering::Relaxed);
        // Counted as sealed first: the sum is never too small.
        self.sealed.fetch_add(bytes, Ordering::SeqCst);
        let open = self.open.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if changed {
            self.sealed_tasks.fetch_add(1, Ordering::SeqCst);
            self.open_tasks.fetch_sub(1, Ordering::SeqCst);
        }
        if open < self.bytes_max / 2 {
            self.reported.store(false, Ordering::SeqCst);
        }
    }

    /// A task leaves, and drops its open epoch. `changed`: it had reported changes.
    /// Whether that has made room.
    pub(super) fn forget(&self, share: &Share, changed: bool) -> bool {
        let bytes = share.open.swap(0, Ordering::Relaxed);
        self.open.fetch_sub(bytes, Ordering::SeqCst);
        if changed {
            self.open_tasks.fetch_sub(1, Ordering::SeqCst);
        }
        bytes > 0
    }

    /// The sealed epoch is committed, of all tasks.
    pub(super) fn release(&self) {
        self.sealed.store(0, Ordering::SeqCst);
        self.sealed_tasks.store(0, Ordering::SeqCst);
    }
}

impl Share {
    /// The task is asked to seal.
    pub(super) fn ask_to_seal(&self) {
        self.behind.store(true, Ordering::SeqCst);
    }

    /// The sealed epoch is committed.
    pub(super) fn release(&self) {
        self.sealed.store(0, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.open.load(Ordering::Relaxed) + self.sealed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn a_task_that_fills_the_bound_holds_up_itself_alone() {
        let gate = Gate::new(MAX);
        let (large, small, fresh) = (Share::default(), Share::default(), Share::default());
        assert!(!gate.report(&small, 1_000, true).0);
        assert!(gate.report(&large, 2 * MAX, true).0, "half of it is open");
        assert!(!gate.may_begin(&large));
        assert!(gate.may_begin(&small));
        assert!(!gate.may_begin(&fresh), "how much it writes is not known");
        gate.begin_epoch();
        gate.seal(&large, true);
        gate.seal(&small, true);
        assert!(!gate.may_begin(&large) && gate.may_begin(&small));
        gate.release();
        large.release();
        assert!(gate.may_begin(&large));
    }

    #[test]
    fn the_reserve_is_shared_by_those_who_write() {
        let gate = Gate::new(MAX);
        let large = Share::default();
        let _ = gate.report(&large, 2 * MAX, true);
        let small: Vec<Share> = (0..7).map(|_| Share::default()).collect();
        for share in &small {
            let _ = gate.report(share, 1_000, true);
        }
        // An eighth of the reserve is 32 KiB.
        let _ = gate.report(&small[0], 20_000, false);
        assert!(!gate.may_begin(&small[0]), "its next batch may be as large");
        assert!(gate.may_begin(&small[1]));
    }

    #[test]
    fn a_small_batch_does_not_make_a_task_small() {
        let gate = Gate::new(MAX);
        let share = Share::default();
        let _ = gate.report(&share, MAX, true);
        let _ = gate.report(&share, MAX + 10, false);
        gate.seal(&share, true);
        gate.release();
        share.release();
        let other = Share::default();
        let _ = gate.report(&other, MAX, true);
        assert!(!gate.may_begin(&share));
    }

    #[test]
    fn a_task_that_a_barrier_waits_for_may_use_the_whole_reserve() {
        let gate = Gate::new(MAX);
        let (large, behind) = (Share::default(), Share::default());
        let _ = gate.report(&large, 2 * MAX, true);
        let _ = gate.report(&behind, 100_000, true);
        assert!(!gate.may_begin(&behind), "two tasks share the reserve");
        behind.ask_to_seal();
        assert!(gate.may_begin(&behind));
        assert!(!gate.may_begin(&large));
        gate.seal(&behind, true);
        assert!(!gate.may_begin(&behind), "it is not waited for any more");
    }

    #[test]
    fn a_task_that_outruns_the_commit_slows_down_before_it_stands() {
        const BATCH: Duration = Duration::from_micros(400);
        let gate = Gate::new(MAX);
        let (large, small) = (Share::default(), Share::default());
        let _ = gate.report(&small, 1_000, true);
        let _ = gate.report(&large, MAX / 2, true);
        gate.begin_epoch();
        assert_eq!(gate.pause(&large, BATCH), Duration::ZERO);
        gate.seal(&large, true);
        let pause_at = |eighths: usize| {
            let _ = gate.report(&large, MAX / 8 * eighths - MAX / 2, false);
            gate.pause(&large, BATCH)
        };
        assert_eq!(pause_at(5), Duration::ZERO);
        let (slow, slower) = (pause_at(7), pause_at(8));
        assert!(slow >= BATCH && slow < 2 * BATCH, "{slow:?}");
        assert_eq!(slower, PAUSE_MAX);
        assert_eq!(gate.pause(&small, BATCH), Duration::ZERO, "it has little");
        gate.release();
        large.release();
        assert_eq!(gate.pause(&large, BATCH), Duration::ZERO);
    }
}
