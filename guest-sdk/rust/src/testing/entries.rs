//! A store as a test sees it.

use std::marker::PhantomData;

use super::host::Shared;
use super::messages::expect_decoded;
use crate::backend::state::Range;
use crate::{Codec, Error};

/// The entries of a store, to be prepared before a batch and inspected after it. None of this counts as a call of
/// the task. It panics if a codec fails.
pub struct Entries<K, V> {
    host: Shared,
    name: String,
    codecs: PhantomData<fn() -> (K, V)>,
}

impl<K: Codec, V: Codec> Entries<K, V> {
    #[track_caller]
    pub(super) fn new(host: Shared, name: &str) -> Self {
        assert!(
            host.borrow().stores.is_declared(name),
            "the test declares no store {name:?}"
        );
        Self {
            host,
            name: name.to_owned(),
            codecs: PhantomData,
        }
    }

    /// The value of a key.
    #[track_caller]
    pub fn get(&self, key: &K::Borrowed) -> Option<V::Owned> {
        let host = self.host.borrow();
        let value = host
            .stores
            .get(&self.name, &encoded(K::encode, key), now_ms(&host));
        value.map(|value| expect_decoded::<V>("value", Some(value)))
    }

    /// Sets the value of a key.
    #[track_caller]
    pub fn put(&self, key: &K::Borrowed, value: &V::Borrowed) {
        let value = encoded(V::encode, value);
        self.write(key, Some(&value));
    }

    /// Removes a key.
    #[track_caller]
    pub fn delete(&self, key: &K::Borrowed) {
        self.write(key, None);
    }

    /// All entries, in the order of their keys' bytes.
    #[track_caller]
    pub fn all(&self) -> Vec<(K::Owned, V::Owned)> {
        let host = self.host.borrow();
        let found = host.stores.scan(
            &self.name,
            &Range {
                start: None,
                end: None,
            },
            false,
            now_ms(&host),
        );
        found
            .iter()
            .map(|(key, value)| {
                (
                    expect_decoded::<K>("key", Some(key)),
                    expect_decoded::<V>("value", Some(value)),
                )
            })
            .collect()
    }

    #[track_caller]
    fn write(&self, key: &K::Borrowed, value: Option<&[u8]>) {
        let mut host = self.host.borrow_mut();
        host.stores
            .write(&self.name, &encoded(K::encode, key), value, None);
        host.stores.commit();
    }
}

/// A test reads at the time of its clock, as the next batch would.
fn now_ms(host: &super::host::Host) -> i64 {
    host.now_ms.max(host.clock_ms)
}

#[track_caller]
fn encoded<T: ?Sized>(encode: fn(&T, &mut Vec<u8>) -> Result<(), Error>, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    match encode(value, &mut bytes) {
        Ok(()) => bytes,
        Err(error) => panic!("{error}"),
    }
}
