//! How much time a call has taken, as far as that is the guest's own doing: what its thread computed, and what it waited for by
//! its own wish. A call that is not given a processor, or a machine that stands still, takes nothing.
//!
//! The processor's clock is read only in calls that last, because reading it costs as much as a short call.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::engine::TICK;

/// A call is first looked at when the ticker has moved so often.
pub(super) const FIRST_LOOK_TICKS: u64 = 2;

/// A wait is looked at so often within what the call has left, and no wait between two looks counts for more than it was meant to
/// take: what is more is the machine's.
const LOOKS: u32 = 8;
/// A wait is not looked at more often than this.
const LOOK_LEAST: Duration = TICK;

/// The time of a call.
#[derive(Debug, Clone)]
pub(super) struct CallTime {
    limit: Duration,
    began: Instant,
    /// What the thread's clock showed when the call began, once the call has been looked at.
    processor: Option<Duration>,
    waited: Duration,
}

impl CallTime {
    pub(super) fn new() -> CallTime {
        CallTime {
            limit: Duration::ZERO,
            began: Instant::now(),
            processor: None,
            waited: Duration::ZERO,
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

    /// The guest waits for something, for this long at most before [`CallTime::count`] is asked.
    pub(super) fn wait(&mut self) -> Waiting {
        Waiting {
            began: Instant::now(),
            at_most: (self.left() / LOOKS).max(LOOK_LEAST),
        }
    }

    /// The wait is over, or has lasted for as long as it may. It counts for `most` at most.
    pub(super) fn count(&mut self, waiting: &Waiting, most: Duration) {
        self.waited += waiting.began.elapsed().min(waiting.at_most).min(most);
    }
}

/// A stretch of waiting.
pub(super) struct Waiting {
    began: Instant,
    /// How long it may last.
    pub(super) at_most: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_run_uses_no_time() {
        let mut time = CallTime::new();
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
    fn of_a_wait_that_lasts_longer_than_it_was_meant_to_the_rest_does_not_count() {
        let mut time = CallTime::new();
        time.begin(Duration::from_millis(200));
        let waiting = time.wait();
        assert!(waiting.at_most <= Duration::from_millis(25));
        std::thread::sleep(Duration::from_millis(400));
        time.count(&waiting, Duration::MAX);
        assert!(time.left() > Duration::from_millis(150));
        let mut looks = 0;
        while !time.is_over() {
            let waiting = time.wait();
            std::thread::sleep(waiting.at_most);
            time.count(&waiting, Duration::MAX);
            looks += 1;
        }
        assert!((8..60).contains(&looks), "{looks} looks");
    }
}
