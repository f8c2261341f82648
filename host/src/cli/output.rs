//! What is printed, and where: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{Failure, Global, LogFormat, exit};

/// Sends log lines to standard error.
pub(super) fn start_logging(global: &Global) -> Result<(), Failure> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let filter = match &global.log_level {
        // A word alone that is no level would be taken for the name of a module, and silence the rest.
        Some(level) if !level.contains('=') && !LEVELS.contains(&&*level.to_ascii_lowercase()) => {
            let text = format!("--log-level {level:?}: valid are {}", LEVELS.join(", "));
            return Err(Failure::new(exit::USAGE, text));
        }
        Some(level) => EnvFilter::try_new(level).map_err(|error| {
            Failure::new(exit::USAGE, format!("--log-level {level:?}: {error}"))
        })?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let colour = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(super::display::log_writer)
        .with_ansi(colour);
    // A second start in one process (a test) keeps the first.
    let _ = match global.log_format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}

/// Prints one JSON object on a line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::of(exit::HOST, &error))?;
    line.push(b'\n');
    raw(&line)
}

/// Prints bytes. A reader that has closed the pipe ends the command quietly.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(0, ""),
            _ => Failure::new(exit::HOST, format!("write to standard output: {error}")),
        })
}

/// Prints a table: the first row is the head. Columns whose cells are all numbers are aligned to the right.
pub(super) fn table(rows: &[Vec<String>]) -> Result<(), Failure> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let is_number = |column: usize| {
        rows.iter()
            .skip(1)
            .filter_map(|row| row.get(column))
            .all(|cell| {
                !cell.is_empty()
                    && cell
                        .chars()
                        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | ',' | '%'))
            })
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate().take(columns) {
            let pad = " ".repeat(
                width(column)
                    .unwrap_or(0)
                    .saturating_sub(cell.chars().count()),
            );
            if column > 0 {
                line.push_str("  ");
            }
            if is_number(column) {
                line.push_str(&pad);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&pad);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    raw(text.as_bytes())
}

/// A time as a person reads it, UTC.
pub(super) fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
        Err(_) => ms.to_string(),
    }
}
