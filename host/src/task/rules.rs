//! The rules of a stage for what goes wrong: what becomes of messages that fail, how often something is tried, and when too many
//! messages have failed. Plain values; nothing here knows a guest.

use std::time::Duration;

use crate::records::Failing;

/// The rules of a stage.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What to do with messages that the guest rejects.
    pub on_rejected: Policy,
    /// What to do with messages that the guest fails at, and with records that are no messages.
    pub on_fault: Policy,
    /// What becomes of the job when a task is held.
    pub when_held: WhenHeld,
    /// How often a message must fail alone, in a new instance each time; at least 1.
    pub attempts: u32,
    /// How often a message must be rejected; at least 1.
    pub rejected_attempts: u32,
    /// How long to wait between these tries.
    pub backoff: Backoff,
    /// How often a task that cannot go on, and no message is to blame, tries again.
    pub restarts: u32,
    /// How long to wait before that.
    pub restart_backoff: Backoff,
    /// When too many messages fail.
    pub breaker: Breaker,
}

/// What becomes of a message that cannot be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It goes to the dead-letter stream.
    DeadLetter,
    /// It is counted, and dropped.
    Skip,
    /// The task is held before it.
    Fail,
}

/// What becomes of the job when a task is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHeld {
    /// The other tasks are drained, and the job ends.
    Stop,
    /// The others go on.
    Wait,
}

impl Default for Rules {
    /// Nothing is passed over, and nothing is waited for.
    fn default() -> Rules {
        Rules {
            on_rejected: Policy::Fail,
            on_fault: Policy::Fail,
            when_held: WhenHeld::Stop,
            attempts: 2,
            rejected_attempts: 1,
            backoff: Backoff::default(),
            restarts: 0,
            restart_backoff: Backoff::default(),
            breaker: Breaker::default(),
        }
    }
}

/// Waits that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    /// The first.
    pub first: Duration,
    /// None is longer, but for the fifth that chance adds.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many failures; `None`: there is none. `chance`, from 0 to 1, makes it up to a fifth shorter or longer, so
    /// that not all who failed together try again together.
    pub fn wait(&self, failures: u32, chance: f64) -> Option<Duration> {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
        let wait = self.first.saturating_mul(doubled).min(self.max);
        (!wait.is_zero()).then(|| wait.mul_f64(0.8 + 0.4 * chance))
    }
}

/// Holds a task of which too many of the last messages failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many of 100 may fail; 100: there is no breaker.
    pub share_percent: u32,
    /// When the counts come to so many messages together, both are halved.
    pub window: u32,
    /// Fewer messages are not judged.
    pub at_least: u32,
}

impl Default for Breaker {
    /// None.
    fn default() -> Breaker {
        Breaker {
            share_percent: 100,
            window: 1_000,
            at_least: 20,
        }
    }
}

impl Breaker {
    /// Whether too many would have failed if the next message did.
    pub fn trips(&self, counts: &Failing) -> bool {
        let failed = u64::from(counts.failed) + 1;
        let all = failed + u64::from(counts.passed);
        counts.unjudged == 0
            && all >= u64::from(self.at_least)
            && failed * 100 > all * u64::from(self.share_percent)
    }

    /// Messages were processed.
    pub fn passed(&self, counts: &mut Failing, messages: u64) {
        let messages = self.judged(counts, messages);
        let passed = u64::from(counts.passed) + messages;
        self.note(counts, passed, u64::from(counts.failed));
    }

    /// A message failed.
    pub fn failed(&self, counts: &mut Failing) {
        let failed = u64::from(counts.failed) + self.judged(counts, 1);
        self.note(counts, u64::from(counts.passed), failed);
    }

    /// How many of so many messages are judged.
    fn judged(&self, counts: &mut Failing, messages: u64) -> u64 {
        let unjudged = counts.unjudged.min(messages);
        counts.unjudged -= unjudged;
        messages - unjudged
    }

    fn note(&self, counts: &mut Failing, mut passed: u64, mut failed: u64) {
        while passed + failed >= u64::from(self.window.max(2)) {
            passed /= 2;
            failed /= 2;
        }
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (counts.passed, counts.failed) = (count(passed), count(failed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker {
        share_percent: 50,
        window: 1_000,
        at_least: 20,
    };

    /// How many of a row of bad messages fail before it trips.
    fn until_it_trips(counts: &mut Failing) -> u32 {
        let mut failed = 0;
        while !BREAKER.trips(counts) {
            BREAKER.failed(counts);
            failed += 1;
        }
        failed
    }

    #[test]
    fn a_stream_that_goes_bad_trips_within_a_window() {
        for good in [0, 1, 100, 499, 500, 999, 1_000, 10_000, u64::MAX / 2] {
            let mut counts = Failing::default();
            BREAKER.passed(&mut counts, good);
            let failed = until_it_trips(&mut counts);
            assert!(failed <= 500, "{failed} after {good}");
            assert!(u64::from(failed) + good >= 19, "{failed} after {good}");
            // It stays so.
            assert!(BREAKER.trips(&counts));
        }
    }

    #[test]
    fn a_share_of_bad_messages_that_is_allowed_never_trips() {
        let mut counts = Failing::default();
        for message in 0..100_000 {
            match message % 5 < 2 {
                true if message > 20 => assert!(!BREAKER.trips(&counts)),
                _ => {}
            }
            match message % 5 < 2 {
                true => BREAKER.failed(&mut counts),
                false => BREAKER.passed(&mut counts, 1),
            }
        }
        let none = Breaker {
            share_percent: 100,
            ..BREAKER
        };
        let mut counts = Failing::default();
        for _ in 0..10_000 {
            assert!(!none.trips(&counts));
            none.failed(&mut counts);
        }
    }

    #[test]
    fn messages_that_are_not_judged_do_not_count() {
        let mut counts = Failing::default();
        until_it_trips(&mut counts);
        let before = counts;
        counts.unjudged = 30;
        for _ in 0..20 {
            assert!(!BREAKER.trips(&counts));
            BREAKER.failed(&mut counts);
        }
        BREAKER.passed(&mut counts, 10);
        assert_eq!(counts, before);
        assert!(BREAKER.trips(&counts));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            max: Duration::from_secs(5),
        };
        let waits: Vec<_> = (1..=40)
            .map(|failures| backoff.wait(failures, 0.5))
            .collect();
        let seconds = |wait: usize| waits[wait].map(|wait| wait.as_secs());
        assert_eq!(
            [seconds(0), seconds(1), seconds(2)],
            [Some(1), Some(2), Some(4)]
        );
        assert_eq!([seconds(3), seconds(39)], [Some(5), Some(5)]);
        assert_eq!(backoff.wait(1, 0.0), Some(Duration::from_millis(800)));
        assert_eq!(backoff.wait(1, 1.0), Some(Duration::from_millis(1_200)));
        assert_eq!(Backoff::default().wait(3, 1.0), None);
    }
}
