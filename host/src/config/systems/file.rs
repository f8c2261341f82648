//! `file`: files that are read, or a folder of files that are written. A stream is one or the other.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::record::{
    InputFormat, OutputFormat, TimestampField, fields, output_format, record_bytes,
};
use super::{Kind, PARTITIONS, SystemName};
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::units::ByteSize;

pub(super) const READ: Kind = Kind {
    name: SystemName::File,
    what: "a `file` stream that is read",
    keys: &[
        "path",
        "format",
        "key",
        "timestamp",
        "partitions",
        "follow",
        "drop-unread",
        "record-bytes",
        "max-rate",
    ],
    is_read: true,
    is_written: false,
};

pub(super) const WRITTEN: Kind = Kind {
    name: SystemName::File,
    what: "a `file` stream that is written",
    keys: &["path", "format", "partitions"],
    is_read: false,
    is_written: true,
};

/// Files with this ending are decompressed.
const GZIP: &str = ".gz";

/// Files with this ending will be decompressed by a later version.
const ZSTD: &str = ".zst";

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

/// Whether an unused file stream can only be an output.
pub(super) fn is_message(table: &Table<'_>) -> bool {
    let format = table.peek("format").and_then(|format| format.string());
    format == Some(OutputFormat::Message.as_str())
}

pub(super) fn decode_read(table: &mut Table<'_>) -> Option<FileInput> {
    let folder = table.cx.folder;
    let path = required_path(table, "a file or a pattern such as \"data/*.jsonl\"")
        .map(|path| path.map(|path| pattern_in(folder, &path)));
    let format = table.text::<InputFormat>("format");
    let fields = fields(table, format.as_deref().copied());
    let partitions = table.integer_u32("partitions", PARTITIONS).unwrap_or(1);
    let follow = table.bool("follow").unwrap_or(false);
    let drop_unread = table.bool("drop-unread").unwrap_or(false);
    let record_bytes = record_bytes(table);

    if drop_unread && !follow {
        let problem = Problem::new("`drop-unread` without `follow` drops nothing");
        let help = "files that are read once must all be there: leave it out";
        table
            .cx
            .error(&table.span_of("drop-unread"), problem.help(help));
    }
    if partitions > 1 && table.peek("key").is_none() {
        let problem = Problem::new("more than one partition of a file needs a key");
        let help = match format.as_deref() {
            Some(InputFormat::Csv) => "set key = \"COLUMN\", by which rows are routed",
            Some(InputFormat::Jsonl) => "set key = \"/POINTER\", by which lines are routed",
            _ => {
                "lines have no key: use one partition, or format = \"csv\" or \"jsonl\" with a key"
            }
        };
        table
            .cx
            .error(&table.span_of("partitions"), problem.help(help));
    }
    let path = path?;
    let name = path.to_string_lossy();
    if let Err(error) = glob::Pattern::new(&name) {
        let problem = Problem::new(format!("this pattern cannot be read: {}", error.msg));
        let help = "in names `*`, `?` and `[…]` stand for characters; `[*]` is a star itself";
        table.cx.error(&table.span_of("path"), problem.help(help));
    }
    if name.ends_with(ZSTD) {
        let problem = Problem::new("zstd files are not supported yet");
        let help = "compress with gzip, or decompress first";
        table.cx.error(&table.span_of("path"), problem.help(help));
    }
    if follow && name.ends_with(GZIP) {
        let problem = Problem::new("a compressed file cannot be followed");
        let help = "it cannot be read while it grows: write it uncompressed, or leave `follow` out";
        table.cx.error(&table.span_of("follow"), problem.help(help));
    }
    if table.peek("format").is_none()
        && !path.is_substituted()
        && let Some(format) = suggested_format(&name)
    {
        let problem = Problem::new(format!("a file that is named like {format} needs a format"));
        let help =
            format!("write format = \"{format}\", or \"lines\" to read its lines as they are");
        table.cx.error(&table.span_of("path"), problem.help(help));
    }
    Some(FileInput {
        path,
        format: format.unwrap_or(InputFormat::Lines.into()),
        key: fields.key,
        timestamp: fields.timestamp,
        partitions,
        follow,
        drop_unread,
        record_bytes,
    })
}

/// The path as it is written, not yet joined to a folder.
fn required_path(table: &mut Table<'_>, what: &str) -> Option<Setting<PathBuf>> {
    if table.peek("path").is_none() {
        table.missing("path", &format!("write path = \"…\": {what}"));
    }
    table.text::<PathBuf>("path")
}

/// Joins a pattern to a folder whose own name is not a pattern.
fn pattern_in(folder: &Path, pattern: &Path) -> PathBuf {
    let name = folder.to_string_lossy();
    if pattern.is_absolute() || !name.contains(['*', '?', '[']) {
        return folder.join(pattern);
    }
    let mut literal = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' => literal.extend(['[', c, ']']),
            _ => literal.push(c),
        }
    }
    Path::new(&literal).join(pattern)
}

fn suggested_format(path: &str) -> Option<&'static str> {
    let plain = path
        .strip_suffix(GZIP)
        .or(path.strip_suffix(ZSTD))
        .unwrap_or(path);
    match Path::new(plain).extension()?.to_str()? {
        "csv" => Some("csv"),
        "jsonl" | "ndjson" => Some("jsonl"),
        _ => None,
    }
}

pub(super) fn decode_written(table: &mut Table<'_>) -> Option<FileOutput> {
    let folder = table.cx.folder;
    let path = required_path(table, "a folder");
    let format = output_format(table);
    let partitions = table.integer_u32("partitions", PARTITIONS).unwrap_or(1);
    let path = path?;
    if !path.is_substituted() && path.to_string_lossy().contains(['*', '?']) {
        let problem = Problem::new("the path of an output is a folder, not a pattern");
        table.cx.error(&table.span_of("path"), problem);
    }
    Some(FileOutput {
        path: path.map(|path| folder.join(path)),
        format,
        partitions,
    })
}
