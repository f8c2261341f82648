//! What lies below the layers of a store: what is committed now, or what was at one moment.

use std::sync::Arc;

use super::db::{Db, Family, Snapshot, SteppedWalk};
use super::keys::{Order, StorePrefix};
use super::{StateError, value};

/// What lies below the layers of a store.
pub(super) enum Base {
    /// What is committed now.
    Now(Arc<Db>),
    /// What was committed at one moment.
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
        prefix.key_into(key, scratch);
        let found = |stored: Option<&[u8]>| Ok(read(stored.map(value::decode).transpose()?));
        match self {
            Base::Now(db) => db.get_with(Family::State, scratch, found)?,
            Base::AsOf(snapshot) => snapshot.get_with(Family::State, scratch, found)?,
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
            Base::Now(db) => db.walk_in_steps(Family::State, lower, upper, order),
            Base::AsOf(snapshot) => snapshot.walk_in_steps(Family::State, lower, upper, order),
        }
    }
}
