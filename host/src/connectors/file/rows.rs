//! CSV rows as JSON objects of strings, in column order.
//!
//! The dialect is RFC 4180: fields are separated by commas, `""` inside of quotes is a quote. [`super::records`] finds the end of a
//! row; the `csv` crate splits it into fields.

use std::io::{self, Read};

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use crate::connectors::json::escape;

/// Reads rows, one at a time.
pub(super) struct Rows {
    reader: Reader<OneRow>,
    row: ByteRecord,
    header: Header,
}

/// The first row of a file.
#[derive(Default)]
struct Header {
    names: Vec<String>,
    /// What stands before each field in the object: `{"a":"` for the first, `","b":"` for others.
    before: Vec<u8>,
    before_ends: Vec<usize>,
    /// Why no row below it can be used.
    unusable: Option<String>,
}

impl Rows {
    pub fn new() -> Rows {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(OneRow::default());
        Rows {
            reader,
            row: ByteRecord::new(),
            header: Header::default(),
        }
    }

    /// Takes a file's first row as its header.
    pub fn set_header(&mut self, row: &[u8]) -> Result<(), String> {
        self.header = Header::default();
        let Ok(text) = std::str::from_utf8(row) else {
            self.header.unusable = Some("the header is not UTF-8".to_owned());
            return Ok(());
        };
        self.split(text.as_bytes())?;
        let header = &mut self.header;
        for field in &self.row {
            let name = String::from_utf8_lossy(field).into_owned();
            if header.unusable.is_none() && header.names.contains(&name) {
                header.unusable = Some(format!("the header has column `{name}` twice"));
            }
            let before: &[u8] = match header.names.is_empty() {
                true => b"{\"",
                false => b"\",\"",
            };
            header.before.extend_from_slice(before);
            escape(name.as_bytes(), &mut header.before);
            header.before.extend_from_slice(b"\":\"");
            header.before_ends.push(header.before.len());
            header.names.push(name);
        }
        Ok(())
    }

    /// The index of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.names.iter().position(|column| column == name)
    }

    /// Splits a row into its fields, as many as the header has.
    pub fn read(&mut self, row: &[u8]) -> Result<(), String> {
        if let Some(unusable) = &self.header.unusable {
            return Err(unusable.clone());
        }
        if std::str::from_utf8(row).is_err() {
            return Err(self.not_utf8(row));
        }
        self.split(row)?;
        match (self.row.len(), self.header.names.len()) {
            (fields, columns) if fields == columns => Ok(()),
            (fields, columns) => Err(format!("{fields} fields, but the header has {columns}")),
        }
    }

    /// A field of the row that was read last.
    pub fn field(&self, column: usize) -> &[u8] {
        self.row.get(column).unwrap_or_default()
    }

    /// Appends the row that was read last as a JSON object.
    pub fn write(&self, into: &mut Vec<u8>) {
        let mut start = 0;
        for (field, end) in self.row.iter().zip(&self.header.before_ends) {
            into.extend_from_slice(&self.header.before[start..*end]);
            escape(field, into);
            start = *end;
        }
        into.extend_from_slice(b"\"}");
    }

    fn split(&mut self, row: &[u8]) -> Result<(), String> {
        self.reader.get_mut().set(row);
        match self.reader.read_byte_record(&mut self.row) {
            Ok(true) => Ok(()),
            Ok(false) => Err("not a row".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn not_utf8(&mut self, row: &[u8]) -> String {
        let split = self.split(row);
        let bad = |field: &[u8]| std::str::from_utf8(field).is_err();
        match (split, self.row.iter().position(bad)) {
            (Ok(()), Some(at)) => match self.header.names.get(at) {
                Some(name) => format!("column `{name}` is not UTF-8"),
                None => format!("field {} is not UTF-8", at + 1),
            },
            _ => "not UTF-8".to_owned(),
        }
    }
}

/// A reader that holds one row and a line end: the parser is back at the start of a row when it has read them, and
/// never sees an end of input.
#[derive(Default)]
struct OneRow {
    bytes: Vec<u8>,
    given: usize,
}

impl OneRow {
    fn set(&mut self, row: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(row);
        self.bytes.push(b'\n');
        self.given = 0;
    }
}

impl Read for OneRow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.bytes[self.given..]).read(into)?;
        self.given += read;
        Ok(read)
    }
}
