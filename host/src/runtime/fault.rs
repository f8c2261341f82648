//! Why a call of a guest did not end as it should.

use std::fmt;

use wasmtime::component::ResourceTableError;

use super::limits::{CALL_LIFTS_BYTES, RESOURCES};
use crate::model::shown::{self, LinesMax, SENTENCE_BYTES};
use crate::state::StateError;

/// What is shown of a guest's stack: names in it are as long as its component has them.
const BACKTRACE_MAX: LinesMax = LinesMax {
    bytes: 16 << 10,
    line_bytes: 512,
    lines: 128,
};

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The guest trapped, or a host function trapped it: a limit, a malformed argument.
    Trap,
    /// The call took longer than it may.
    Deadline,
    /// The instance could not be made.
    Instantiate,
    /// The host could not do its part: its state cannot be read.
    Host,
    /// The host has a bug. The batch is undone like any other.
    Panic,
}

impl FaultKind {
    /// The word for it in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Deadline => "deadline",
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
    /// The guest's stack, one frame a line, 16 KiB at most; empty if there is none. It is text and not
    /// frames, because wasmtime demangles names only when it prints them.
    pub backtrace: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (title, text) in [
            ("guest's standard error", &self.stderr),
            ("backtrace", &self.backtrace),
        ] {
            if !text.trim().is_empty() {
                write!(f, "\n  {title}:")?;
                text.trim_end()
                    .lines()
                    .try_for_each(|line| write!(f, "\n    {line}"))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// A fault without a guest's part in it.
    pub(super) fn new(kind: FaultKind, message: impl fmt::Display) -> Fault {
        Fault {
            kind,
            message: shown::line(message, SENTENCE_BYTES),
            stderr: String::new(),
            backtrace: String::new(),
        }
    }

    /// What wasmtime's error says.
    pub(super) fn from_error(error: &wasmtime::Error, stderr: String, deadline_ms: u128) -> Fault {
        let backtrace = error
            .downcast_ref::<wasmtime::WasmBacktrace>()
            .map(|trace| shown::lines(trace, BACKTRACE_MAX));
        let (kind, message) = if error.is::<HostFailed>() {
            (FaultKind::Host, sentence(error.root_cause()))
        } else if error.is::<DeadlinePassed>() {
            (FaultKind::Deadline, deadline_message(deadline_ms))
        } else {
            match error.downcast_ref::<wasmtime::Trap>() {
                Some(wasmtime::Trap::Interrupt) => {
                    (FaultKind::Deadline, deadline_message(deadline_ms))
                }
                Some(trap @ wasmtime::Trap::CannotLeaveComponent) => (
                    FaultKind::Trap,
                    format!(
                        "{trap}: it called an import, WASI included, while the host asked it for memory (`cabi_realloc`); a garbage collector that reads the clock does that"
                    ),
                ),
                Some(trap) => (FaultKind::Trap, trap.to_string()),
                // With a backtrace, the contexts around the cause are that backtrace, which is shown below.
                None if backtrace.is_some() => (FaultKind::Trap, sentence(error.root_cause())),
                None => (FaultKind::Trap, sentence(format_args!("{error:#}"))),
            }
        };
        let message = match error.is::<wasmtime::Trap>() || kind != FaultKind::Trap {
            true => message,
            false => refused_call(error, message, backtrace.as_deref().unwrap_or_default()),
        };
        Fault {
            kind,
            message,
            stderr,
            backtrace: backtrace.unwrap_or_default(),
        }
    }
}

/// What a call of the host says that was refused: wasmtime's own sentences name neither the call nor the limit.
fn refused_call(error: &wasmtime::Error, message: String, backtrace: &str) -> String {
    let full = error
        .downcast_ref::<ResourceTableError>()
        .is_some_and(|error| matches!(error, ResourceTableError::Full));
    let message = if full {
        format!(
            "an instance may hold {RESOURCES} streams, descriptors and pollables of WASI, and this one asked for another; drop those that are not needed"
        )
    } else if message.contains("fuel allocated for hostcalls") {
        // This one has no type that could be asked for, and does not say how much it was.
        format!(
            "one call of the host copies at most {CALL_LIFTS_BYTES} bytes out of the guest: pass less at a time"
        )
    } else {
        message
    };
    match caller(backtrace) {
        Some(name) => format!("{message} (in a call of the host by `{name}`)"),
        None => message,
    }
}

/// The innermost function of a backtrace that has a name: bindings are named after what they call, and what a component has
/// between them and the host has no name.
fn caller(backtrace: &str) -> Option<&str> {
    backtrace
        .lines()
        .filter_map(|line| {
            let (number, frame) = line.trim_start().split_once(": ")?;
            number.parse::<u32>().ok()?;
            Some(frame.split_once(" - ")?.1)
        })
        .find(|name| !name.contains("<wasm function"))
}

fn sentence(what: impl fmt::Display) -> String {
    shown::line(what, SENTENCE_BYTES)
}

fn deadline_message(deadline_ms: u128) -> String {
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
