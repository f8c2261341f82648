//! How much time a call has taken, as far as that is the guest's own doing: what its thread computed, and what it waited for by
//! its own wish. A call that is not given a processor, or a machine that stands still, takes nothing.
//!
//! The processor's clock is read only where a call lasts, because reading it costs as much as a short call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::engine::TICK;

/// A call is first looked at when the ticker has moved so often.
pub(super) const FIRST_LOOK_TICKS: u64 = 2;

/// How long threads that wanted to run did not, all told, as far as the ticker has noticed.
#[derive(Debug, Clone, Default)]
pub(super) struct Standstill(Arc<AtomicU64>);

impl Standstill {
    /// The ticker slept for so long.
    pub(super) fn note(&self, slept: Duration) {
        let late = slept.saturating_sub(TICK).as_nanos();
        self.0
            .fetch_add(u64::try_from(late).unwrap_or(0), Ordering::Relaxed);
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The time of a call.
#[derive(Debug, Clone)]
pub(super) struct CallTime {
    limit: Duration,
    began: Instant,
    /// What the thread's clock showed when the call began, once the call has been looked at.
    processor: Option<Duration>,
    waited: Duration,
    standstill: Standstill,
}

impl CallTime {
    pub(super) fn new(standstill: Standstill) -> CallTime {
        CallTime {
            limit: Duration::ZERO,
            began: Instant::now(),
            processor: None,
            waited: Duration::ZERO,
            standstill,
        }
    }

    /// A call begins, on this thread.
    pub(super) fn begin(&mut self, limit: Duration) {
        self.limit = limit;
        self.began = Instant::now();
        self.processor = None;
        self.waited = Duration::ZERO;
    }

    /// What the call has left. It never has less than this says.
    pub(super) fn left(&mut self) -> Duration {
        let passed = self.began.elapsed();
        let first_look = TICK * u32::try_from(FIRST_LOOK_TICKS).unwrap_or(1);
        if passed < first_look {
            return self.limit.saturating_sub(passed);
        }
        let now = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        // What it computed before the first look is not known; it is looked at early.
        let began = *self
            .processor
            .get_or_insert_with(|| now.saturating_sub(passed.min(first_look)));
        let used = now.saturating_sub(began) + self.waited;
        self.limit.saturating_sub(used.min(passed))
    }

    /// Whether it has none left.
    pub(super) fn is_over(&mut self) -> bool {
        self.left().is_zero()
    }

    /// The guest begins to wait for something.
    pub(super) fn wait(&self) -> Waiting {
        Waiting {
            began: Instant::now(),
            standstill: self.standstill.now(),
        }
    }

    /// The wait is over, or has lasted for a while. What it took is counted, but for the time in which nobody ran.
    pub(super) fn count(&mut self, waiting: &mut Waiting) {
        let now = self.wait();
        let stood = now.standstill.saturating_sub(waiting.standstill);
        self.waited += (now.began - waiting.began).saturating_sub(stood);
        *waiting = now;
    }
}

/// Since when a guest waits.
pub(super) struct Waiting {
    began: Instant,
    standstill: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_run_uses_no_time() {
        let mut time = CallTime::new(Standstill::default());
        time.begin(Duration::from_millis(60));
        std::thread::sleep(Duration::from_millis(120));
        assert!(
            time.left() >= Duration::from_millis(45),
            "{:?}",
            time.left()
        );
        let began = Instant::now();
        while !time.is_over() {
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert!(began.elapsed() >= Duration::from_millis(45));
    }

    #[test]
    fn waiting_counts_but_for_the_time_in_which_nobody_ran() {
        let standstill = Standstill::default();
        let mut time = CallTime::new(standstill.clone());
        time.begin(Duration::from_millis(200));
        let mut waiting = time.wait();
        std::thread::sleep(Duration::from_millis(120));
        standstill.note(Duration::from_millis(105));
        time.count(&mut waiting);
        assert!(!time.is_over());
        std::thread::sleep(Duration::from_millis(200));
        time.count(&mut waiting);
        assert!(time.is_over());
    }
}
