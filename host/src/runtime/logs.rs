//! Lines that guests write: bounded, cleaned, and told apart by task.

use std::time::Instant;

use super::limits::{LOG_LINE_BYTES, LogRate, STDERR_TAIL_BYTES};
use super::secrets::Secrets;
use crate::model::shown::{self, UNCUT};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Where an instance writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// The log of one task, whichever instance serves it.
#[derive(Debug)]
pub(super) struct TaskLog {
    task: String,
    /// Its lines are not logged; what an instance wrote to standard error is known all the same.
    is_silent: bool,
    rate: LogRate,
    secrets: Secrets,
    window: Instant,
    lines: u64,
    dropped: u64,
    /// What has been written of the next line of standard output and of standard error.
    begun: [Vec<u8>; 2],
    /// The end of what the instance wrote to standard error.
    tail: Vec<u8>,
    /// There was more before it.
    tail_is_cut: bool,
}

impl TaskLog {
    pub(super) fn new(task: String) -> TaskLog {
        TaskLog {
            task,
            is_silent: false,
            rate: LogRate::default(),
            secrets: Secrets::default(),
            window: Instant::now(),
            lines: 0,
            dropped: 0,
            begun: [Vec::new(), Vec::new()],
            tail: Vec::new(),
            tail_is_cut: false,
        }
    }

    /// One that shows nothing.
    pub(super) fn silent() -> TaskLog {
        let mut log = TaskLog::new(String::new());
        log.is_silent = true;
        log
    }

    /// An instance begins, of which it takes so many lines, and hides what is secret.
    pub(super) fn serve(&mut self, rate: LogRate, secrets: Secrets) {
        self.rate = rate;
        self.secrets = secrets;
    }

    /// Writes a line, unless the task has written too many.
    pub(super) fn line(&mut self, level: Level, context: &str, text: &str) {
        if self.is_silent {
            return;
        }
        if self.window.elapsed() >= self.rate.per {
            self.window = Instant::now();
            self.lines = 0;
            self.tell_dropped();
        }
        self.lines += 1;
        if self.lines > self.rate.lines {
            self.dropped += 1;
            return;
        }
        let (context, text) = (self.secrets.hide(context), self.secrets.hide_in_line(text));
        let text = if context.is_empty() {
            shown::line(text, LOG_LINE_BYTES)
        } else {
            shown::line(format_args!("{context}: {text}"), LOG_LINE_BYTES)
        };
        match level {
            Level::Trace => tracing::trace!(target: "guest", task = %self.task, "{text}"),
            Level::Debug => tracing::debug!(target: "guest", task = %self.task, "{text}"),
            Level::Info => tracing::info!(target: "guest", task = %self.task, "{text}"),
            Level::Warn => tracing::warn!(target: "guest", task = %self.task, "{text}"),
            Level::Error => tracing::error!(target: "guest", task = %self.task, "{text}"),
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let LogRate { lines, per } = self.rate;
            tracing::warn!(target: "guest", task = %self.task, "{dropped} lines were dropped: `log-rate` is {lines} in {} s", per.as_secs());
        }
    }

    /// Takes what the guest wrote to standard output or error: any piece of a line, or many lines. A line is logged when its end
    /// has come, when it is as long as a line may be, or with the end of the instance.
    pub(super) fn written(&mut self, to: Stream, bytes: &[u8]) {
        if to == Stream::Error {
            // A secret at its beginning must not be cut, or it would not be found.
            let most = STDERR_TAIL_BYTES + self.secrets.longest();
            let keep = most.saturating_sub(bytes.len());
            let cut = self.tail.len().saturating_sub(keep);
            self.tail.drain(..cut);
            let from = bytes.len().saturating_sub(most);
            self.tail_is_cut |= cut + from > 0;
            self.tail.extend_from_slice(&bytes[from..]);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = LOG_LINE_BYTES + self.secrets.longest();
            let room = most.saturating_sub(self.begun[to as usize].len());
            let end = rest.iter().take(room).position(|byte| *byte == b'\n');
            let piece = end.unwrap_or(room.min(rest.len()));
            self.begun[to as usize].extend_from_slice(&rest[..piece]);
            if end.is_some() {
                self.end_line(to, 0);
            } else if piece == room {
                // A secret that is not whole yet waits for the rest of it.
                let begun = self.secrets.begun_in(&self.begun[to as usize]);
                self.end_line(to, begun);
            }
            rest = &rest[piece + usize::from(end.is_some())..];
        }
    }

    /// Logs what was begun of a line, but for so many bytes at its end.
    fn end_line(&mut self, of: Stream, left: usize) {
        let begun = &mut self.begun[of as usize];
        let kept = begun.split_off(begun.len() - left);
        let line = std::mem::replace(begun, kept);
        if line.is_empty() {
            return;
        }
        let level = match of {
            Stream::Output => Level::Info,
            Stream::Error => Level::Warn,
        };
        self.line(level, "", &String::from_utf8_lossy(&line));
    }

    /// What an instance wrote last to standard error. Lines that it began are ended.
    pub(super) fn take_tail(&mut self) -> String {
        self.end_line(Stream::Output, 0);
        self.end_line(Stream::Error, 0);
        let mut tail = std::mem::take(&mut self.tail);
        if std::mem::take(&mut self.tail_is_cut) {
            tail.drain(..self.secrets.ended_in(&tail));
        }
        let tail = self.secrets.hide_bytes(&tail);
        let tail = String::from_utf8_lossy(&tail).replace("\r\n", "\n");
        let mut shown = shown::lines(tail, UNCUT);
        // Escapes are longer than what they stand for, and it is the end that counts.
        let from = shown.ceil_char_boundary(shown.len().saturating_sub(STDERR_TAIL_BYTES));
        shown.drain(..from);
        shown
    }
}

impl Drop for TaskLog {
    fn drop(&mut self) {
        self.tell_dropped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_end() {
        let mut log = TaskLog::new("t/0".into());
        log.written(Stream::Error, &vec![b'a'; STDERR_TAIL_BYTES * 3]);
        log.written(Stream::Error, b"the end");
        let tail = log.take_tail();
        assert!(tail.ends_with("the end") && tail.len() <= STDERR_TAIL_BYTES);
        assert_eq!(log.take_tail(), "");
        log.written(Stream::Error, &[0x1b; STDERR_TAIL_BYTES]);
        log.written(Stream::Error, b"\r\nthe end");
        let tail = log.take_tail();
        assert!(
            tail.ends_with("}\nthe end") && tail.len() <= STDERR_TAIL_BYTES,
            "{tail}"
        );
    }

    #[test]
    fn pieces_become_lines() {
        let mut log = TaskLog::new("t/0".into());
        log.written(Stream::Output, b"one ");
        log.written(Stream::Error, b"other");
        assert_eq!(log.lines, 0);
        log.written(Stream::Output, b"line\n\ntwo\nthr");
        assert_eq!((log.lines, log.begun[0].as_slice()), (2, b"thr".as_slice()));
        log.written(Stream::Output, &vec![b'x'; LOG_LINE_BYTES]);
        assert_eq!((log.lines, log.begun[0].len()), (3, 3));
        log.take_tail();
        assert_eq!(
            (log.lines, log.begun[0].len(), log.begun[1].len()),
            (5, 0, 0)
        );
    }
}
