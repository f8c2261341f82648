//! From a record's bytes to a message: key, timestamp, value and partition.

use super::field::{Found, Pointer, find};
use super::rows::Rows;
use super::timestamp::{TimestampFormat, TimestampSpec};
use crate::model::{MessageRef, TimestampMs, partition_of_key};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// A CSV row; the first of each file is the header. The value is the row as a JSON object of strings.
    Csv,
    /// A line with a JSON text, which is the value as it stands.
    Jsonl,
    /// A line, which is the value.
    Lines,
}

impl FileFormat {
    /// As in the job file.
    pub(super) fn name(self) -> &'static str {
        match self {
            FileFormat::Csv => "csv",
            FileFormat::Jsonl => "jsonl",
            FileFormat::Lines => "lines",
        }
    }
}

/// What a record turned out to be.
pub(crate) enum Decoded<'a> {
    /// A message of the reader's partition.
    Message(MessageRef<'a>),
    /// A record of another partition.
    Other,
    /// A record of the reader's partition that is not a message, and why. If its key is not known, it belongs to partition 0.
    Undecodable(String),
}

/// Which partition a reader reads, of how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub partition: u32,
    pub partitions: u32,
}

impl Share {
    fn has(self, key: &[u8]) -> bool {
        self.partitions == 1 || partition_of_key(key, self.partitions) == self.partition
    }

    fn undecodable<'a>(self, reason: String) -> Decoded<'a> {
        match self.partition {
            0 => Decoded::Undecodable(reason),
            _ => Decoded::Other,
        }
    }
}

/// Decodes the records of one stream.
pub(crate) struct Decoder {
    share: Share,
    kind: Kind,
    timestamp: Option<TimestampFormat>,
    key: String,
    time: String,
    value: Vec<u8>,
}

enum Kind {
    Lines,
    Jsonl {
        key: Option<Pointer>,
        timestamp: Option<Pointer>,
    },
    Csv {
        rows: Box<Rows>,
        key: Option<Column>,
        timestamp: Option<Column>,
    },
}

/// A column by name, and its place in the header of the file being read.
struct Column {
    name: String,
    at: Option<usize>,
}

impl Decoder {
    /// A decoder for a reader of one partition.
    ///
    /// # Errors
    /// The format cannot provide what is asked for.
    pub fn new(
        format: FileFormat,
        key: Option<&str>,
        timestamp: Option<&TimestampSpec>,
        share: Share,
    ) -> Result<Decoder, String> {
        if share.partitions == 0 {
            return Err("a stream has at least one partition".to_owned());
        }
        if share.partitions > 1 && key.is_none() {
            return Err(
                "more than one partition needs a key that says which message belongs to which"
                    .to_owned(),
            );
        }
        let column = |name: &str| Column {
            name: name.to_owned(),
            at: None,
        };
        let time_field = timestamp.map(|spec| spec.field.as_str());
        let kind = match format {
            FileFormat::Lines if key.is_some() => {
                return Err("format `lines` has no key".to_owned());
            }
            FileFormat::Lines if timestamp.is_some() => {
                return Err("format `lines` has no timestamp".to_owned());
            }
            FileFormat::Lines => Kind::Lines,
            FileFormat::Jsonl => Kind::Jsonl {
                key: key.map(Pointer::parse).transpose()?,
                timestamp: time_field.map(Pointer::parse).transpose()?,
            },
            FileFormat::Csv => Kind::Csv {
                rows: Box::new(Rows::new()),
                key: key.map(column),
                timestamp: time_field.map(column),
            },
        };
        Ok(Decoder {
            share,
            kind,
            timestamp: timestamp.map(|spec| spec.format.clone()),
            key: String::new(),
            time: String::new(),
            value: Vec::new(),
        })
    }

    /// Whether a record is passed over and takes no number: a blank line, in a format whose records are not blank.
    pub fn is_blank(&self, record: &[u8]) -> bool {
        match self.kind {
            Kind::Lines => false,
            Kind::Jsonl { .. } => record.trim_ascii().is_empty(),
            Kind::Csv { .. } => record.is_empty(),
        }
    }

