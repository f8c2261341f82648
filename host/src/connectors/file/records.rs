//! Cutting a text into records: one reusable window over the bytes, positions and line numbers kept exactly.
//!
//! A line ends with `\n`; one `\r` before it belongs to the end. In CSV a line break inside of a quoted field does not
//! end the record; a quote opens a field only at the field's start. A byte order mark before the first record is
//! passed over. Invariants: `position` is always that of a record's first byte; the window never holds more than a
//! record of the greatest length plus what one read brings.

use std::ops::Range;

use memchr::memchr;

/// How many bytes are asked for at a time.
const READ_BYTES: usize = 128 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Every line end.
    Lines,
    /// Every line end outside of quotes.
    Csv,
}

/// Where the quotes of a CSV record stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    Unquoted,
    Quoted,
    QuoteInQuoted,
}

/// A record that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    body: Range<usize>,
    /// The number of its first line, from 1.
    pub line: u64,
    /// Its length without its line end, if that is above the limit.
    pub oversize: Option<u64>,
    /// The text ended within quotes.
    pub unclosed: bool,
}

/// A window over a text, and the place of the record under way.
#[derive(Debug)]
pub(crate) struct Records {
    framing: Framing,
    record_bytes: usize,
    window: Vec<u8>,
    /// Where the record under way begins in the window.
    start: usize,
    /// The point up to which it has been searched for its end.
    scanned: usize,
    /// The point up to which the window is filled.
    filled: usize,
    quotes: Quotes,
    /// Line breaks inside of the record under way.
    breaks: u64,
    /// The first bytes of a record that is too long, and how many of it have left the window, a mark included.
    head: Vec<u8>,
    dropped: u64,
    dropped_mark: u64,
    position: u64,
    line: u64,
}

impl Record {
    /// Why it is not even decoded.
    pub fn refused(&self, record_bytes: usize) -> Option<String> {
        match self.oversize {
            Some(bytes) => Some(format!(
                "{bytes} bytes, more than `record-bytes` = {record_bytes}"
            )),
            None if self.unclosed => {
                Some("a quoted field is not closed before the end of the file".to_owned())
            }
            None => None,
        }
    }
}

impl Records {
    /// An empty window at the beginning of a text.
    pub fn new(framing: Framing, record_bytes: usize) -> Records {
        Records {
            framing,
            record_bytes,
            window: Vec::new(),
            start: 0,
            scanned: 0,
            filled: 0,
            quotes: Quotes::FieldStart,
            breaks: 0,
            head: Vec::new(),
            dropped: 0,
            dropped_mark: 0,
            position: 0,
            line: 1,
        }
    }

    /// Empties the window and goes to a place in another (or the same) text.
    pub fn go_to(&mut self, position: u64, line: u64) {
        self.start = 0;
        self.filled = 0;
        self.position = position;
        self.line = line;
        self.begin();
    }

    /// Sets the line number of the record under way.
    pub fn set_line(&mut self, line: u64) {
        self.line = line;
    }

    /// The position of the record under way.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The number of its first line.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The position after the last byte in the window.
    pub fn read_to(&self) -> u64 {
        self.position + self.dropped + (self.filled - self.start) as u64
    }

    /// The bytes of a record, up to the limit. Valid until [`Records::spare`] is called.
    pub fn bytes(&self, record: &Record) -> &[u8] {
        let limit = self.record_bytes;
        match record.oversize {
            Some(_) if !self.head.is_empty() => &self.head,
            Some(_) => &self.window[record.body.start..record.body.start + limit],
            None => &self.window[record.body.clone()],
        }
    }

    /// Room to read more bytes into.
    pub fn spare(&mut self) -> &mut [u8] {
        self.drop_oversize();
        if self.window.len() - self.filled < READ_BYTES / 2 {
            self.window.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.scanned -= self.start;
            self.start = 0;
            if self.window.len() - self.filled < READ_BYTES / 2 {
                self.window.resize(self.filled + READ_BYTES, 0);
            }
        }
        &mut self.window[self.filled..]
    }

