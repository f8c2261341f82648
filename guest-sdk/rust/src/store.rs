//! Typed stores: single operations and many at once.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::backend::{state, types::BytesColumn};
use crate::call::{Call, OpenStore};
use crate::codec::{I64, decode};
use crate::column::Column as _;
use crate::range::Range;
use crate::{Codec, Error};

/// A store with typed keys and values. Made by [`Context::store`](crate::Context::store); a handle, cheap to clone and to make again
/// in every call.
///
/// A task sees its own partition of a store, and its own writes at once. Writing outside of a batch (in `open` and
/// `close`) traps. Each operation except a scan is one call of the host; [`update`](Self::update) is the one to prefer
/// for the messages of a batch.
///
/// Limits of the contract: a key of 8 KiB, a value of 1 MiB, 16 MiB returned by one operation, 16 MiB of writes and sends in
/// one call of the guest. Beyond them the host traps. Errors come from codecs only.
pub struct Store<K, V> {
    pub(crate) open: Rc<OpenStore>,
    pub(crate) call: Rc<Call>,
    pub(crate) ttl_ms: Option<u64>,
    codecs: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        Self {
            open: Rc::clone(&self.open),
            call: Rc::clone(&self.call),
            ttl_ms: self.ttl_ms,
            codecs: PhantomData,
        }
    }
}

impl<K: Codec, V: Codec> Store<K, V> {
    pub(crate) fn new(open: Rc<OpenStore>, call: Rc<Call>) -> Self {
        Self {
            open,
            call,
            ttl_ms: None,
            codecs: PhantomData,
        }
    }

    /// A handle whose writes expire: each entry reads as absent from [`Context::now_ms`](crate::Context::now_ms) + `ttl_ms` on.
    /// [`increment`](Store::increment) keeps the expiry that an entry has. A host without expiry of entries traps.
    #[must_use]
    pub fn ttl_ms(&self, ttl_ms: u64) -> Self {
        Self {
            ttl_ms: Some(ttl_ms),
            ..self.clone()
        }
    }

    pub(crate) fn options(&self) -> Option<state::PutOptions> {
        self.ttl_ms.map(|ttl_ms| state::PutOptions {
            ttl_ms: Some(ttl_ms),
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &K::Borrowed) -> Result<Option<V::Owned>, Error> {
        let bytes = self.with_key(key, |key| self.open.handle.get(key))?;
        bytes.map(|bytes| self.decode_value(&bytes)).transpose()
    }

    /// Sets the value of a key.
    pub fn put(&self, key: &K::Borrowed, value: &V::Borrowed) -> Result<(), Error> {
        self.call.with_bytes(|bytes| {
            K::encode(key, bytes)?;
            let length = bytes.len();
            V::encode(value, bytes)?;
            let (key, value) = bytes.split_at(length);
            self.call.wrote();
            self.open.handle.put(key, value, self.options());
            Ok(())
        })
    }

    /// Removes a key; an absent key is not an error.
    pub fn delete(&self, key: &K::Borrowed) -> Result<(), Error> {
        self.with_key(key, |key| {
            self.call.wrote();
            self.open.handle.delete(key);
        })
    }

    /// The values of many keys, in their order, by one call of the host. A key may repeat.
    pub fn get_many<Q: Borrow<K::Borrowed>>(
        &self,
        keys: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Option<V::Owned>>, Error> {
        let mut column = BytesColumn::empty();
        for key in keys {
            K::encode(key.borrow(), &mut column.data)?;
            column.close();
        }
        let values = self.open.handle.get_many(&column);
        (0..values.count())
            .map(|place| {
                values
                    .entry(place)
                    .map(|value| self.decode_value(value))
                    .transpose()
            })
            .collect()
    }

    /// Sets many keys in order, by one call of the host, so that of a repeated key the last value stays.
    pub fn put_many<Q: Borrow<K::Borrowed>, W: Borrow<V::Borrowed>>(
        &self,
        entries: impl IntoIterator<Item = (Q, W)>,
    ) -> Result<(), Error> {
        self.write_many(entries.into_iter().map(|(key, value)| (key, Some(value))))
    }

    /// Removes many keys by one call of the host.
    pub fn delete_many<Q: Borrow<K::Borrowed>>(
        &self,
        keys: impl IntoIterator<Item = Q>,
    ) -> Result<(), Error> {
        self.write_many(keys.into_iter().map(|key| (key, None::<V::Owned>)))
    }

    /// Sets and removes many keys in order, by one call of the host: `None` removes.
    pub fn write_many<Q: Borrow<K::Borrowed>, W: Borrow<V::Borrowed>>(
        &self,
        entries: impl IntoIterator<Item = (Q, Option<W>)>,
    ) -> Result<(), Error> {
        let (mut keys, mut values) = (BytesColumn::empty(), BytesColumn::empty());
        for (key, value) in entries {
            K::encode(key.borrow(), &mut keys.data)?;
            keys.close();
            match value {
                Some(value) => {
                    V::encode(value.borrow(), &mut values.data)?;
                    values.close();
                }
                None => values.push_absent(),
            }
        }
        if keys.count() > 0 {
            self.call.wrote();
            self.open.handle.put_many(&keys, &values, self.options());
        }
        Ok(())
    }

    /// All keys, to be narrowed, and then scanned or deleted.
    #[must_use = "a range does nothing by itself"]
    pub fn range(&self) -> Range<'_, K, V> {
        Range::new(self)
    }

    fn with_key<R>(&self, key: &K::Borrowed, work: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        self.call.with_bytes(|bytes| {
            K::encode(key, bytes)?;
            Ok(work(bytes))
        })
    }

    pub(crate) fn decode_value(&self, bytes: &[u8]) -> Result<V::Owned, Error> {
        decode::<V>(bytes, format_args!("store {:?}: a value", self.open.name))
    }

    pub(crate) fn decode_key(&self, bytes: &[u8]) -> Result<K::Owned, Error> {
        decode::<K>(bytes, format_args!("store {:?}: a key", self.open.name))
    }
}

impl<K: Codec> Store<K, I64> {
    /// Adds to a counter and returns the sum. An absent key counts as 0; an overflow traps, and so does a value that is not a
    /// counter. An expiry is kept.
    pub fn increment(&self, key: &K::Borrowed, by: i64) -> Result<i64, Error> {
        self.with_key(key, |key| {
            self.call.wrote();
            self.open.handle.increment(key, by)
        })
    }
}
