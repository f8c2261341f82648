//! Why a task stopped: a cause that keeps its shape, and the text that is made of it.

use std::fmt;
use std::sync::Arc;

use super::parked::KEYS_MAX;
use crate::connectors::SourceError;
use crate::model::Offset;
use crate::model::shown::{self, SENTENCE_BYTES};
use crate::runtime::{Fault, FaultKind};
use crate::state::StateError;

/// What stops a task.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A call of the guest failed.
    Fault(Fault),
    /// The guest rejected a message, and `on-rejected` is "fail".
    Rejected {
        /// The message.
        offset: Offset,
        /// The guest's reason, 1 KiB at most.
        reason: String,
        /// The guest's own detail, 16 KiB at most.
        detail: Option<Vec<u8>>,
    },
    /// A record of an input is not a message.
    Undecodable {
        /// Why.
        reason: String,
    },
    /// Too many messages have failed, and another one did.
    Breaker {
        /// That one.
        offset: Offset,
        /// How many of the last messages have failed.
        failed: u32,
        /// How many these are.
        of: u32,
        /// So many of 100 may fail.
        share_percent: u32,
        /// What is wrong with that one.
        reason: String,
    },
    /// A message becomes a letter, and too many keys wait for letters already.
    Parked {
        /// That message.
        offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// A message must not be processed together with one before it: that one becomes a letter of the same key.
    Split {
        /// The later one.
        offset: Offset,
    },
    /// The process died with a message in a call.
    Crash {
        /// How often.
        deaths: u32,
    },
    /// An input could not be read.
    Source(Arc<SourceError>),
    /// The task could not be made from what is committed of it.
    Restore(Arc<StateError>),
    /// The guest asked to be stopped, for this reason.
    Stop(String),
    /// `on-end` answered with an error: the guest's reason, 1 KiB at most.
    OnEnd(String),
    /// `migrate` answered with an error: the guest's reason, 1 KiB at most.
    Migrate(String),
}

impl Cause {
    /// The word for it in messages: `trap`, `deadline`, `instantiate`, `host`, `panic`, `rejected`, `undecodable`, `breaker`,
    /// `source`, `stop`, `on-end` or `migrate`.
    pub fn kind(&self) -> &'static str {
        match self {
            Cause::Fault(fault) => fault.kind.name(),
            Cause::Rejected { .. } => "rejected",
            Cause::Undecodable { .. } => "undecodable",
            Cause::Breaker { .. } => "breaker",
            Cause::Parked { .. } => "parked",
            Cause::Split { .. } => "behind",
            Cause::Crash { .. } => "crash",
            Cause::Source(_) => "source",
            Cause::Restore(_) => "host",
            Cause::Stop(_) => "stop",
            Cause::OnEnd(_) => "on-end",
            Cause::Migrate(_) => "migrate",
        }
    }

    /// Whether a message is to blame, so that the task can go on without it.
    pub fn is_of_a_message(&self) -> bool {
        match self {
            Cause::Fault(fault) => fault.kind.may_be_a_message(),
            Cause::Rejected { .. }
            | Cause::Undecodable { .. }
            | Cause::Breaker { .. }
            | Cause::Parked { .. }
            | Cause::Split { .. }
            | Cause::Crash { .. } => true,
            Cause::Source(_)
            | Cause::Restore(_)
            | Cause::Stop(_)
            | Cause::OnEnd(_)
            | Cause::Migrate(_) => false,
        }
    }

    /// Whether the task can go on only if it is made anew from what is committed of it.
    pub fn needs_making(&self) -> bool {
        match self {
            Cause::Fault(fault) => matches!(fault.kind, FaultKind::Host | FaultKind::Panic),
            Cause::Source(_) | Cause::Restore(_) | Cause::Stop(_) => true,
            _ => false,
        }
    }

    /// Whether it is of the code, where no message is to blame for it.
    pub(super) fn may_be_of_the_code(&self) -> bool {
        match self {
            Cause::Fault(fault) => !matches!(fault.kind, FaultKind::Host | FaultKind::Panic),
            Cause::OnEnd(_) | Cause::Migrate(_) => true,
            _ => false,
        }
    }

    /// What the guest wrote and its backtrace, as lines; empty if there is nothing.
    pub fn detail(&self) -> String {
        match self {
            Cause::Fault(fault) => fault.detail(),
            _ => String::new(),
        }
    }

    /// What happened, in a sentence of 4 KiB at most.
    pub fn sentence(&self) -> String {
        match self {
            Cause::Fault(fault) => fault.message.clone(),
            other => other.to_string(),
        }
    }
}

