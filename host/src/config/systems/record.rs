//! What systems of records have in common: formats, and what is taken out of a record.

use jiff::Timestamp;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::config::decode::general::size_in;
use crate::config::names;
use crate::config::setting::{FromText, Problem, Setting, Written};
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;
use crate::config::words::words;

/// The default of `record-bytes`.
const RECORD_BYTES: ByteSize = ByteSize::mib(1);
/// What one call may hand to a guest, and a guest to the host.
pub(super) const RECORD_BYTES_MAX: ByteSize = ByteSize::mib(16);

words! {
    /// What a record of an input is.
    InputFormat, "format", "a format" {
        /// A row; the value is a JSON object of strings.
        Csv = "csv",
        /// A line of JSON; the value is the line.
        Jsonl = "jsonl",
        /// A line; the value is the line.
        Lines = "lines",
    } later []
}

words! {
    /// What a line of an output is.
    OutputFormat, "format", "a format" {
        /// The value.
        Lines = "lines",
        /// The value, which is JSON.
        Jsonl = "jsonl",
        /// The whole message as JSON, with key, time and headers.
        Message = "message",
    } later []
}

/// The place of a record's time, and how it is written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TimestampField {
    /// The column (csv), or the JSON pointer or name of a member (jsonl). Required.
    pub field: Setting<String>,
    /// How the time is written. Required, because a guess would be wrong for some.
    pub format: Setting<TimestampFormat>,
}

/// `unix-ms`, `unix-s`, `rfc3339`, or a format of `strftime` that has a date in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampFormat(String);

impl TimestampFormat {
    const WORDS: &'static [&'static str] = &["unix-ms", "unix-s", "rfc3339"];

    /// As it is written in the job file.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Written for TimestampFormat {
    fn written(&self) -> String {
        self.0.clone()
    }
}

impl FromText for TimestampFormat {
    const WHAT: &'static str = "a format of a time";

    fn from_text(text: &str) -> Result<TimestampFormat, Problem> {
        let format = TimestampFormat(text.to_owned());
        if Self::WORDS.contains(&text) {
            return Ok(format);
        }
        let valid = "\"unix-ms\", \"unix-s\", \"rfc3339\" or a date such as \"%Y-%m-%d %H:%M:%S\"";
        if !text.contains('%') {
            let unknown = Problem::new(format!("unknown format of a time {text:?}"));
            return Err(match names::nearest(text, Self::WORDS) {
                Some(word) => unknown.help(format!("did you mean \"{word}\"? valid: {valid}")),
                None => unknown.help(format!("valid: {valid}")),
            });
        }
        // What can read back a time that it wrote can read times at all.
        let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        let read = strtime::format(text, &sample).and_then(|written| {
            let parts = BrokenDownTime::parse(text, &written)?;
            if parts.offset().is_some() || parts.timestamp().is_some() {
                return parts.to_timestamp().map(|_| ());
            }
            parts.to_datetime().map(|_| ())
        });
        match read {
            Ok(()) => Ok(format),
            Err(error) => Err(
                Problem::new(format!("{text:?} is not a time format: {error}"))
                    .help(format!("valid: {valid}")),
            ),
        }
    }
}

pub(super) fn record_bytes(table: &mut Table<'_>) -> Setting<ByteSize> {
    let record_bytes = size_in(table, "record-bytes", ByteSize(1), RECORD_BYTES_MAX);
    record_bytes.unwrap_or(RECORD_BYTES.into())
}

/// What is taken out of a record.
pub(super) struct Fields {
    pub(super) key: Option<Setting<String>>,
    pub(super) timestamp: Option<TimestampField>,
}

/// `key` and `timestamp`, which lines do not have.
pub(super) fn fields(table: &mut Table<'_>, format: Option<InputFormat>) -> Fields {
    let lines = match format {
        Some(format) => format == InputFormat::Lines,
        None => table.peek("format").is_none(),
    };
    let key = table.entry("key");
    let timestamp = table.entry("timestamp");
    if lines {
        for entry in [&key, &timestamp].into_iter().flatten() {
            let problem = Problem::new(format!("a line has no field for `{}`", entry.key));
            let help = "use format = \"csv\" or \"jsonl\"";
            table.cx.error(&entry.key_span, problem.help(help));
        }
    }
    Fields {
        key: key.and_then(|entry| field(&entry, format)),
        timestamp: timestamp.and_then(|entry| timestamp_field(&entry, format)),
    }
}

fn timestamp_field(entry: &Entry<'_>, input: Option<InputFormat>) -> Option<TimestampField> {
    let shape = "{ field = \"…\", format = \"…\" }";
    if !entry.is_table() {
        entry.wrong_type("a table", &format!("write {} = {shape}", entry.key));
        return None;
    }
    let mut table = entry.table(shape)?;
    let field = table.entry("field");
    if field.is_none() {
        table.missing("field", "the column, or the JSON pointer, of the time");
    }
    if table.peek("format").is_none() {
        table.missing(
            "format",
            "such as \"unix-ms\", \"rfc3339\" or \"%Y-%m-%d %H:%M:%S\"",
        );
    }
    let format = table.text("format");
    table.finish(|_| None);
    Some(TimestampField {
        field: self::field(&field?, input)?,
        format: format?,
    })
}

/// A column of csv; of jsonl a pointer, or the name of a member.
fn field(entry: &Entry<'_>, format: Option<InputFormat>) -> Option<Setting<String>> {
    let field = entry.text::<String>()?;
    if field.is_empty() {
        entry.error(Problem::new(format!("`{}` is empty", entry.key)));
        return None;
    }
    let escapes = field.matches("~0").count() + field.matches("~1").count();
    let pointer = format == Some(InputFormat::Jsonl) && field.starts_with('/');
    if pointer && field.matches('~').count() != escapes {
        let problem = Problem::new("a `~` in a JSON pointer is written `~0`");
        entry.error(problem.help("and a `/` in a name `~1`"));
        return None;
    }
    Some(field)
}

pub(super) fn output_format(table: &mut Table<'_>) -> Setting<OutputFormat> {
    if let Some(entry) = table.peek("format")
        && entry.string() == Some(InputFormat::Csv.as_str())
    {
        let problem = Problem::new("csv can be read, but not written");
        entry.error(problem.help(format!("valid: {}", names::quoted(OutputFormat::WORDS))));
        table.entry("format");
        return OutputFormat::Lines.into();
    }
    table.text("format").unwrap_or(OutputFormat::Lines.into())
}
