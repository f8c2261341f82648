//! Byte strings laid end to end: the shape in which messages are fetched, given to guests, staged and stored.

use std::fmt;

/// Many byte strings in two flat lists. Entry `i` is `data[ends[i-1]..ends[i]]`; `absent` lists, in increasing
/// order, the entries that are not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    ends: Vec<u32>,
    data: Vec<u8>,
    absent: Vec<u32>,
}

/// The rule of columns that some parts from outside break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnError {
    /// `ends` decreases at this index.
    Decreasing(usize),
    /// The last end is not the length of the data.
    Length {
        /// The last element of `ends`.
        end: u32,
        /// The number of bytes.
        data: usize,
    },
    /// `absent` does not increase strictly, or names an entry that does not exist, at this index.
    Absent(usize),
    /// The absent entry of this index has bytes.
    AbsentBytes(u32),
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decreasing(at) => write!(f, "`ends` decreases at index {at}"),
            Self::Length { end, data } => {
                write!(
                    f,
                    "the last of `ends` is {end}, but `data` has {data} bytes"
                )
            }
            Self::Absent(at) => write!(
                f,
                "`absent` is not strictly increasing within the column at index {at}"
            ),
            Self::AbsentBytes(entry) => write!(f, "entry {entry} is absent, but has bytes"),
        }
    }
}

impl std::error::Error for ColumnError {}

impl Column {
    /// An empty column.
    pub fn new() -> Column {
        Column::default()
    }

    /// An empty column with room for `entries` entries of `bytes` bytes in all.
    pub fn with_capacity(entries: usize, bytes: usize) -> Column {
        Column {
            ends: Vec::with_capacity(entries),
            data: Vec::with_capacity(bytes),
            absent: Vec::new(),
        }
    }

    /// Checks parts that came from outside and makes them a column.
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn from_parts(
        ends: Vec<u32>,
        data: Vec<u8>,
        absent: Vec<u32>,
    ) -> Result<Column, ColumnError> {
        check_parts(&ends, data.len(), &absent)?;
        Ok(Column { ends, data, absent })
    }

    /// The parts: ends, data, absent.
    pub fn parts(&self) -> (&[u32], &[u8], &[u32]) {
        (&self.ends, &self.data, &self.absent)
    }

    /// The parts, owned.
    pub fn into_parts(self) -> (Vec<u32>, Vec<u8>, Vec<u32>) {
        (self.ends, self.data, self.absent)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all entries together.
    pub fn data_len(&self) -> usize {
        self.data.len()
    }

    /// Appends an entry.
    ///
    /// # Panics
    /// If the column would exceed 4 GiB: callers bound what they stage far below that.
    pub fn push(&mut self, entry: Option<&[u8]>) {
        match entry {
            Some(bytes) => self.data.extend_from_slice(bytes),
            None => self.absent.push(index_u32(self.ends.len())),
        }
        self.ends.push(index_u32(self.data.len()));
    }

    /// Appends entries `range` of another column.
    ///
    /// # Panics
    /// As [`Column::push`], and if `range` is outside of `other`.
    pub fn extend_from(&mut self, other: &Column, range: std::ops::Range<usize>) {
        let from = other.start_of(range.start);
        let to = other.start_of(range.end);
        let base = index_u32(self.data.len());
        let first = index_u32(self.ends.len());
        self.data.extend_from_slice(&other.data[from..to]);
        assert!(
            u32::try_from(self.data.len()).is_ok(),
            "a column exceeds 4 GiB"
        );
        let from = index_u32(from);
        self.ends.extend(
            other.ends[range.clone()]
                .iter()
                .map(|end| end - from + base),
        );
        let absent_from = other
            .absent
            .partition_point(|i| (*i as usize) < range.start);
        let absent_to = other.absent.partition_point(|i| (*i as usize) < range.end);
        let start = index_u32(range.start);
        self.absent.extend(
            other.absent[absent_from..absent_to]
                .iter()
                .map(|i| i - start + first),
        );
    }

    /// The entry at `index`: its bytes, or `None` if it is absent.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if self.is_absent(index) {
            return None;
        }
        Some(&self.data[self.start_of(index)..self.ends[index] as usize])
    }

    /// Whether the entry at `index` is absent.
    pub fn is_absent(&self, index: usize) -> bool {
        !self.absent.is_empty() && self.absent.binary_search(&index_u32(index)).is_ok()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> + '_ {
        iterate(&self.ends, &self.data, &self.absent)
    }

    /// Cuts the column to its first `len` entries.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.ends.len() {
            return;
        }
        self.data.truncate(self.start_of(len));
        self.ends.truncate(len);
        let keep = self.absent.partition_point(|i| (*i as usize) < len);
        self.absent.truncate(keep);
    }

    /// Empties the column and keeps its memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.data.clear();
        self.absent.clear();
    }

    fn start_of(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        }
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(entries: I) -> Column {
        let mut column = Column::new();
        entries.into_iter().for_each(|entry| column.push(entry));
        column
    }
}

