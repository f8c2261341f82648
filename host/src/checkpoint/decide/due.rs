//! When a barrier is due. Facts in, a decision out: no thread, clock or disk.

use std::time::{Duration, Instant};

/// What asked for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Time has passed.
    Interval,
    /// Less time has passed, and checkpoints cost little.
    Early,
    /// Half of the bytes that may be uncommitted are.
    Bytes,
    /// A guest asked.
    Guest,
    /// An operator asked.
    Operator,
    /// Other code takes over.
    Swap,
    /// A reader has chosen where its input begins, which must not be chosen again.
    Start,
    /// All inputs have ended.
    EndOfInput,
    /// The job is being stopped.
    Drain,
}

impl Trigger {
    /// The word for it in records and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Interval => "interval",
            Trigger::Early => "early",
            Trigger::Bytes => "bytes",
            Trigger::Guest => "guest",
            Trigger::Operator => "operator",
            Trigger::Swap => "swap",
            Trigger::Start => "start",
            Trigger::EndOfInput => "end-of-input",
            Trigger::Drain => "drain",
        }
    }
}

/// How often to checkpoint.
#[derive(Debug, Clone)]
pub struct CadenceOptions {
    /// Whether time asks for checkpoints at all.
    pub enabled: bool,
    /// The longest time that a change waits for its barrier.
    pub interval: Duration,
    /// Whether a barrier comes before that while checkpoints are cheap.
    pub early: bool,
    /// Uncommitted bytes at which processing stops; a barrier is due at half of it.
    pub bytes_max: usize,
    /// The shortest time from the end of a checkpoint to the next barrier.
    pub min_pause: Duration,
}

/// What is known when the question is asked.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Whether a task has processed something since the last barrier.
    pub changed: bool,
    /// Uncommitted bytes of the open epoch.
    pub open_bytes: usize,
    /// Whether an epoch is sealed or being committed: one open, one being committed, no more.
    pub committing: bool,
    /// Who asked since the last barrier.
    pub requested: Option<Trigger>,
    /// When the last barrier was set; the start of the job before the first.
    pub last_barrier: Instant,
    /// When the last checkpoint was over; the start of the job before the first.
    pub last_end: Instant,
    /// How long the last one took from its seals to its end; [`FIRST_COST`] before the first.
    pub last_cost: Duration,
}

/// What the first checkpoint is taken to cost.
pub const FIRST_COST: Duration = Duration::from_millis(5);

/// Checkpoints that come before their interval take at most one part in so many of the time, and so of a core.
const EARLY_SHARE: u32 = 20;

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Set a barrier.
    Now(Trigger),
    /// Ask again then, or when a fact changes.
    At(Instant),
    /// Ask again when a fact changes.
    WhenChanged,
}

/// Decides whether a barrier is due.
pub fn barrier(options: &CadenceOptions, facts: &Facts, now: Instant) -> Due {
    if facts.committing {
        return Due::WhenChanged;
    }
    if let Some(
        trigger @ (Trigger::EndOfInput
        | Trigger::Drain
        | Trigger::Operator
        | Trigger::Swap
        | Trigger::Start),
    ) = facts.requested
    {
        return Due::Now(trigger);
    }
    if !facts.changed {
        return Due::WhenChanged;
    }
    let (trigger, at) = if facts.open_bytes >= options.bytes_max / 2 {
        // Memory does not wait for `min_pause`.
        return Due::Now(Trigger::Bytes);
    } else if let Some(trigger) = facts.requested {
        (trigger, facts.last_barrier)
    } else if options.enabled {
        by_time(options, facts)
    } else {
        return Due::WhenChanged;
    };
    let at = at.max(facts.last_end + options.min_pause);
    if at <= now {
        Due::Now(trigger)
    } else {
        Due::At(at)
    }
}

/// The barrier that time asks for. A job that does little pays little for a checkpoint, and need not wait for the interval: what it
/// has done is seen at once.
fn by_time(options: &CadenceOptions, facts: &Facts) -> (Trigger, Instant) {
    let interval = facts.last_barrier + options.interval;
    let early = facts.last_end + facts.last_cost.saturating_mul(EARLY_SHARE - 1);
    match options.early && early < interval {
        true => (Trigger::Early, early),
        false => (Trigger::Interval, interval),
    }
}

