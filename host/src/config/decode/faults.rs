//! What `[[stage]]` says about messages that fail and tasks that are held.

use std::ops::Range;
use std::time::Duration;

use super::general::size_in;
use super::ports::{self, StreamRef};
use crate::config::faults::{
    Breaker, DeadLetterOrder, OnFault, OnRejected, Restart, Retry, WhenHeld,
};
use crate::config::setting::{Problem, Setting};
use crate::config::swap::Swap;
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;

/// More is the same as for ever.
const ATTEMPTS_MAX: u32 = 1_000_000;

/// More would be no window.
const WINDOW_MAX: u32 = 1_000_000_000;

/// What a stage says about them.
pub(super) struct Faults<'a> {
    pub(super) on_rejected: Setting<OnRejected>,
    pub(super) on_fault: Setting<OnFault>,
    pub(super) dead_letters: Option<StreamRef<'a>>,
    pub(super) order: Setting<DeadLetterOrder>,
    pub(super) order_span: Range<usize>,
    pub(super) when_held: Setting<WhenHeld>,
    pub(super) retry: Retry,
    pub(super) breaker: Breaker,
    pub(super) restart: Restart,
    pub(super) swap: Swap,
}

/// Reads all of it.
pub(super) fn decode<'a>(table: &mut Table<'a>, declared: &[Entry<'a>]) -> Faults<'a> {
    let policies = policies(table);
    let dead_letters = dead_letters(table, &policies, declared);
    let order = table.text("dead-letter-order");
    let order = order.unwrap_or(DeadLetterOrder::Message.into());
    let order_span = table.span_of("dead-letter-order");
    if *order == DeadLetterOrder::Key && dead_letters.is_none() {
        let problem = Problem::new("`dead-letter-order` is about dead letters, and there are none");
        let help = "set dead-letters = \"STREAM\"";
        table.cx.error(&order_span, problem.help(help));
    }
    let when_held = table.text("when-held").unwrap_or(WhenHeld::Stop.into());
    Faults {
        on_rejected: policies.on_rejected,
        on_fault: policies.on_fault,
        dead_letters,
        order,
        order_span,
        retry: retry(table),
        breaker: breaker(table),
        restart: restart(table, *when_held),
        swap: swap(table),
        when_held,
    }
}

/// What becomes of messages that cannot be processed.
struct Policies {
    on_rejected: Setting<OnRejected>,
    on_fault: Setting<OnFault>,
    /// For each of the two keys whether it sends dead letters; `None` if that is not known, because the key itself is wrong.
    wanted: [(&'static str, Option<bool>); 2],
}

/// Where `dead-letters` is declared, that is where they go unless something else is said.
fn policies(table: &mut Table<'_>) -> Policies {
    let letters = table.peek("dead-letters").is_some();
    let unset = ["on-rejected", "on-fault"].map(|key| table.peek(key).is_none());
    let on_rejected = table.text::<OnRejected>("on-rejected");
    let on_fault = table.text::<OnFault>("on-fault");
    let sends = |set: Option<bool>, unset: bool| set.or(unset.then_some(letters));
    let rejected = on_rejected.as_ref();
    let rejected = rejected.map(|policy| **policy == OnRejected::DeadLetter);
    let fault = on_fault.as_ref();
    let fault = fault.map(|policy| **policy == OnFault::DeadLetter);
    let (rejected_default, fault_default) = match letters {
        true => (OnRejected::DeadLetter, OnFault::DeadLetter),
        false => (OnRejected::Fail, OnFault::Fail),
    };
    Policies {
        on_rejected: on_rejected.unwrap_or(rejected_default.into()),
        on_fault: on_fault.unwrap_or(fault_default.into()),
        wanted: [
            ("on-rejected", sends(rejected, unset[0])),
            ("on-fault", sends(fault, unset[1])),
        ],
    }
}

fn dead_letters<'a>(
    table: &mut Table<'a>,
    policies: &Policies,
    declared: &[Entry<'a>],
) -> Option<StreamRef<'a>> {
    let wanted = &policies.wanted;
    match table.entry("dead-letters") {
        // What somebody skips goes there, whatever is set.
        Some(entry) => ports::stream_ref(&entry, declared),
        None => {
            if let Some((key, _)) = wanted.iter().find(|(_, wanted)| *wanted == Some(true)) {
                let problem = Problem::new(format!("`{key}` names no stream for dead letters"));
                let span = table.span_of(key);
                let problem = problem.help("set dead-letters = \"STREAM\"");
                table.cx.error(&span, problem);
            }
            None
        }
    }
}

/// How often a message is tried.
fn retry(stage: &mut Table<'_>) -> Retry {
    let default = Retry::default();
    let Some(mut table) = stage.table("retry", "retry = { attempts = N }") else {
        return default;
    };
    let attempts = table.integer_u32("attempts", 1..=ATTEMPTS_MAX);
    let rejected_attempts = table.integer_u32("rejected-attempts", 1..=ATTEMPTS_MAX);
    let (backoff, backoff_max) = backoff(&mut table, (&default.backoff, &default.backoff_max));
    table.finish(|_| None);
    Retry {
        attempts: attempts.unwrap_or(default.attempts),
        rejected_attempts: rejected_attempts.unwrap_or(default.rejected_attempts),
        backoff,
        backoff_max,
    }
}

/// When too many messages fail.
fn breaker(stage: &mut Table<'_>) -> Breaker {
    let default = Breaker::default();
    let Some(mut table) = stage.table("breaker", "breaker = { share = \"50%\" }") else {
        return default;
    };
    let share = table.text("share");
    let window = table.integer_u32("window", 1..=WINDOW_MAX);
    let at_least = table.integer_u32("at-least", 1..=WINDOW_MAX);
    table.finish(|_| None);
    let breaker = Breaker {
        share: share.unwrap_or(default.share),
        window: window.unwrap_or(default.window),
        at_least: at_least.unwrap_or_else(|| default.at_least.min(window.unwrap_or(u32::MAX))),
    };
    // Where both counts together come to the window, they are halved.
    if breaker.at_least > breaker.window {
        let problem = Problem::new(format!(
            "`at-least` of {} is never reached: the `window` has {} messages",
            breaker.at_least, breaker.window
        ));
        let span = table.span_of("at-least");
        table.cx.error(&span, problem.help("make it smaller"));
    }
    breaker
}

/// How often a task tries again to go on.
fn restart(stage: &mut Table<'_>, when_held: WhenHeld) -> Restart {
    let default = Restart::of(when_held);
    let Some(mut table) = stage.table("restart", "restart = { attempts = N }") else {
        return default;
    };
    let attempts = table.integer_u32("attempts", 0..=ATTEMPTS_MAX);
    let (backoff, backoff_max) = backoff(&mut table, (&default.backoff, &default.backoff_max));
    table.finish(|_| None);
    Restart {
        attempts: attempts.unwrap_or(default.attempts),
        backoff,
        backoff_max,
    }
}

/// How new code is watched.
fn swap(stage: &mut Table<'_>) -> Swap {
    let default = Swap::default();
    let Some(mut table) = stage.table("swap", "swap = { probation = \"1m\" }") else {
        return default;
    };
    let probation = table.text("probation");
    let max_slowdown = table.text("max-slowdown");
    let hold_bytes = size_in(&mut table, "hold-bytes", ByteSize::mib(1), ByteSize::MAX);
    let migration_timeout = table.text("migration-timeout");
    table.finish(|_| None);
    Swap {
        probation: probation.unwrap_or(default.probation),
        max_slowdown: max_slowdown.unwrap_or(default.max_slowdown),
        hold_bytes: hold_bytes.unwrap_or(default.hold_bytes),
        migration_timeout: migration_timeout.unwrap_or(default.migration_timeout),
    }
}

/// The first wait and the longest.
fn backoff(
    table: &mut Table<'_>,
    (default, default_max): (&Setting<Duration>, &Setting<Duration>),
) -> (Setting<Duration>, Setting<Duration>) {
    let first = table.text("backoff").unwrap_or_else(|| default.clone());
    let longest = table.text("backoff-max");
    let longest = longest.unwrap_or_else(|| default_max.clone());
    if *first > *longest {
        let problem = Problem::new("`backoff` is longer than `backoff-max`");
        let span = table.span_of("backoff");
        table
            .cx
            .error(&span, problem.help("make it shorter, or set `backoff-max`"));
    }
    (first, longest)
}
