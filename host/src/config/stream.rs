//! `[streams.*]`: the options of each system, with defaults and their reasons.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::names;
use super::setting::{FromText, Problem, Setting, Written};
use super::units::{ByteSize, Rate};
use super::words::words;

/// A declared stream.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stream {
    /// Whether a stage reads it.
    #[serde(skip)]
    pub read: bool,
    /// Whether a stage writes to it, dead letters included.
    #[serde(skip)]
    pub written: bool,
    /// The system that holds it, with its options.
    #[serde(flatten)]
    pub system: System,
    /// The most that is read of it, all partitions together. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Setting<Rate>>,
}

impl Stream {
    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        match &self.system {
            System::Log(log) => log.partitions,
            System::FileInput(file) => file.partitions,
            System::FileOutput(file) => file.partitions,
            System::Generate(generate) => generate.partitions,
            System::Stdin(_) | System::Stdout(_) => 1,
        }
    }
}

/// A system, and a stream's options in it. A `file` stream is read or written, never both.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "system", rename_all = "kebab-case")]
pub enum System {
    /// The embedded durable log.
    Log(LogStream),
    /// Files that are read.
    #[serde(rename = "file")]
    FileInput(FileInput),
    /// A folder of files that are written.
    #[serde(rename = "file")]
    FileOutput(FileOutput),
    /// Standard input.
    Stdin(Stdin),
    /// Standard output.
    Stdout(Stdout),
    /// Made-up messages.
    Generate(Generate),
}

words! {
    /// The name of a system.
    SystemName, "system", "a system" {
        /// The embedded durable log.
        Log = "log",
        /// Files.
        File = "file",
        /// Standard input.
        Stdin = "stdin",
        /// Standard output.
        Stdout = "stdout",
        /// Made-up messages.
        Generate = "generate",
    } later ["kafka"]
}

impl SystemName {
    /// The systems that can be read.
    pub(super) const READABLE: &'static [&'static str] = &["log", "file", "stdin", "generate"];
    /// The systems that can be written.
    pub(super) const WRITABLE: &'static [&'static str] = &["log", "file", "stdout"];

    /// Whether a stage can read a stream of it.
    pub fn can_be_read(self) -> bool {
        Self::READABLE.contains(&self.as_str())
    }

    /// Whether a stage can write to a stream of it.
    pub fn can_be_written(self) -> bool {
        Self::WRITABLE.contains(&self.as_str())
    }
}

/// A stream of the embedded log, in the state directory.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogStream {
    /// Default: 1. More is a decision, because it is fixed at the first start.
    pub partitions: u32,
    /// What may be deleted. Default: nothing, because deleting must be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether retention may delete what a task of the job has not read. Default: no.
    pub drop_unread: bool,
}

/// When messages of a log may be deleted: as soon as one bound is passed. At least one is set.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retention {
    /// The size to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Setting<ByteSize>>,
    /// The age to keep, by the time of appending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Setting<Duration>>,
}

/// Files that are read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileInput {
    /// A file or a glob pattern. Required.
    pub path: Setting<PathBuf>,
    /// What a record is. Default: `lines`, which takes every file as it is; a file that is named `.csv` or `.jsonl`
    /// must say what is meant.
    pub format: Setting<InputFormat>,
    /// The column (csv), or the JSON pointer or name of a member (jsonl), that is the key. Default: no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Setting<String>>,
    /// The place of a message's time. Default: the time of reading, which is not the same when a record is read again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampField>,
    /// Records are routed by their key. Default: 1, which needs no key and keeps the order of the files.
    pub partitions: u32,
    /// Wait for more at the end. Default: no, so that a job over files ends.
    pub follow: bool,
    /// Go on if a followed file disappears before it was read to its end. Default: no.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop_unread: bool,
    /// The longest record; a longer one is not a message. Default: 1 MiB, the default size of a value.
    pub record_bytes: Setting<ByteSize>,
}

/// A folder of files that are written, `<stream>-<partition>-<number>`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileOutput {
    /// The folder. Required.
    pub path: Setting<PathBuf>,
    /// What a line is. Default: `lines`.
    pub format: Setting<OutputFormat>,
    /// Default: 1, so that there is one file to look at.
    pub partitions: u32,
}

/// Standard input: one partition, which cannot be read again.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stdin {
    /// As [`FileInput::format`].
    pub format: Setting<InputFormat>,
    /// As [`FileInput::key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Setting<String>>,
    /// As [`FileInput::timestamp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampField>,
    /// As [`FileInput::record_bytes`].
    pub record_bytes: Setting<ByteSize>,
}

/// Standard output: one partition, which can repeat messages after a crash.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stdout {
    /// What a line is. Default: `lines`.
    pub format: Setting<OutputFormat>,
}

/// Made-up messages: the same ones whenever they are read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Generate {
    /// How many, in all partitions together. Default: no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How fast they come to be, in all partitions together. Default: as fast as they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Setting<Rate>>,
    /// How many different keys. Default: 1000, enough to see a spread and few enough to look at.
    pub keys: u64,
    /// How often each key comes. Default: `uniform`.
    pub distribution: Setting<Distribution>,
    /// The length of a value. Default: 100 B, a small event.
    pub value_bytes: Setting<ByteSize>,
    /// Another seed makes other messages. Default: 0.
    pub seed: u64,
    /// Default: 1.
    pub partitions: u32,
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
        // A format that can read back a time it wrote can read times.
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

words! {
    /// How often each generated key comes.
    Distribution, "distribution", "a distribution" {
        /// Each as often as any other.
        Uniform = "uniform",
        /// A few very often, most rarely.
        Zipfian = "zipfian",
        /// One after another.
        Sequential = "sequential",
    } later []
}

/// The default of [`FileInput::record_bytes`].
pub(super) const RECORD_BYTES: ByteSize = ByteSize::mib(1);