    /// Whether the first record of a file is a header.
    pub fn has_header(&self) -> bool {
        matches!(self.kind, Kind::Csv { .. })
    }

    /// Takes the header of the file that is read from now on.
    pub fn set_header(&mut self, record: &[u8]) -> Result<(), String> {
        if let Kind::Csv {
            rows,
            key,
            timestamp,
        } = &mut self.kind
        {
            rows.set_header(record)?;
            for column in key.iter_mut().chain(timestamp) {
                column.at = rows.column(&column.name);
            }
        }
        Ok(())
    }

    /// Decodes a record; `now` is its timestamp if it has none of its own.
    pub fn decode<'a>(&'a mut self, record: &'a [u8], now: TimestampMs) -> Decoded<'a> {
        let share = self.share;
        let format = self.timestamp.as_ref();
        match &mut self.kind {
            Kind::Lines => Decoded::Message(MessageRef::new(None, Some(record), now)),
            Kind::Jsonl { key, timestamp } => {
                if let Some(pointer) = key {
                    match find(record, pointer, &mut self.key) {
                        Ok(Found::Text | Found::Exact) => {}
                        Ok(found) => return share.undecodable(no_key(found)),
                        Err(error) => return share.undecodable(format!("not JSON: {error}")),
                    }
                    if !share.has(self.key.as_bytes()) {
                        return Decoded::Other;
                    }
                }
                let mut time = now;
                if let (Some(pointer), Some(format)) = (timestamp, format) {
                    let read = match find(record, pointer, &mut self.time) {
                        Ok(Found::Text | Found::Exact | Found::Double) => format.read(&self.time),
                        Ok(found) => Err(describe(found).to_owned()),
                        Err(error) => return Decoded::Undecodable(format!("not JSON: {error}")),
                    };
                    match read {
                        Ok(read) => time = read,
                        Err(error) => return Decoded::Undecodable(format!("timestamp: {error}")),
                    }
                }
                let key = key.as_ref().map(|_| self.key.as_bytes());
                Decoded::Message(MessageRef::new(key, Some(record), time))
            }
            Kind::Csv {
                rows,
                key,
                timestamp,
            } => {
                if let Err(reason) = rows.read(record) {
                    return share.undecodable(reason);
                }
                let key = match key {
                    None => None,
                    Some(Column { at: Some(at), .. }) => Some(rows.field(*at)),
                    Some(column) => return share.undecodable(column.missing()),
                };
                if key.is_some_and(|key| !share.has(key)) {
                    return Decoded::Other;
                }
                let mut time = now;
                if let (Some(column), Some(format)) = (timestamp, format) {
                    let Some(at) = column.at else {
                        return Decoded::Undecodable(column.missing());
                    };
                    let text = String::from_utf8_lossy(rows.field(at));
                    match format.read(&text) {
                        Ok(read) => time = read,
                        Err(error) => {
                            let name = &column.name;
                            return Decoded::Undecodable(format!(
                                "column `{name}`: timestamp `{text}`: {error}"
                            ));
                        }
                    }
                }
                self.value.clear();
                rows.write(&mut self.value);
                Decoded::Message(MessageRef::new(key, Some(&self.value), time))
            }
        }
    }

    /// What to do with a record that cannot even be examined.
    pub fn undecodable<'a>(&self, reason: String) -> Decoded<'a> {
        self.share.undecodable(reason)
    }
}

impl Column {
    fn missing(&self) -> String {
        format!("the header has no column `{}`", self.name)
    }
}

fn no_key(found: Found) -> String {
    format!("key: {}", describe(found))
}

fn describe(found: Found) -> &'static str {
    match found {
        Found::Missing => "missing",
        Found::Null => "null",
        Found::Compound => "an object or an array, not a string or a number",
        Found::Double => "a number that is not an integer",
        Found::Text | Found::Exact => "of another kind",
    }
}
