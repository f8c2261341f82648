//! Why a call of a guest did not end as it should.

use std::fmt;
use std::sync::Arc;

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use super::backtrace::Backtrace;
use super::component::Component;
use super::limits::{CALL_LIFTS_BYTES, LimitExceeded, Limits};
use crate::model::shown::{self, SENTENCE_BYTES};
use crate::state::StateError;

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The guest trapped, or a host function trapped it for a malformed argument.
    Trap,
    /// The call took longer than it may.
    Deadline,
    /// The call asked for more than one of the limits allows.
    Limit,
    /// The guest trapped after it was refused memory.
    Memory,
    /// The instance could not be made.
    Instantiate,
    /// The host could not do its part: its state cannot be read.
    Host,
    /// The host has a bug. The batch is undone like any other.
    Panic,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 7] = [
        FaultKind::Trap,
        FaultKind::Deadline,
        FaultKind::Limit,
        FaultKind::Memory,
        FaultKind::Instantiate,
        FaultKind::Host,
        FaultKind::Panic,
    ];

    /// Whether a message may be to blame.
    pub fn may_be_a_message(self) -> bool {
        match self {
            FaultKind::Trap | FaultKind::Deadline | FaultKind::Limit | FaultKind::Memory => true,
            // After a bug of the host nobody should rely on what it holds for the task.
            FaultKind::Instantiate | FaultKind::Host | FaultKind::Panic => false,
        }
    }

    /// The word for it in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Deadline => "deadline",
            FaultKind::Limit => "limit",
            FaultKind::Memory => "memory",
            FaultKind::Instantiate => "instantiate",
            FaultKind::Host => "host",
            FaultKind::Panic => "panic",
        }
    }
}

/// A call that failed. The instance is gone.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// One sentence, of 4 KiB at most.
    pub message: String,
    /// The end of what the guest wrote to standard error, if anything: 4 KiB at most.
    pub stderr: String,
    /// The guest's stack; empty if there is none.
    pub backtrace: Backtrace,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let detail = self.detail();
        detail.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// What the guest wrote and its backtrace, as lines under titles; empty if there is nothing.
    pub fn detail(&self) -> String {
        let mut detail = String::new();
        for (title, text) in [
            ("guest's standard error", self.stderr.as_str()),
            ("backtrace", &self.backtrace.text()),
        ] {
            if !text.trim().is_empty() {
                detail += &format!("{title}:\n");
                for line in text.trim_end().lines() {
                    detail += &format!("  {line}\n");
                }
            }
        }
        detail
    }

    /// State cannot be read.
    pub fn of_state(error: StateError) -> Fault {
        Fault::new(FaultKind::Host, HostFailed::from(error))
    }

    /// A fault without a guest's part in it.
    pub(super) fn new(kind: FaultKind, message: impl fmt::Display) -> Fault {
        Fault {
            kind,
            message: shown::line(message, SENTENCE_BYTES),
            stderr: String::new(),
            backtrace: Backtrace::default(),
        }
    }

    /// What wasmtime's error says.
    pub(super) fn from_error(
        error: &wasmtime::Error,
        stderr: String,
        component: &Arc<Component>,
    ) -> Fault {
        let backtrace = error
            .downcast_ref::<wasmtime::WasmBacktrace>()
            .map(|trace| Backtrace::of(trace, component));
        let (kind, message) = kind_and_sentence(error, backtrace.is_some(), component.limits());
        let backtrace = backtrace.unwrap_or_default();
        let message = match last_words(&stderr) {
            Some(said) if error.is::<wasmtime::Trap>() && kind == FaultKind::Trap => {
                sentence(format_args!("{message}: {said}"))
            }
            _ => message,
        };
        // Bindings are named after what they call, and what a component has between them and the host has no name.
        let refused = matches!(kind, FaultKind::Trap | FaultKind::Limit);
        let message = match backtrace.innermost_name() {
            Some(name) if refused && !error.is::<wasmtime::Trap>() => {
                format!("{message} (in a call of the host by `{name}`)")
            }
            _ => message,
        };
        Fault {
            kind,
            message,
            stderr,
            backtrace,
        }
    }
}

