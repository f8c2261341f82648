//! What a guest may use: one table of defaults. A component owns the limits of its instances.

use std::time::Duration;

/// Limits of the instances of a stage.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All linear memories of an instance together. Default 64 MiB.
    pub memory_bytes: usize,
    /// One call of the guest. Default 1 s.
    pub call_deadline: Duration,
    /// A key. Default 8 KiB.
    pub key_bytes: usize,
    /// A value. Default 1 MiB.
    pub value_bytes: usize,
    /// When an instance is replaced.
    pub recycle: Recycle,
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

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            call_deadline: Duration::from_secs(1),
            key_bytes: 8 << 10,
            value_bytes: 1 << 20,
            recycle: Recycle {
                memory_bytes: 48 << 20,
                messages: None,
                age: None,
            },
        }
    }
}

/// Writes and sends of one call together.
pub(super) const CALL_STAGES_BYTES: usize = 16 << 20;
/// Bytes charged for each write, message or header on top of its own: the host's overhead.
pub(super) const ENTRY_BYTES: usize = 32;
/// What one call may return to the guest.
pub(super) const CALL_RETURNS_BYTES: usize = 16 << 20;
/// What the host copies out of a guest's memory in one call, lists of every kind included.
pub(super) const CALL_LIFTS_BYTES: usize = 64 << 20;
/// Store handles that a task may hold.
pub(super) const STORE_HANDLES: u32 = 1_000;
/// Cursors that may be open at a time.
pub(super) const CURSORS: usize = 16;
/// Headers of a message.
pub(super) const HEADERS: usize = 64;
/// Names and values of a message's headers together.
pub(super) const HEADERS_BYTES: usize = 16 << 10;
/// A reason for a rejection is cut to this.
pub(super) const REASON_BYTES: usize = 1 << 10;
/// A rejection's detail is cut to this.
pub(super) const DETAIL_BYTES: usize = 16 << 10;
/// A line for the log is cut to this.
pub(super) const LOG_LINE_BYTES: usize = 4 << 10;
/// Lines that a task may log in a second; the rest is counted.
pub(super) const LOG_LINES_PER_SECOND: u32 = 50;
/// What is kept of an instance's standard error, to show with a fault.
pub(super) const STDERR_TAIL_BYTES: usize = 4 << 10;
/// Names of metrics that a stage may use.
pub(super) const METRIC_NAMES: usize = 128;
/// Elements of all tables of an instance.
pub(super) const TABLE_ELEMENTS: usize = 100_000;
/// Resources other than stores and cursors (streams, pollables, descriptors) that an instance may hold.
pub(super) const RESOURCES: usize = 1_000;
/// The stack of a guest.
pub(super) const STACK_BYTES: usize = 512 << 10;
/// Random bytes that one call of `wasi:random` returns.
pub(super) const RANDOM_BYTES: u64 = 1 << 20;