/// A number of a column: as it is here, or packed, as guests have it.
pub(crate) trait Number: Copy {
    /// The number.
    fn get(self) -> u32;
}

impl Number for u32 {
    fn get(self) -> u32 {
        self
    }
}

impl Number for [u8; 4] {
    fn get(self) -> u32 {
        u32::from_le_bytes(self)
    }
}

/// Checks the parts of a column against its rules.
///
/// # Errors
/// The first rule that they break.
pub(crate) fn check_parts<N: Number>(
    ends: &[N],
    data: usize,
    absent: &[N],
) -> Result<(), ColumnError> {
    let decreases = |pair: &[N]| pair[1].get() < pair[0].get();
    if let Some(at) = ends.windows(2).position(decreases) {
        return Err(ColumnError::Decreasing(at + 1));
    }
    let end = ends.last().map_or(0, |end| end.get());
    if end as usize != data {
        return Err(ColumnError::Length { end, data });
    }
    for (at, entry) in absent.iter().enumerate() {
        let entry = entry.get();
        let previous = at.checked_sub(1).map(|before| absent[before].get());
        if entry as usize >= ends.len() || previous.is_some_and(|previous| previous >= entry) {
            return Err(ColumnError::Absent(at));
        }
        let start = entry
            .checked_sub(1)
            .map_or(0, |before| ends[before as usize].get());
        if ends[entry as usize].get() != start {
            return Err(ColumnError::AbsentBytes(entry));
        }
    }
    Ok(())
}

/// The entries of checked parts in order.
pub(crate) fn iterate<'a, N: Number>(
    ends: &'a [N],
    data: &'a [u8],
    absent: &'a [N],
) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
    let mut start = 0;
    let mut absent = absent.iter().map(|absent| absent.get()).peekable();
    ends.iter().enumerate().map(move |(index, end)| {
        let end = end.get() as usize;
        let bytes = &data[start..end];
        start = end;
        match absent.next_if(|next| *next as usize == index) {
            Some(_) => None,
            None => Some(bytes),
        }
    })
}

fn index_u32(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(index) => index,
        Err(_) => panic!("a column exceeds 4 GiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Column {
        [Some(&b"a"[..]), None, Some(b""), Some(b"bcd"), None]
            .into_iter()
            .collect()
    }

    #[test]
    fn an_empty_entry_is_not_an_absent_one() {
        let column = sample();
        let entries: Vec<_> = column.iter().collect();
        assert_eq!(
            entries,
            [Some(&b"a"[..]), None, Some(b""), Some(b"bcd"), None]
        );
        assert_eq!(column.get(1), None);
        assert_eq!(column.get(2), Some(&b""[..]));
    }

    #[test]
    fn truncate_forgets_bytes_and_absences() {
        let mut column = sample();
        column.truncate(2);
        assert_eq!(column.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None]);
        column.push(Some(b"z"));
        assert_eq!(column.get(2), Some(&b"z"[..]));
    }

    #[test]
    fn extend_from_moves_ends_and_absences() {
        let mut column: Column = [Some(&b"x"[..])].into_iter().collect();
        column.extend_from(&sample(), 1..4);
        let entries: Vec<_> = column.iter().collect();
        assert_eq!(entries, [Some(&b"x"[..]), None, Some(b""), Some(b"bcd")]);
    }

    #[test]
    fn parts_from_outside_are_checked() {
        let check = |ends: &[u32], data: &[u8], absent: &[u32]| {
            Column::from_parts(ends.to_vec(), data.to_vec(), absent.to_vec()).map(|_| ())
        };
        assert_eq!(check(&[1, 2], b"ab", &[]), Ok(()));
        assert_eq!(check(&[2, 1], b"a", &[]), Err(ColumnError::Decreasing(1)));
        assert_eq!(
            check(&[1], b"ab", &[]),
            Err(ColumnError::Length { end: 1, data: 2 })
        );
        assert_eq!(
            check(&[], b"ab", &[]),
            Err(ColumnError::Length { end: 0, data: 2 })
        );
        assert_eq!(check(&[0, 0], b"", &[1, 1]), Err(ColumnError::Absent(1)));
        assert_eq!(check(&[0], b"", &[1]), Err(ColumnError::Absent(0)));
        assert_eq!(check(&[1], b"a", &[0]), Err(ColumnError::AbsentBytes(0)));
    }
}
