//! Ranges of keys: scanning and deleting.

use crate::backend::state;
use crate::column::Column as _;
use crate::{Codec, Error, Store};

/// The most that one page of a scan holds.
const PAGE_BYTES: u32 = 256 << 10;
/// Page sizes start small, for callers that take a few entries, and grow to the last one.
const FIRST_PAGE_ENTRIES: u32 = 32;
const LAST_PAGE_ENTRIES: u32 = 1024;

/// A key and its value.
pub type Entry<K, V> = (<K as Codec>::Owned, <V as Codec>::Owned);

/// Keys of a store in unsigned byte order of their encoding, from one, inclusive, until another, exclusive. Made by [`Store::range`].
///
/// [`Str`](crate::Str), [`Raw`](crate::Raw) and [`Ordered`](crate::Ordered) keys sort as their values do; others by their bytes.
pub struct Range<'s, K, V> {
    store: &'s Store<K, V>,
    bounds: Result<state::Range, Error>,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "the type itself is `must_use` where it is made"
)]
impl<'s, K: Codec, V: Codec> Range<'s, K, V> {
    pub(crate) fn new(store: &'s Store<K, V>) -> Self {
        Self {
            store,
            bounds: Ok(state::Range {
                start: None,
                end: None,
            }),
        }
    }

    /// Not below this key.
    pub fn from(self, key: &K::Borrowed) -> Self {
        self.bound(key, |bounds, key| bounds.start = Some(key))
    }

    /// Not below the key with these bytes.
    pub(crate) fn start_at(mut self, key: Option<&[u8]>) -> Self {
        if let Ok(bounds) = &mut self.bounds {
            bounds.start = key.map(<[u8]>::to_vec);
        }
        self
    }

    /// Below this key.
    pub fn until(self, key: &K::Borrowed) -> Self {
        self.bound(key, |bounds, key| bounds.end = Some(key))
    }

    /// Keys whose bytes begin with those of this one. For [`Str`](crate::Str), [`Raw`](crate::Raw) and formats whose parts lie
    /// end to end. It replaces other bounds.
    pub fn prefix(self, prefix: &K::Borrowed) -> Self {
        self.bound(prefix, |bounds, prefix| {
            bounds.end = after_prefix(&prefix);
            bounds.start = Some(prefix);
        })
    }

    /// Entries in ascending order, as the store is now: later writes do not show.
    pub fn scan(self) -> Result<Scan<'s, K, V>, Error> {
        self.open(false, false)
    }

    /// Entries in descending order, as the store is now.
    pub fn scan_reverse(self) -> Result<Scan<'s, K, V>, Error> {
        self.open(true, false)
    }

    /// Keys in ascending order, without reading values, as the store is now.
    pub fn keys(self) -> Result<Keys<'s, K, V>, Error> {
        Ok(Keys(self.open(false, true)?))
    }

    /// Keys in descending order, without reading values, as the store is now.
    pub fn keys_reverse(self) -> Result<Keys<'s, K, V>, Error> {
        Ok(Keys(self.open(true, true)?))
    }

    /// Removes every key of the range.
    pub fn delete(self) -> Result<(), Error> {
        let bounds = self.bounds?;
        self.store.call.wrote();
        self.store.open.handle.delete_range(&bounds);
        Ok(())
    }

    fn bound(mut self, key: &K::Borrowed, set: impl FnOnce(&mut state::Range, Vec<u8>)) -> Self {
        self.bounds = self.bounds.and_then(|mut bounds| {
            let mut bytes = Vec::new();
            K::encode(key, &mut bytes)?;
            set(&mut bounds, bytes);
            Ok(bounds)
        });
        self
    }

    fn open(self, reverse: bool, keys_only: bool) -> Result<Scan<'s, K, V>, Error> {
        let bounds = self.bounds?;
        let cursor = self
            .store
            .open
            .handle
            .scan(&bounds, state::ScanOptions { reverse, keys_only });
        Ok(Scan {
            store: self.store,
            cursor: Some(cursor),
            page: None,
            next: 0,
            page_entries: FIRST_PAGE_ENTRIES,
        })
    }
}

/// The first key after all that begin with the prefix; none if every greater key does.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// Entries of a scan: keys and values. Made by [`Range::scan`].
///
/// Pages of up to 256 KiB are fetched as they are needed. At most 16 scans of a task may be open; one ends with its last
/// entry, when it is dropped, and with the call of the guest.
pub struct Scan<'s, K, V> {
    store: &'s Store<K, V>,
    cursor: Option<state::Cursor>,
    page: Option<state::Entries>,
    next: usize,
    page_entries: u32,
}

impl<K: Codec, V: Codec> Scan<'_, K, V> {
    /// The place of the next entry in the current page, fetching one if needed.
    fn advance(&mut self) -> Option<usize> {
        if self
            .page
            .as_ref()
            .is_none_or(|page| self.next >= page.keys.count())
        {
            let page = self.cursor.as_ref()?.next(self.page_entries, PAGE_BYTES);
            self.page_entries = (self.page_entries * 2).min(LAST_PAGE_ENTRIES);
            if page.keys.count() == 0 {
                self.cursor = None;
                self.page = None;
                return None;
            }
            self.next = 0;
            self.page = Some(page);
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Bytes of the entry that came last, key and value.
    pub(crate) fn bytes_of_last(&self) -> usize {
        match (&self.page, self.next.checked_sub(1)) {
            (Some(page), Some(last)) => page.keys.bytes(last).len() + page.values.bytes(last).len(),
            _ => 0,
        }
    }
}

impl<K: Codec, V: Codec> Iterator for Scan<'_, K, V> {
    type Item = Result<Entry<K, V>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.advance()?;
        let page = self.page.as_ref()?;
        let key = self.store.decode_key(page.keys.bytes(place));
        Some(key.and_then(|key| Ok((key, self.store.decode_value(page.values.bytes(place))?))))
    }
}

/// Keys of a scan. Made by [`Range::keys`].
pub struct Keys<'s, K, V>(Scan<'s, K, V>);

impl<K: Codec, V: Codec> Keys<'_, K, V> {
    /// How many keys are left.
    pub fn tally(mut self) -> usize {
        std::iter::from_fn(|| self.0.advance()).count()
    }
}

impl<K: Codec, V: Codec> Iterator for Keys<'_, K, V> {
    type Item = Result<K::Owned, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.0.advance()?;
        Some(
            self.0
                .store
                .decode_key(self.0.page.as_ref()?.keys.bytes(place)),
        )
    }
}

impl<K: Codec, V: Codec> Range<'_, K, V> {
    /// The first entry of the range.
    pub fn first(self) -> Result<Option<Entry<K, V>>, Error> {
        self.scan()?.one()
    }

    /// The last entry of the range.
    pub fn last(self) -> Result<Option<Entry<K, V>>, Error> {
        self.scan_reverse()?.one()
    }
}

impl<K: Codec, V: Codec> Scan<'_, K, V> {
    fn one(mut self) -> Result<Option<Entry<K, V>>, Error> {
        self.page_entries = 1;
        self.next().transpose()
    }
}
