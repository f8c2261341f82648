//! CSV rows as JSON objects of strings, in column order.
//!
//! The dialect is RFC 4180: fields are separated by commas, `""` inside of quotes is a quote. [`super::records`] finds the end of a
//! row; the `csv` crate splits it into fields. Most rows have no quote and nothing that JSON escapes: those are split at their commas
//! and copied, which takes a fraction of the time.

use std::io::{self, Read};

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use crate::connectors::json::escape;

/// Reads rows, one at a time.
pub(super) struct Rows {
    reader: Reader<OneRow>,
    row: ByteRecord,
    plain: Plain,
    /// Which of the two has the row that was read last.
    is_plain: bool,
    header: Header,
}

/// A row whose fields stand in it as they are.
#[derive(Default)]
struct Plain {
    bytes: Vec<u8>,
    /// Where each field ends.
    ends: Vec<usize>,
}

impl Plain {
    fn set(&mut self, row: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(row);
        self.ends.clear();
        self.ends.extend(memchr::memchr_iter(b',', row));
        self.ends.push(row.len());
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let field = &self.bytes[start..*end];
            start = end + 1;
            field
        })
    }
}

/// Whether a row has no quotes and nothing that JSON escapes.
fn is_plain(row: &[u8]) -> bool {
    // Without an early end the loop is compiled into vector instructions.
    let special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    !row.iter().fold(false, |found, byte| found | special(byte))
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
            plain: Plain::default(),
            is_plain: false,
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
        self.is_plain = is_plain(row);
        let fields = match self.is_plain {
            true => {
                self.plain.set(row);
                self.plain.ends.len()
            }
            false => {
                self.split(row)?;
                self.row.len()
            }
        };
        match (fields, self.header.names.len()) {
            (fields, columns) if fields == columns => Ok(()),
            (fields, columns) => Err(format!("{fields} fields, but the header has {columns}")),
        }
    }

    /// A field of the row that was read last.
    pub fn field(&self, column: usize) -> &[u8] {
        let field = match self.is_plain {
            true => self.plain.fields().nth(column),
            false => self.row.get(column),
        };
        field.unwrap_or_default()
    }

    /// Appends the row that was read last as a JSON object.
    pub fn write(&self, into: &mut Vec<u8>) {
        let mut start = 0;
        let mut before = self.header.before_ends.iter().map(|end| {
            let before = &self.header.before[start..*end];
            start = *end;
            before
        });
        let mut next = || before.next().unwrap_or_default();
        if self.is_plain {
            into.reserve(self.header.before.len() + self.plain.bytes.len() + 2);
            for field in self.plain.fields() {
                into.extend_from_slice(next());
                into.extend_from_slice(field);
            }
        } else {
            for field in &self.row {
                into.extend_from_slice(next());
                escape(field, into);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_row_reads_as_the_parser_reads_it() {
        let mut rows = Rows::new();
        rows.set_header(b"a,b \"x\",c").expect("a header");
        for row in ["1,2,3", ",,", " 1 ,\u{e9}\u{2603},", "a'b,{},[;]"] {
            rows.read(row.as_bytes()).expect("a row");
            assert!(rows.is_plain, "{row}");
            let read = |rows: &Rows| {
                let mut json = Vec::new();
                rows.write(&mut json);
                let fields: Vec<Vec<u8>> = (0..4).map(|at| rows.field(at).to_vec()).collect();
                (json, fields)
            };
            let plain = read(&rows);
            rows.split(row.as_bytes()).expect("a row");
            rows.is_plain = false;
            assert_eq!(plain, read(&rows), "{row}");
        }
        for row in ["\"1\",2,3", "1,2\t,3", "1,\\,3", "1,2\"2,3"] {
            rows.read(row.as_bytes()).expect("a row");
            assert!(!rows.is_plain, "{row}");
        }
        assert_eq!(
            rows.read(b"1,2").expect_err("a field is missing"),
            "2 fields, but the header has 3"
        );
    }
}