    /// Reports how many bytes were read into [`Records::spare`].
    pub fn filled(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Passes over bytes without looking for records, at most those in the window. Returns how many.
    pub fn pass_over(&mut self, bytes_max: u64) -> u64 {
        let held = self.filled - self.start;
        let bytes = usize::try_from(bytes_max).map_or(held, |max| max.min(held));
        self.start += bytes;
        self.position += bytes as u64;
        self.begin();
        bytes as u64
    }

    /// Passes over a line end, if the window begins with one.
    pub fn pass_over_line_end(&mut self) -> bool {
        let bytes = match self.held() {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return false,
        };
        self.pass_over(bytes);
        self.line += 1;
        true
    }

    /// The byte before the record under way, if the window still has it.
    pub fn previous_byte(&self) -> Option<u8> {
        self.start.checked_sub(1).map(|at| self.window[at])
    }

    /// The bytes in the window from the record under way on.
    pub fn held(&self) -> &[u8] {
        &self.window[self.start..self.filled]
    }

    /// The next record whose end is in the window.
    pub fn next(&mut self) -> Option<Record> {
        if self.at_mark()? {
            self.scanned = self.start + BYTE_ORDER_MARK.len();
        }
        let end = match self.framing {
            Framing::Lines => self.find_line_end(),
            Framing::Csv => self.find_row_end(),
        };
        let Some(end) = end else {
            self.scanned = self.filled;
            return None;
        };
        let body_end = match self.window[self.start..end].last() {
            Some(b'\r') => end - 1,
            _ => end,
        };
        Some(self.take(body_end, end + 1, false))
    }

    /// What follows the last line end, once the text has ended: a record without a line end.
    pub fn rest(&mut self) -> Option<Record> {
        if self.filled == self.start && self.dropped == 0 || self.held() == BYTE_ORDER_MARK {
            return None;
        }
        let unclosed = self.framing == Framing::Csv && self.quotes == Quotes::Quoted;
        Some(self.take(self.filled, self.filled, unclosed))
    }

    /// How long the record under way is so far, if that is too long already.
    pub fn unfinished_oversize(&self) -> Option<u64> {
        let held = self.dropped + (self.filled - self.start) as u64;
        (held > (self.record_bytes + BYTE_ORDER_MARK.len() + 1) as u64).then_some(held)
    }

    /// Makes the bytes up to `body_end` the record, and begins the next one at `next`.
    fn take(&mut self, body_end: usize, next: usize, unclosed: bool) -> Record {
        let body_start = match self.position == 0 && self.dropped == 0 {
            true if self.held().starts_with(BYTE_ORDER_MARK) => self.start + BYTE_ORDER_MARK.len(),
            _ => self.start,
        };
        let body = body_start..body_end.max(body_start);
        let length = self.dropped - self.dropped_mark + body.len() as u64;
        let record = Record {
            line: self.line,
            oversize: (length > self.record_bytes as u64).then_some(length),
            unclosed,
            body,
        };
        self.position += self.dropped + (next - self.start) as u64;
        self.line += self.breaks + u64::from(next > body_end);
        self.start = next;
        let head = match self.dropped {
            0 => Vec::new(),
            _ => std::mem::take(&mut self.head),
        };
        self.begin();
        self.head = head;
        record
    }

    /// A new record begins at `start`.
    fn begin(&mut self) {
        self.scanned = self.start;
        self.quotes = Quotes::FieldStart;
        self.breaks = 0;
        self.dropped = 0;
        self.dropped_mark = 0;
        self.head.clear();
    }

    /// Whether the text begins here with a byte order mark; `None`: too few bytes to tell.
    fn at_mark(&self) -> Option<bool> {
        if self.position > 0 || self.dropped > 0 || self.scanned > self.start {
            return Some(false);
        }
        let held = self.held();
        if held.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(held) {
            return None;
        }
        Some(held.starts_with(BYTE_ORDER_MARK))
    }

    fn find_line_end(&self) -> Option<usize> {
        memchr(b'\n', &self.window[self.scanned..self.filled]).map(|at| self.scanned + at)
    }

    fn find_row_end(&mut self) -> Option<usize> {
        if self.quotes != Quotes::Quoted
            && let Some(end) = self.find_line_end()
            && memchr(b'"', &self.window[self.scanned..end]).is_none()
        {
            return Some(end);
        }
        for at in self.scanned..self.filled {
            let byte = self.window[at];
            self.quotes = match (self.quotes, byte) {
                (Quotes::Quoted, b'"') => Quotes::QuoteInQuoted,
                (Quotes::FieldStart | Quotes::QuoteInQuoted, b'"') => Quotes::Quoted,
                (Quotes::Quoted, byte) => {
                    self.breaks += u64::from(byte == b'\n');
                    Quotes::Quoted
                }
                (_, b'\n') => return Some(at),
                (_, b',') => Quotes::FieldStart,
                _ => Quotes::Unquoted,
            };
        }
        None
    }

    /// Drops what the window holds of a record that is already too long, except its head.
    fn drop_oversize(&mut self) {
        let held = self.filled - self.start;
        // A byte order mark and a `\r` are not part of the record.
        if held <= self.record_bytes + BYTE_ORDER_MARK.len() + 1 && self.dropped == 0 {
            return;
        }
        if self.dropped == 0 {
            let mark = match self.position == 0 && self.held().starts_with(BYTE_ORDER_MARK) {
                true => BYTE_ORDER_MARK.len(),
                false => 0,
            };
            let from = self.start + mark;
            let to = (from + self.record_bytes).min(self.filled);
            self.dropped_mark = mark as u64;
            self.head.clear();
            self.head.extend_from_slice(&self.window[from..to]);
        }
        // The last byte stays: it may be the `\r` of a line end.
        let keep = held.min(1);
        self.dropped += (held - keep) as u64;
        self.start = self.filled - keep;
        self.scanned = self.filled;
    }
}
