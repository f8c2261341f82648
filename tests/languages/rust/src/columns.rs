//! Reading and making columns.

use crate::bindings::wasm_host::task::types::{BytesColumn, Header, HeadersColumn};

/// The entries of a column, in order; `None` where one is absent.
pub fn entries(column: &BytesColumn) -> impl Iterator<Item = Option<&[u8]>> {
    let mut start = 0;
    let mut absent = column.absent.iter().peekable();
    column.ends.iter().enumerate().map(move |(index, end)| {
        let entry = &column.data[start..*end as usize];
        start = *end as usize;
        match absent.next_if(|absent| **absent as usize == index) {
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
            None => column.absent.push(index as u32),
        }
        column.ends.push(column.data.len() as u32);
    }
    column
}

/// The headers of each message.
pub fn headers_of(column: &HeadersColumn) -> Vec<Vec<Header>> {
    let mut all = entries(&column.names).zip(entries(&column.values));
    let mut start = 0;
    let mut headers = Vec::with_capacity(column.ends.len());
    for end in &column.ends {
        let of_one = all.by_ref().take((end - start) as usize);
        headers.push(
            of_one
                .map(|(name, value)| Header {
                    name: String::from_utf8(name.unwrap_or_default().to_vec())
                        .expect("names of headers are UTF-8"),
                    value: value.map(<[u8]>::to_vec),
                })
                .collect(),
        );
        start = *end;
    }
    headers
}

/// The headers of many messages, as columns.
pub fn headers_column(messages: &[Vec<Header>]) -> HeadersColumn {
    let mut count = 0;
    HeadersColumn {
        ends: messages
            .iter()
            .map(|headers| {
                count += headers.len() as u32;
                count
            })
            .collect(),
        names: column(messages.iter().flatten().map(|header| Some(&header.name))),
        values: column(
            messages
                .iter()
                .flatten()
                .map(|header| header.value.as_ref()),
        ),
    }
}
