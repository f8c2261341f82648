//! `[streams.*]`: which keys a stream may have depends on its system and on what a stage does with it.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use super::general::size_in;
use super::stage::Draft;
use crate::config::names;
use crate::config::setting::{Problem, Setting};
use crate::config::stream::{
    Distribution, FileInput, FileOutput, Generate, InputFormat, LogStream, OutputFormat,
    RECORD_BYTES, Retention, Stdin, Stdout, Stream, System, SystemName, TimestampField,
};
use crate::config::table::{Entry, Table};
use crate::config::units::ByteSize;

/// A stream with tens of thousands of partitions is a mistake: each is a task or a file.
const PARTITIONS: RangeInclusive<u32> = 1..=65_536;

/// The number of keys that 15 digits can tell apart.
const GENERATED_KEYS_MAX: u64 = 1_000_000_000_000_000;
/// What one call may hand to a guest, and a guest to the host.
const RECORD_BYTES_MAX: ByteSize = ByteSize::mib(16);

/// Files with this ending are decompressed.
const GZIP: &str = ".gz";

/// Files with this ending will be decompressed by a later version.
const ZSTD: &str = ".zst";

/// A declared stream, as far as it could be read.
pub(super) struct Declared<'a> {
    /// The key under which it is declared.
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    /// The key, if it is a valid name.
    pub(super) name: Option<&'a str>,
    pub(super) system: Option<SystemName>,
    pub(super) stream: Option<Stream>,
}

/// The kinds of streams, and the keys that each may have in addition to `system`.
pub(in crate::config) const KINDS: [(&str, &[&str]); 6] = [
    (
        "a `log` stream",
        &["partitions", "retention", "drop-unread", "max-rate"],
    ),
    (
        "a `file` stream that is read",
        &[
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
    ),
    (
        "a `file` stream that is written",
        &["path", "format", "partitions"],
    ),
    (
        "a `stdin` stream",
        &["format", "key", "timestamp", "record-bytes", "max-rate"],
    ),
    ("a `stdout` stream", &["format"]),
    (
        "a `generate` stream",
        &[
            "count",
            "rate",
            "keys",
            "distribution",
            "value-bytes",
            "seed",
            "partitions",
            "max-rate",
        ],
    ),
];

/// Reports that a key is for streams of another kind.
fn of_another_kind(key: &str, kind: &str) -> Option<Problem> {
    let others: Vec<_> = KINDS
        .iter()
        .filter(|(_, keys)| keys.contains(&key))
        .map(|(other, _)| *other)
        .collect();
    let whose = match others.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => return None,
    };
    Some(
        Problem::new(format!("`{key}` is not a key of {kind}"))
            .help(format!("`{key}` is for {whose}")),
    )
}