/// What an error is, and says.
fn kind_and_sentence(
    error: &wasmtime::Error,
    has_backtrace: bool,
    limits: &Limits,
) -> (FaultKind, String) {
    if error.is::<HostFailed>() {
        return (FaultKind::Host, sentence(error.root_cause()));
    }
    if error.is::<DeadlinePassed>() {
        return (FaultKind::Deadline, deadline_message(limits));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => (FaultKind::Deadline, deadline_message(limits)),
        Some(Trap::OutOfFuel) => {
            let fuel = limits.fuel.unwrap_or(u64::MAX);
            let message = format!("the call took more than `fuel` = {fuel}");
            (FaultKind::Limit, message)
        }
        Some(trap @ Trap::CannotLeaveComponent) => (
            FaultKind::Trap,
            format!(
                "{trap}: it called an import, WASI included, while the host asked it for memory (`cabi_realloc`) or let it clean up (`cabi_post_…`); a garbage collector that reads the clock does that"
            ),
        ),
        Some(trap) => (FaultKind::Trap, trap.to_string()),
        None => {
            // With a backtrace, the contexts around the cause are that backtrace, which is shown below.
            let message = match has_backtrace {
                true => sentence(error.root_cause()),
                false => sentence(format_args!("{error:#}")),
            };
            match limit_of(error, &message, limits) {
                Some(message) => (FaultKind::Limit, message),
                None => (FaultKind::Trap, message),
            }
        }
    }
}

/// What is said of a limit, if one was exceeded: wasmtime's own sentences name none of ours.
fn limit_of(error: &wasmtime::Error, message: &str, limits: &Limits) -> Option<String> {
    let is_full = error
        .downcast_ref::<ResourceTableError>()
        .is_some_and(|error| matches!(error, ResourceTableError::Full));
    if error.is::<LimitExceeded>() {
        Some(message.to_owned())
    } else if is_full {
        Some(format!(
            "an instance may hold {} streams, descriptors and pollables of WASI (`handles`), and this one asked for another; drop those that are not needed",
            limits.handles
        ))
    } else if message.contains("handle limit exceeded") {
        // This one and the next two have no type that could be asked for.
        Some(format!(
            "an instance may hold {} handles of all kinds together, those to resources of its own and to scans that have ended included, and this one asked for another; drop those that are not needed",
            limits.all_handles()
        ))
    } else if message.contains("fuel allocated for hostcalls") {
        Some(format!(
            "one call of the host copies at most {CALL_LIFTS_BYTES} bytes out of the guest: pass less at a time"
        ))
    } else if message.starts_with("requested len") {
        Some(format!(
            "one call returns {} random bytes at most (`random-bytes`): {message}",
            limits.random_bytes
        ))
    } else {
        None
    }
}

/// What a guest that panicked said of it: wasmtime knows only that it ended itself. Rust says `panicked at PLACE:` and then why, Go
/// `panic: ` and why.
fn last_words(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let panicked = |line: &&str| line.contains("panicked at ") || line.starts_with("panic: ");
    let at = lines.iter().rposition(panicked)?;
    match lines[at].split_once("panicked at ") {
        Some((_, place)) => {
            let why = lines.get(at + 1).copied().unwrap_or_default();
            Some(format!("{why} (at {})", place.trim_end_matches(':')))
        }
        None => Some(lines[at].to_owned()),
    }
}

fn sentence(what: impl fmt::Display) -> String {
    shown::line(what, SENTENCE_BYTES)
}

fn deadline_message(limits: &Limits) -> String {
    let deadline_ms = limits.call_deadline.as_millis();
    format!("the call took longer than `call-deadline` = {deadline_ms} ms")
}

/// State could not be read during a call. The guest did nothing wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct HostFailed(pub(super) String);

impl From<StateError> for HostFailed {
    fn from(error: StateError) -> HostFailed {
        HostFailed(shown::chain(&error))
    }
}

/// A guest waited in a host function until its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the call's deadline passed while it waited")]
pub(super) struct DeadlinePassed;

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn what_a_panic_says_is_found_in_what_the_guest_wrote() {
        let rust = "before\n\nthread '<unnamed>' (1) panicked at src/lib.rs:3:5:\nno airport ATL\nnote: run with\n";
        assert_eq!(
            last_words(rust).as_deref(),
            Some("no airport ATL (at src/lib.rs:3:5)")
        );
        let go = "panic: no airport ATL\n\ngoroutine 1 [running]:\n";
        assert_eq!(last_words(go).as_deref(), Some("panic: no airport ATL"));
        assert_eq!(
            last_words("thread panicked at x").as_deref(),
            Some(" (at x)")
        );
        assert_eq!(last_words("nothing of the kind\n"), None);
    }
}
