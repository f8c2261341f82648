//! What becomes of a stage's messages and tasks when something goes wrong, with defaults and their reasons.

use std::time::Duration;

use serde::Serialize;

use super::setting::Setting;
use super::units::Share;
use super::words::words;

words! {
    /// What happens to a message that a component rejects.
    OnRejected, "on-rejected", "an on-rejected" {
        /// It goes to the stream of dead letters.
        DeadLetter = "dead-letter",
        /// It is passed over.
        Skip = "skip",
        /// The task stops before it.
        Fail = "fail",
    } later []
}

words! {
    /// What happens to a message on which a component traps or breaks a limit, and to a record that is no message.
    OnFault, "on-fault", "an on-fault" {
        /// It goes to the stream of dead letters.
        DeadLetter = "dead-letter",
        /// It is passed over.
        Skip = "skip",
        /// The task stops before it.
        Fail = "fail",
    } later []
}

words! {
    /// What becomes of the later messages of a key that has a dead letter.
    DeadLetterOrder, "dead-letter-order", "a dead-letter-order" {
        /// They are processed.
        Message = "message",
        /// They follow it into the dead letters.
        Key = "key",
    } later []
}

words! {
    /// What becomes of the job when a task is held.
    WhenHeld, "when-held", "a when-held" {
        /// The other tasks are drained, and the job ends.
        Stop = "stop",
        /// The others go on, and the task waits for a person.
        Wait = "wait",
    } later []
}

/// `retry`: how often a message is tried before `on-fault` or `on-rejected` says what becomes of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retry {
    /// How often a message must fail alone, in a new instance each time. Default: 2, because something else may have gone wrong
    /// once.
    pub attempts: u32,
    /// How often a message must be rejected. Default: 1, because the component has said what it thinks.
    pub rejected_attempts: u32,
    /// How long to wait before the second try; twice as long before each further one, give or take a fifth. Default: not at all.
    pub backoff: Setting<Duration>,
    /// The longest wait. Default: 30 s.
    pub backoff_max: Setting<Duration>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 2,
            rejected_attempts: 1,
            backoff: Duration::ZERO.into(),
            backoff_max: Duration::from_secs(30).into(),
        }
    }
}

/// `breaker`: a task of which too many of the last messages fail is held, before all of them are passed over.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Breaker {
    /// The share of the last messages that may fail. Default: 50 %. With 100 % there is no breaker.
    pub share: Setting<Share>,
    /// How many messages are the last ones, about. Default: 1,000.
    pub window: u32,
    /// Fewer messages are not judged. Default: 20.
    pub at_least: u32,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            share: Share(50).into(),
            window: 1_000,
            at_least: 20,
        }
    }
}

/// `restart`: how often a task whose instance cannot be made, or whose input or state cannot be read, tries again.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Restart {
    /// How often, before it is held. Default: never with `when-held = "stop"`, because what starts the process again does so too;
    /// 10 times with `"wait"`.
    pub attempts: u32,
    /// How long to wait before the first time; twice as long before each further one, give or take a fifth. Default: 1 s.
    pub backoff: Setting<Duration>,
    /// The longest wait. Default: 1 min.
    pub backoff_max: Setting<Duration>,
}

impl Restart {
    /// The default.
    pub(super) fn of(when_held: WhenHeld) -> Restart {
        Restart {
            attempts: match when_held {
                WhenHeld::Stop => 0,
                WhenHeld::Wait => 10,
            },
            backoff: Duration::from_secs(1).into(),
            backoff_max: Duration::from_secs(60).into(),
        }
    }
}