/// The longest wait between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How long to wait before attempt number `failed + 1`: doubling from 100 ms to [`BACKOFF_MAX`].
pub fn backoff(failed: u32) -> Duration {
    let doubled = 100u64.saturating_mul(1 << failed.saturating_sub(1).min(20));
    Duration::from_millis(doubled).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CadenceOptions {
        CadenceOptions {
            enabled: true,
            interval: Duration::from_secs(1),
            early: false,
            bytes_max: 1000,
            min_pause: Duration::from_millis(200),
        }
    }

    fn facts(now: Instant) -> Facts {
        Facts {
            changed: true,
            open_bytes: 0,
            committing: false,
            requested: None,
            last_barrier: now,
            last_end: now,
            last_cost: Duration::from_millis(10),
        }
    }

    #[test]
    fn nothing_changed_means_nothing_due() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let idle = Facts {
            changed: false,
            ..facts(now)
        };
        assert_eq!(barrier(&options(), &idle, later), Due::WhenChanged);
        let asked = Facts {
            requested: Some(Trigger::Operator),
            ..idle
        };
        assert_eq!(
            barrier(&options(), &asked, now),
            Due::Now(Trigger::Operator)
        );
    }

    #[test]
    fn a_lone_message_after_silence_does_not_wait() {
        let now = Instant::now();
        let due = barrier(&options(), &facts(now), now + Duration::from_secs(60));
        assert_eq!(due, Due::Now(Trigger::Interval));
        let due = barrier(&options(), &facts(now), now + Duration::from_millis(400));
        assert_eq!(due, Due::At(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_barrier_is_early_while_checkpoints_take_a_twentieth_of_the_time() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let early = CadenceOptions {
            early: true,
            min_pause: Duration::from_millis(20),
            ..options()
        };
        let taking = |ms| Facts {
            last_cost: Duration::from_millis(ms),
            ..facts(now)
        };
        assert_eq!(barrier(&early, &taking(10), now), Due::At(after(190)));
        let due = barrier(&early, &taking(10), after(190));
        assert_eq!(due, Due::Now(Trigger::Early));
        // What costs much waits for the interval, and what costs nothing for the pause.
        let due = barrier(&early, &taking(100), after(999));
        assert_eq!(due, Due::At(after(1000)));
        let due = barrier(&early, &taking(100), after(1000));
        assert_eq!(due, Due::Now(Trigger::Interval));
        assert_eq!(barrier(&early, &taking(0), now), Due::At(after(20)));
    }

    #[test]
    fn bytes_do_not_wait_and_guests_wait_for_the_pause() {
        let now = Instant::now();
        let full = Facts {
            open_bytes: 500,
            ..facts(now)
        };
        assert_eq!(barrier(&options(), &full, now), Due::Now(Trigger::Bytes));
        let guest = Facts {
            requested: Some(Trigger::Guest),
            ..facts(now)
        };
        assert_eq!(
            barrier(&options(), &guest, now),
            Due::At(now + Duration::from_millis(200))
        );
    }

    #[test]
    fn one_epoch_is_committed_at_a_time() {
        let now = Instant::now();
        let busy = Facts {
            committing: true,
            requested: Some(Trigger::Drain),
            open_bytes: 1000,
            ..facts(now)
        };
        assert_eq!(barrier(&options(), &busy, now), Due::WhenChanged);
    }

    #[test]
    fn disabled_checkpoints_close_by_bytes_only() {
        let now = Instant::now();
        let disabled = CadenceOptions {
            enabled: false,
            ..options()
        };
        assert_eq!(
            barrier(&disabled, &facts(now), now + Duration::from_secs(60)),
            Due::WhenChanged
        );
        let full = Facts {
            open_bytes: 500,
            ..facts(now)
        };
        assert_eq!(barrier(&disabled, &full, now), Due::Now(Trigger::Bytes));
    }

    #[test]
    fn backoff_doubles_to_a_bound() {
        let waits: Vec<u64> = [1, 2, 3, 8, 40]
            .map(|failed| backoff(failed).as_millis() as u64)
            .to_vec();
        assert_eq!(waits, [100, 200, 400, 10_000, 10_000]);
    }
}
