//! Reading and making columns. Their numbers are packed: end to end, little-endian.

use crate::bindings::wasm_host::task::types::{BytesColumn, Header, HeadersColumn};

/// Packed u32.
pub fn numbers(packed: &[u8]) -> impl Iterator<Item = u32> {
    let (numbers, _) = packed.as_chunks();
    numbers.iter().copied().map(u32::from_le_bytes)
}

/// Packed u64, such as offsets.
pub fn offsets(packed: &[u8]) -> impl Iterator<Item = u64> {
    let (numbers, _) = packed.as_chunks();
    numbers.iter().copied().map(u64::from_le_bytes)
}

/// Packed s64, such as timestamps.
pub fn timestamps(packed: &[u8]) -> impl Iterator<Item = i64> {
    let (numbers, _) = packed.as_chunks();
    numbers.iter().copied().map(i64::from_le_bytes)
}

/// The entries of a column, in order; `None` where one is absent.
pub fn entries(column: &BytesColumn) -> impl Iterator<Item = Option<&[u8]>> {
    let mut start = 0;
    let mut absent = numbers(&column.absent).peekable();
    numbers(&column.ends).enumerate().map(move |(index, end)| {
        let end = end as usize;
        let entry = &column.data[start..end];
        start = end;
        match absent.next_if(|absent| *absent as usize == index) {
            Some(_) => None,
            None => Some(entry),
        }
    })
}

/// A column of these entries.
pub fn column<T: AsRef<[u8]>>(entries: impl IntoIterator<Item = Option<T>>) -> BytesColumn {
    let mut column = BytesColumn {
        ends: Vec::new(),
        data: Vec::new(),
        absent: Vec::new(),
    };
    for (index, entry) in entries.into_iter().enumerate() {
        match entry {
            Some(entry) => column.data.extend_from_slice(entry.as_ref()),
            None => column.absent.extend((index as u32).to_le_bytes()),
        }
        column.ends.extend((column.data.len() as u32).to_le_bytes());
    }
    column
}

/// The headers of each message.
pub fn headers_of(column: &HeadersColumn) -> Vec<Vec<Header>> {
    let mut all = entries(&column.names).zip(entries(&column.values));
    let mut start = 0;
    numbers(&column.ends)
        .map(|end| {
            let of_one = all.by_ref().take((end - start) as usize);
            start = end;
            of_one
                .map(|(name, value)| Header {
                    name: String::from_utf8(name.unwrap_or_default().to_vec())
                        .expect("names of headers are UTF-8"),
                    value: value.map(<[u8]>::to_vec),
                })
                .collect()
        })
        .collect()
}

/// The headers of many messages, as columns.
pub fn headers_column(messages: &[Vec<Header>]) -> HeadersColumn {
    let mut ends = Vec::new();
    let mut count = 0;
    for headers in messages {
        count += headers.len() as u32;
        ends.extend(count.to_le_bytes());
    }
    HeadersColumn {
        ends,
        names: column(messages.iter().flatten().map(|header| Some(&header.name))),
        values: column(
            messages
                .iter()
                .flatten()
                .map(|header| header.value.as_ref()),
        ),
    }
}
