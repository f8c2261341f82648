//! What lies below the layers of a store: what is committed now, or what was at one moment.

use std::sync::Arc;

use super::cache::{Cached, StoreCache};
use super::db::{Db, Family, Snapshot, SteppedWalk};
use super::keys::{Order, StorePrefix};
use super::{StateError, value};

/// What lies below the layers of a store.
pub(super) enum Base {
    /// What is committed now. Values that are read from the database are kept in the cache.
    Now {
        /// What is known of the committed values.
        cache: StoreCache,
        db: Arc<Db>,
    },
    /// What was committed at one moment. The live cache neither answers nor learns anything.
    AsOf(Arc<Snapshot>),
}

impl Base {
    /// Hands the value of a key to `read`.
    pub(super) fn get_with<R>(
        &self,
        prefix: StorePrefix,
        key: &[u8],
        scratch: &mut Vec<u8>,
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        match self {
            Base::Now { cache, db } => match cache.get(prefix, key) {
                Cached::Value(value) => Ok(read(Some(&value))),
                Cached::Absent => Ok(read(None)),
                Cached::Unknown => {
                    prefix.key_into(key, scratch);
                    db.get_with(Family::State, scratch, |stored| match stored {
                        None => Ok(read(None)),
                        Some(stored) => {
                            let value = value::decode(stored)?;
                            cache.insert(prefix, key, value);
                            Ok(read(Some(value)))
                        }
                    })?
                }
            },
            Base::AsOf(snapshot) => {
                prefix.key_into(key, scratch);
                snapshot.get_with(Family::State, scratch, |stored| {
                    Ok(read(stored.map(value::decode).transpose()?))
                })?
            }
        }
    }

    /// Walks over stored entries, whose keys are the database's.
    pub(super) fn walk_in_steps(
        &self,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
    ) -> SteppedWalk<'_> {
        match self {
            Base::Now { db, .. } => db.walk_in_steps(Family::State, lower, upper, order),
            Base::AsOf(snapshot) => snapshot.walk_in_steps(Family::State, lower, upper, order),
        }
    }
}
