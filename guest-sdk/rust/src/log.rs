//! Log lines and panics, by way of `wasi:logging`.

use std::fmt;

use crate::backend::logging;

/// The host takes lines of up to 4 KiB; the SDK cuts longer ones.
const LINE_BYTES: usize = 4096;

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// The task cannot go on.
    Critical,
}

/// Writes a line; `context` says what it belongs to and may be empty. The macros of the crate, such as [`info!`](crate::info),
/// give the module.
pub fn log(level: Level, context: &str, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
        Level::Critical => logging::Level::Critical,
    };
    let end = message.floor_char_boundary(LINE_BYTES);
    logging::log(level, context, message.get(..end).unwrap_or(message));
}

/// What the macros call.
#[doc(hidden)]
pub fn write(level: Level, context: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => log(level, context, text),
        None => log(level, context, &message.to_string()),
    }
}

/// Makes panics show in the host's log, and leaves them on stderr.
#[cfg(target_family = "wasm")]
pub(crate) fn report_panics() {
    let stderr = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log(Level::Critical, "panic", &panic.to_string());
        stderr(panic);
    }));
}

/// Writes a `trace` line to the host's log, from a format string.
#[macro_export]
macro_rules! trace {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Trace, ::core::module_path!(), ::core::format_args!($($arg)+)) };
}

/// Writes a `debug` line to the host's log, from a format string.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::module_path!(), ::core::format_args!($($arg)+)) };
}

/// Writes an `info` line to the host's log, from a format string.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::module_path!(), ::core::format_args!($($arg)+)) };
}

/// Writes a `warn` line to the host's log, from a format string.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::module_path!(), ::core::format_args!($($arg)+)) };
}

/// Writes an `error` line to the host's log, from a format string.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::module_path!(), ::core::format_args!($($arg)+)) };
}
