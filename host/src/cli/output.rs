//! What is printed, and where: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::{Failure, Global, LogFormat, display, exit};
use crate::model::shown::{self, UNCUT};

/// Sends log lines to standard error.
pub(super) fn start_logging(global: &Global) -> Result<(), Failure> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let filter = match &global.log_level {
        // A bare word that is not a level would be parsed as a module name and silence everything else.
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
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (a test) keeps the first.
    let _ = match global.log_format {
        LogFormat::Text => {
            let lines = || {
                let lines = tracing_subscriber::fmt::layer().with_ansi(colour);
                lines.with_writer(|| LogLine(LogFormat::Text))
            };
            // What a guest says bears the name of its target, so that it cannot pass for a line of the host.
            let guests = filter_fn(|line| line.target() == "guest");
            let others = filter_fn(|line| line.target() != "guest");
            let host = lines().with_target(false).with_filter(others);
            registry
                .with(host.and_then(lines().with_filter(guests)))
                .try_init()
        }
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json();
            registry
                .with(lines.with_writer(|| LogLine(LogFormat::Json)))
                .try_init()
        }
    };
    Ok(())
}

/// A line of the log on its way: no host's line has anything in it that is not shown as it is, whatever it quotes.
struct LogLine(LogFormat);

impl Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        display::above_bars(match self.0 {
            LogFormat::Json => shown::json(line.to_vec()),
            LogFormat::Text => plain(line),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The formatter's colours stay; it has escaped the escapes of others.
fn plain(line: &[u8]) -> Vec<u8> {
    let is_plain = |c: char| matches!(c, '\n' | '\t' | '\u{1b}') || shown::is_plain(c);
    let text = String::from_utf8_lossy(line);
    match text.chars().all(is_plain) {
        true => line.to_vec(),
        false => {
            let show = |c: char| match is_plain(c) {
                true => c.to_string(),
                false => c.escape_default().to_string(),
            };
            text.chars().map(show).collect::<String>().into_bytes()
        }
    }
}

/// Prints one JSON object on a line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::of(exit::HOST, &error))?;
    line.push(b'\n');
    raw(&shown::json(line))
}

/// Prints text for a person: whatever it quotes, a terminal shows it as it is.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    raw(shown::lines(text, UNCUT).as_bytes())
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
    let of_column = |column| (width(column).unwrap_or(0), is_number(column));
    let columns: Vec<(usize, bool)> = (0..columns).map(of_column).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, (width, is_number))) in row.iter().zip(&columns).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if index > 0 {
                line.push_str("  ");
            }
            if *is_number {
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
    self::text(&text)
}

/// As much of a hash as says which one it is.
pub(super) fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// A time as a person reads it, UTC.
pub(super) fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
        Err(_) => ms.to_string(),
    }
}
