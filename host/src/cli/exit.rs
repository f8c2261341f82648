//! Exit codes. People script against them.

use std::error::Error;
use std::sync::Once;
use std::time::Duration;

use super::stderr;
use crate::checkpoint::{CommitError, OpenError};
use crate::config::Diagnostics;
use crate::connectors::{SinkError, SourceError};
use crate::coordinator::LogError;
use crate::disk::DiskError;
pub(super) use crate::model::shown::chain;
use crate::runtime::ComponentError;
use crate::state::StateError;

/// The host failed.
pub(super) const HOST: u8 = 1;
/// The command line or the job file is wrong.
pub(super) const USAGE: u8 = 2;
/// A task failed.
pub(super) const TASK: u8 = 3;
/// The state directory was refused.
pub(super) const STATE: u8 = 4;
/// No room on the disk.
pub(super) const NO_SPACE: u8 = 75;
/// A second signal.
pub(super) const INTERRUPTED: u8 = 130;

/// A command that failed: what to say, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub(super) code: u8,
    pub(super) text: String,
    /// The job has started or ended meanwhile, and nothing was done: the same can be asked again.
    pub(super) moved: bool,
}

impl Failure {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: text.into(),
            moved: false,
        }
    }

    /// With everything that the error has to say.
    pub(super) fn of(code: u8, error: &dyn Error) -> Failure {
        Failure::new(code, chain(error))
    }

    pub(super) fn print(&self) {
        if !self.text.is_empty() {
            stderr::say(format_args!("error: {}", self.text.trim_end()));
        }
    }
}

/// Ends the process at once, threads and all. The threads of a job that has ended still hold the database, whose C++ must
/// not be taken apart beneath them by the destructors of an ordinary exit; everything durable is durable by now. Standard output
/// is left alone: its sink has handed over all that it wrote, or waits with the lock in its hand for a reader who does not read.
pub(super) fn leave(code: u8) -> ! {
    stderr::flush();
    // SAFETY: `_exit` is always safe to call; it runs nothing of this process any more.
    #[expect(
        unsafe_code,
        reason = "there is no safe way to end a process without its destructors"
    )]
    unsafe {
        libc::_exit(i32::from(code))
    }
}

/// Ends the process after a time, whatever it is doing then. Only the first call counts.
pub(super) fn leave_after(time: Duration) {
    static CALLED: Once = Once::new();
    CALLED.call_once(|| {
        let thread = std::thread::Builder::new().name("last-resort".into());
        let leave = move || {
            std::thread::sleep(time);
            leave(HOST)
        };
        if let Err(error) = thread.spawn(leave) {
            tracing::warn!(
                "the end of the process is not bounded: no thread can be started: {error}"
            );
        }
    });
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Failure {
        let code = match &error {
            LogError::NoStream(_) | LogError::NoPartition { .. } | LogError::NotThere { .. } => {
                USAGE
            }
            LogError::Damaged(_) | LogError::State(_) => STATE,
        };
        Failure::of(code, &error)
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Failure {
        let code = if error.no_space() { NO_SPACE } else { HOST };
        Failure::of(code, &error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::new(USAGE, format!("the job file cannot be used\n{diagnostics}"))
    }
}

impl From<ComponentError> for Failure {
    fn from(error: ComponentError) -> Failure {
        let code = match &error {
            ComponentError::Host { .. } => HOST,
            _ => USAGE,
        };
        Failure::of(code, &error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let moved = matches!(error, OpenError::InUse { .. });
        let code = match &error {
            OpenError::Refused { .. } | OpenError::InUse { .. } => STATE,
            OpenError::Db { source, .. } if source.no_space() => NO_SPACE,
            OpenError::Db { .. } => HOST,
            OpenError::State {
                source: StateError::Db(source),
                ..
            } if source.no_space() => NO_SPACE,
            OpenError::State {
                source: StateError::MemoryStoresTooLarge { .. },
                ..
            } => USAGE,
            OpenError::State { .. } => STATE,
            OpenError::Sink {
                source: SinkError::Disk(error),
                ..
            } if error.no_space() => NO_SPACE,
            OpenError::Sink {
                source: SinkError::Disk(_) | SinkError::Unavailable(_),
                ..
            }
            | OpenError::Carrier {
                source: SinkError::Disk(_) | SinkError::Unavailable(_),
                ..
            } => HOST,
            OpenError::Carrier { .. } => STATE,
            OpenError::Input {
                source: SourceError::Unavailable(_),
                ..
            } => HOST,
            OpenError::Input { .. } => STATE,
            OpenError::Sink { .. } => STATE,
            OpenError::Begin { source, .. } if source.no_space() => NO_SPACE,
            OpenError::Begin { .. } => HOST,
            OpenError::Disk(error) if error.no_space() => NO_SPACE,
            OpenError::Disk(_) => HOST,
        };
        Failure {
            moved,
            ..Failure::of(code, &error)
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Failure {
        let code = match &error {
            CommitError::State(StateError::MemoryStoresTooLarge { .. }) => USAGE,
            error if error.no_space() => NO_SPACE,
            _ => HOST,
        };
        Failure::of(code, &error)
    }
}
