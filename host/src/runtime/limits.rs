//! What a guest may use: one table of defaults. A component owns the limits of its instances.

use std::fmt;
use std::time::Duration;

/// Limits of a component, of its instances and of their calls.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All linear memories of an instance together. Default 64 MiB.
    pub memory_bytes: usize,
    /// Elements of all tables of an instance. Default 100,000.
    pub table_elements: usize,
    /// One call of the guest. Default 1 s.
    pub call_deadline: Duration,
    /// Instructions of one call, as wasmtime counts them. Default: no bound but the deadline.
    pub fuel: Option<u64>,
    /// What one call may ask of the host: keys that it reads or writes, entries that it scans, messages that it sends, metrics.
    /// Default 10 million for each second of `call_deadline`.
    pub operations: u64,
    /// Keys and values that one call may read by scans. Default 4 GiB for each second of `call_deadline`.
    pub scan_bytes: u64,
    /// Writes and sends of one call together. Default 16 MiB.
    pub staged_bytes: usize,
    /// A key. Default 8 KiB.
    pub key_bytes: usize,
    /// A value. Default 1 MiB.
    pub value_bytes: usize,
    /// Headers of a message. Default 64.
    pub headers: usize,
    /// Names and values of a message's headers together. Default 16 KiB.
    pub header_bytes: usize,
    /// Handles to stores, and as many others (streams, pollables, descriptors), that an instance may hold. Default 1,000.
    pub handles: u32,
    /// Cursors that may be open at a time. Default 16.
    pub cursors: usize,
    /// Random bytes that one call of `wasi:random` returns. Default 1 MiB.
    pub random_bytes: u64,
    /// Lines that a task may log; the rest is counted. Default 50 a second.
    pub log_rate: LogRate,
    /// Names of metrics that a stage may use. Default 128.
    pub metric_names: usize,
    /// When an instance is replaced.
    pub recycle: Recycle,
    /// The component's file. Default 256 MiB.
    pub component_bytes: u64,
    /// What compiling it may take.
    pub compile: CompileLimits,
}

/// Lines in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate {
    /// How many.
    pub lines: u64,
    /// In how long.
    pub per: Duration,
}

/// What compiling a component may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Time. Default 5 min.
    pub time: Duration,
    /// Memory. Default 4 GiB.
    pub memory_bytes: u64,
}

/// When an instance is worn out: between two calls it is dropped in good order, and the next call has a new one. State is not in
/// it, so only a guest that leaks notices.
#[derive(Debug, Clone)]
pub struct Recycle {
    /// Its memories have more than this. Default 48 MiB, three quarters of the limit.
    pub memory_bytes: usize,
    /// It has processed this many messages. Default: never.
    pub messages: Option<u64>,
    /// It is this old. Default: never.
    pub age: Option<Duration>,
}

impl Limits {
    /// Handles of every kind that an instance may hold: those that have a limit, and others (to its own resources, to scans that
    /// have ended).
    pub(super) fn all_handles(&self) -> usize {
        OTHER_HANDLES + 2 * self.handles as usize + self.cursors
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            call_deadline: Duration::from_secs(1),
            fuel: None,
            operations: 10_000_000,
            scan_bytes: 4 << 30,
            staged_bytes: 16 << 20,
            key_bytes: 8 << 10,
            value_bytes: 1 << 20,
            headers: 64,
            header_bytes: 16 << 10,
            handles: 1_000,
            cursors: 16,
            random_bytes: 1 << 20,
            log_rate: LogRate::default(),
            metric_names: 128,
            recycle: Recycle {
                memory_bytes: 48 << 20,
                messages: None,
                age: None,
            },
            component_bytes: 256 << 20,
            compile: CompileLimits::default(),
        }
    }
}

impl Default for LogRate {
    fn default() -> LogRate {
        LogRate {
            lines: 50,
            per: Duration::from_secs(1),
        }
    }
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            time: Duration::from_secs(300),
            memory_bytes: 4 << 30,
        }
    }
}

/// A guest asked for more than a limit allows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct LimitExceeded(String);

/// The error that ends a call for it.
pub(super) fn exceeded(why: impl fmt::Display) -> wasmtime::Error {
    wasmtime::Error::new(LimitExceeded(why.to_string()))
}

/// What one call has used of what it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallBudget {
    operations: u64,
    operations_max: u64,
    scanned: u64,
    scanned_max: u64,
    staged: usize,
    staged_max: usize,
}

impl CallBudget {
    /// A call begins.
    pub(super) fn of(limits: &Limits) -> CallBudget {
        CallBudget {
            operations: 0,
            operations_max: limits.operations,
            scanned: 0,
            scanned_max: limits.scan_bytes,
            staged: 0,
            staged_max: limits.staged_bytes,
        }
    }

    /// Counts what the call asks of the host.
    ///
    /// # Errors
    /// It is more than a call may ask.
    pub(super) fn operate(&mut self, operations: usize) -> wasmtime::Result<()> {
        self.operations = self.operations.saturating_add(operations as u64);
        if self.operations > self.operations_max {
            return Err(exceeded(format_args!(
                "one call may ask {} operations of the host (`operations`), and this one asked for more",
                self.operations_max
            )));
        }
        Ok(())
    }

    /// Counts a write, or a message that is sent, and its bytes.
    ///
    /// # Errors
    /// It is more than a call may write and send.
    pub(super) fn stage(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.operate(1)?;
        self.staged = self.staged.saturating_add(bytes);
        if self.staged > self.staged_max {
            return Err(exceeded(format_args!(
                "one call may write and send {} bytes together (`staged-bytes`), and this one came to {}",
                self.staged_max, self.staged
            )));
        }
        Ok(())
    }

    /// Counts entries that a scan found, and their bytes.
    ///
    /// # Errors
    /// It is more than a call may scan.
    pub(super) fn scan(&mut self, entries: usize, bytes: usize) -> wasmtime::Result<()> {
        self.operate(entries.max(1))?;
        self.scanned = self.scanned.saturating_add(bytes as u64);
        if self.scanned > self.scanned_max {
            return Err(exceeded(format_args!(
                "one call may scan {} bytes (`scan-bytes`), and this one came to {}",
                self.scanned_max, self.scanned
            )));
        }
        Ok(())
    }
}

/// Bytes charged for each write, message or header on top of its own: the host's overhead.
pub(super) const ENTRY_BYTES: usize = 32;
/// What one call may return to the guest.
pub(super) const CALL_RETURNS_BYTES: usize = 16 << 20;
/// What the host copies out of a guest's memory in one call, lists of every kind included.
pub(super) const CALL_LIFTS_BYTES: usize = 64 << 20;
/// Handles that an instance may hold beside those that have a limit. Each takes some 20 bytes of the host.
const OTHER_HANDLES: usize = 100_000;
/// A reason for a rejection is cut to this.
pub(super) const REASON_BYTES: usize = 1 << 10;
/// A rejection's detail is cut to this.
pub(super) const DETAIL_BYTES: usize = 16 << 10;
/// A line for the log is cut to this.
pub(super) const LOG_LINE_BYTES: usize = 4 << 10;
/// What is kept of an instance's standard error, to show with a fault.
pub(super) const STDERR_TAIL_BYTES: usize = 4 << 10;
/// The stack of a guest.
pub(super) const STACK_BYTES: usize = 512 << 10;
