//! `[stage.limits]`: what a component, its instances and their calls may use, with defaults and their reasons.

use std::time::Duration;

use serde::Serialize;

use super::setting::Setting;
use super::units::{ByteSize, Per, Rate};

/// `[stage.limits]`. Exceeding one is a fault of the component.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Linear memory of an instance. Default: 64 MiB, many times what a batch needs; most guests use far less.
    pub memory: Setting<ByteSize>,
    /// Elements of all tables of an instance. Default: 100,000; a table of functions has a few thousand.
    pub table_elements: u32,
    /// How long one call may run. Default: 1 s, thousands of times what a batch takes.
    pub call_deadline: Setting<Duration>,
    /// How many instructions one call may execute. Default: no bound but the deadline, because counting costs time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// What one call may ask of the host. Default: 10 million for each second of `call-deadline`, so that the deadline comes first.
    pub operations: u64,
    /// Keys and values that one call may read by scans. Default: 4 GiB for each second of `call-deadline`, for the same reason.
    pub scan_bytes: Setting<ByteSize>,
    /// Writes and sends of one call together. Default: 16 MiB.
    pub staged_bytes: Setting<ByteSize>,
    /// The longest key of a store or message. Default: 8 KiB.
    pub key_bytes: Setting<ByteSize>,
    /// The longest value of a store or message. Default: 1 MiB.
    pub value_bytes: Setting<ByteSize>,
    /// Headers of a message that is sent. Default: 64.
    pub headers: u32,
    /// Names and values of a sent message's headers together. Default: 16 KiB.
    pub header_bytes: Setting<ByteSize>,
    /// Handles to stores, and as many of WASI's streams, descriptors and pollables, that an instance may hold. Default: 1,000.
    pub handles: u32,
    /// Cursors that a task may have open at a time. Default: 16.
    pub cursors: u32,
    /// Random bytes that one call of `wasi:random` returns. Default: 1 MiB.
    pub random_bytes: Setting<ByteSize>,
    /// Lines that a task may log. Default: 50 a second, more than anybody reads.
    pub log_rate: Setting<Rate>,
    /// Names of metrics that the stage may use. Default: 128; each is a time series for each task.
    pub metric_names: u32,
    /// An instance with more linear memory is replaced by a new one after its batch. Default: three quarters of `memory`, so
    /// that a guest that leaks is replaced before it fails.
    pub recycle_memory: Setting<ByteSize>,
    /// An instance is replaced after this many messages. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recycle_messages: Option<u64>,
    /// An instance of this age is replaced after its batch. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recycle_age: Option<Setting<Duration>>,
    /// The largest file of a component. Default: 256 MiB; a language's whole runtime has 40.
    pub component_bytes: Setting<ByteSize>,
    /// How long compiling may take. Default: 5 min; a language's whole runtime takes seconds.
    pub compile_time: Setting<Duration>,
    /// How much memory compiling may take. Default: 4 GiB.
    pub compile_memory: Setting<ByteSize>,
}

impl Limits {
    /// The default of [`Limits::recycle_memory`].
    pub(super) fn recycle_memory_of(memory: ByteSize) -> ByteSize {
        ByteSize(memory.0 / 4 * 3)
    }

    /// The default of [`Limits::operations`].
    pub(super) fn operations_of(call_deadline: Duration) -> u64 {
        10_000_000 * seconds(call_deadline)
    }

    /// The default of [`Limits::scan_bytes`].
    pub(super) fn scan_bytes_of(call_deadline: Duration) -> ByteSize {
        ByteSize((seconds(call_deadline) << 32).min(ByteSize::MAX.0))
    }
}

/// Begun seconds, a billion at most.
fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).clamp(1, 1 << 28) as u64
}

impl Default for Limits {
    fn default() -> Limits {
        let (memory, call_deadline) = (ByteSize::mib(64), Duration::from_secs(1));
        Limits {
            memory: memory.into(),
            table_elements: 100_000,
            call_deadline: call_deadline.into(),
            fuel: None,
            operations: Limits::operations_of(call_deadline),
            scan_bytes: Limits::scan_bytes_of(call_deadline).into(),
            staged_bytes: ByteSize::mib(16).into(),
            key_bytes: ByteSize::kib(8).into(),
            value_bytes: ByteSize::mib(1).into(),
            headers: 64,
            header_bytes: ByteSize::kib(16).into(),
            handles: 1_000,
            cursors: 16,
            random_bytes: ByteSize::mib(1).into(),
            log_rate: Rate {
                messages: 50,
                per: Per::Second,
            }
            .into(),
            metric_names: 128,
            recycle_memory: Limits::recycle_memory_of(memory).into(),
            recycle_messages: None,
            recycle_age: None,
            component_bytes: ByteSize::mib(256).into(),
            compile_time: Duration::from_secs(300).into(),
            compile_memory: ByteSize::mib(4096).into(),
        }
    }
}