/// Reads the declaration of a stream.
pub(super) fn decode<'a>(entry: &Entry<'a>, stages: &[Draft<'a>]) -> Declared<'a> {
    let mut declared = Declared {
        key: entry.key,
        key_span: entry.key_span.clone(),
        name: entry.key_name("stream"),
        system: None,
        stream: None,
    };
    let read = stages.iter().any(|stage| stage.reads(entry.key));
    let written = stages.iter().any(|stage| stage.writes(entry.key));
    let Some(mut table) = entry.table(&format!("[streams.{}]", entry.key)) else {
        return declared;
    };
    let Some(system) = table.entry("system") else {
        let systems = names::quoted(SystemName::WORDS);
        table.missing("system", &format!("write system = one of {systems}"));
        return declared;
    };
    if system.string().is_some_and(|text| text.contains("${")) {
        let problem = Problem::new("the system cannot come from the environment");
        system.error(problem.help("it decides which keys a stream may have"));
        return declared;
    }
    let Some(system) = system.text::<SystemName>() else {
        return declared;
    };
    declared.system = Some(*system);
    let (kind, system) = match *system {
        SystemName::Log => (0, log(&mut table).map(System::Log)),
        SystemName::File if read || !written && !is_message(&table) => {
            (1, file_input(&mut table).map(System::FileInput))
        }
        SystemName::File => (2, file_output(&mut table).map(System::FileOutput)),
        SystemName::Stdin => (3, stdin(&mut table).map(System::Stdin)),
        SystemName::Stdout => (4, Some(System::Stdout(stdout(&mut table)))),
        SystemName::Generate => (5, Some(System::Generate(generate(&mut table)))),
    };
    let (kind, keys) = KINDS[kind];
    let max_rate = if keys.contains(&"max-rate") {
        table.text("max-rate")
    } else {
        None
    };
    if max_rate.is_some() && written && !read {
        let problem = Problem::new("`max-rate` is for streams that are read");
        table.cx.error(&table.span_of("max-rate"), problem);
    }
    table.finish(|key| of_another_kind(key, kind));
    declared.stream = system.map(|system| Stream {
        read,
        written,
        system,
        max_rate,
    });
    declared
}

/// Whether an unused file stream can only be an output.
fn is_message(table: &Table<'_>) -> bool {
    let format = table.peek("format").and_then(|format| format.string());
    format == Some(OutputFormat::Message.as_str())
}

fn log(table: &mut Table<'_>) -> Option<LogStream> {
    let partitions = table.integer_u32("partitions", PARTITIONS);
    let retention = table
        .table("retention", "{ bytes = …, age = … }")
        .map(|mut retention| {
            let bytes = retention.text("bytes");
            let age = super::general::positive(&mut retention, "age");
            if retention.is_empty() {
                let problem = Problem::new("a retention without bounds keeps everything");
                retention.cx.error(
                    &retention.span,
                    problem.help("set `bytes`, `age` or both, or leave it out"),
                );
            }
            retention.finish(|_| None);
            Retention { bytes, age }
        });
    let drop_unread = table.bool("drop-unread").unwrap_or(false);
    if drop_unread && table.peek("retention").is_none() {
        let problem = Problem::new("`drop-unread` without `retention` drops nothing");
        let help = "set retention = { bytes = …, age = … }, or leave it out";
        table
            .cx
            .error(&table.span_of("drop-unread"), problem.help(help));
    }
    Some(LogStream {
        partitions: partitions.unwrap_or(1),
        retention,
        drop_unread,
    })
}

fn file_input(table: &mut Table<'_>) -> Option<FileInput> {
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

fn record_bytes(table: &mut Table<'_>) -> Setting<ByteSize> {
    let record_bytes = size_in(table, "record-bytes", ByteSize(1), RECORD_BYTES_MAX);
    record_bytes.unwrap_or(RECORD_BYTES.into())
}

/// What is taken out of a record.
struct Fields {
    key: Option<Setting<String>>,
    timestamp: Option<TimestampField>,
}

/// `key` and `timestamp`, which lines do not have.
fn fields(table: &mut Table<'_>, format: Option<InputFormat>) -> Fields {
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

fn file_output(table: &mut Table<'_>) -> Option<FileOutput> {
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

fn output_format(table: &mut Table<'_>) -> Setting<OutputFormat> {
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

fn stdin(table: &mut Table<'_>) -> Option<Stdin> {
    let format = table.text::<InputFormat>("format");
    if format.as_deref() == Some(&InputFormat::Csv) {
        let problem = Problem::new("standard input is read as `lines` or `jsonl`");
        table.cx.error(&table.span_of("format"), problem);
    }
    let fields = fields(table, format.as_deref().copied());
    Some(Stdin {
        format: format.unwrap_or(InputFormat::Lines.into()),
        key: fields.key,
        timestamp: fields.timestamp,
        record_bytes: record_bytes(table),
    })
}

fn stdout(table: &mut Table<'_>) -> Stdout {
    Stdout {
        format: output_format(table),
    }
}

fn generate(table: &mut Table<'_>) -> Generate {
    let any = i64::MAX.unsigned_abs();
    Generate {
        count: table.integer("count", 1..=any),
        rate: table.text("rate"),
        keys: table
            .integer("keys", 1..=GENERATED_KEYS_MAX)
            .unwrap_or(1000),
        distribution: table
            .text("distribution")
            .unwrap_or(Distribution::Uniform.into()),
        value_bytes: size_in(table, "value-bytes", ByteSize(0), RECORD_BYTES_MAX)
            .unwrap_or(ByteSize(100).into()),
        seed: table.integer("seed", 0..=any).unwrap_or(0),
        partitions: table.integer_u32("partitions", PARTITIONS).unwrap_or(1),
    }
}