/// What happened, for a person: a sentence of 4 KiB at most; after it, for a fault, what the guest wrote and its backtrace.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &dyn fmt::Display| shown::line(text, SENTENCE_BYTES);
        match self {
            Cause::Fault(fault) => fault.fmt(f),
            Cause::Rejected { offset, reason, .. } => write!(
                f,
                "offset {offset} was rejected and `on-rejected` is \"fail\": {}",
                short(reason)
            ),
            Cause::Undecodable { reason } => f.write_str(&short(reason)),
            Cause::Breaker {
                failed,
                of,
                share_percent,
                reason,
                ..
            } => f.write_str(&short(&format_args!(
                "{failed} of the last {of} messages failed, where `breaker` allows {share_percent}%, and so did this one ({reason})"
            ))),
            Cause::Parked { reason, .. } => f.write_str(&short(&format_args!(
                "{KEYS_MAX} keys wait for their dead letters, and another would have to ({reason}): replay or drop letters"
            ))),
            Cause::Split { offset } => {
                write!(f, "offset {offset} follows a dead letter of its key")
            }
            Cause::Crash { deaths } => write!(
                f,
                "the process died {deaths} times with the message in a call: it aborted, got a fatal signal, or was killed because memory was short"
            ),
            Cause::Source(error) => f.write_str(&short(&shown::chain(&**error))),
            Cause::Restore(error) => {
                let why = shown::chain(&**error);
                f.write_str(&short(&format_args!("it could not be made: {why}")))
            }
            Cause::Stop(reason) => write!(f, "the guest asked to be stopped: {reason}"),
            Cause::OnEnd(reason) => f.write_str(&short(&format_args!("`on-end` failed: {reason}"))),
            Cause::Migrate(reason) => {
                f.write_str(&short(&format_args!("`migrate` failed: {reason}")))
            }
        }
    }
}

/// A task is held. What it did before is committed; a restart meets the same messages.
#[derive(Debug, Clone)]
pub struct TaskFailure {
    /// The stage.
    pub stage: String,
    /// The task: stage, slash, partition.
    pub task: String,
    /// The input stream, if a message was the cause.
    pub stream: Option<String>,
    /// Offsets of the first and the last message of the batch that was undone.
    pub offsets: Option<(Offset, Offset)>,
    /// The others go on.
    pub waits: bool,
    /// The code is to blame, and no message.
    pub blames_code: bool,
    /// Which of the codes of its stage it had.
    pub generation: u64,
    /// What stopped it.
    pub cause: Cause,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.waits {
            true => "is held",
            false => "stopped",
        };
        write!(f, "stage {:?}: task {} {what}", self.stage, self.task)?;
        match (&self.stream, self.offsets) {
            (Some(stream), Some((first, last))) if first == last => {
                write!(f, " at stream {stream:?}, offset {first}")?;
            }
            (Some(stream), Some((first, last))) => {
                write!(f, " at stream {stream:?}, offsets {first} to {last}")?;
            }
            (Some(stream), None) => write!(f, " at stream {stream:?}")?,
            (None, _) => {}
        }
        write!(f, " ({}): {}", self.cause.kind(), self.cause)
    }
}

impl std::error::Error for TaskFailure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Backtrace;

    fn failure(stream: Option<&str>, offsets: Option<(u64, u64)>, cause: Cause) -> String {
        let failure = TaskFailure {
            blames_code: false,
            generation: 0,
            stage: "s".into(),
            task: "s/0".into(),
            stream: stream.map(str::to_owned),
            offsets,
            waits: false,
            cause,
        };
        failure.to_string()
    }

    #[test]
    fn each_cause_has_its_word_and_its_sentence() {
        let fault = Fault {
            kind: FaultKind::Trap,
            message: "unreachable".into(),
            stderr: "a\nb\n".into(),
            backtrace: Backtrace::default(),
        };
        assert_eq!(
            failure(Some("in"), Some((3, 5)), Cause::Fault(fault)),
            "stage \"s\": task s/0 stopped at stream \"in\", offsets 3 to 5 (trap): unreachable\n  guest's standard error:\n    a\n    b"
        );
        let rejected = Cause::Rejected {
            offset: 4,
            reason: "no\nway".into(),
            detail: None,
        };
        assert_eq!(
            failure(Some("in"), Some((4, 4)), rejected),
            "stage \"s\": task s/0 stopped at stream \"in\", offset 4 (rejected): offset 4 was rejected and `on-rejected` is \"fail\": \
             no\\nway"
        );
        let undecodable = Cause::Undecodable {
            reason: "x".repeat(2 * SENTENCE_BYTES),
        };
        assert_eq!(
            failure(Some("in"), Some((4, 4)), undecodable),
            format!(
                "stage \"s\": task s/0 stopped at stream \"in\", offset 4 (undecodable): {}…",
                "x".repeat(SENTENCE_BYTES)
            )
        );
        let source = SourceError::Read {
            path: "in.txt".into(),
            source: std::io::Error::other("no \u{1b} disk"),
        };
        assert_eq!(
            failure(Some("in"), None, Cause::Source(Arc::new(source))),
            "stage \"s\": task s/0 stopped at stream \"in\" (source): read in.txt: no \\u{1b} disk"
        );
        assert_eq!(
            failure(None, None, Cause::Stop("done".into())),
            "stage \"s\": task s/0 stopped (stop): the guest asked to be stopped: done"
        );
        assert_eq!(
            failure(None, None, Cause::OnEnd("a\nb".into())),
            "stage \"s\": task s/0 stopped (on-end): `on-end` failed: a\\nb"
        );
    }
}
