//! The database as it was at one moment.

use std::sync::Arc;

use rocksdb::ReadOptions;
use yoke::{Yoke, Yokeable};

use super::{Db, DbError, Family, SteppedWalk, Walk};
use crate::state::keys::Order;

/// RocksDB's snapshot, which borrows the database.
#[derive(Yokeable)]
pub(super) struct At<'a>(pub(super) rocksdb::Snapshot<'a>);

/// What was committed at one moment. As long as it lives, RocksDB keeps every version that it may need, so it should not live long.
pub struct Snapshot {
    at: Yoke<At<'static>, Arc<Db>>,
}

impl Snapshot {
    /// What is committed now.
    pub fn take(db: &Arc<Db>) -> Snapshot {
        Snapshot {
            at: Yoke::attach_to_cart(Arc::clone(db), |db| At(db.db.snapshot())),
        }
    }

    /// Reads a key and hands its value to `read`.
    ///
    /// # Errors
    /// RocksDB's reason; `read` was not called.
    pub fn get_with<R>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, DbError> {
        let family = self.at.backing_cart().family(family);
        let mut options = ReadOptions::default();
        // What is read at an earlier moment must not take the place of what is needed now.
        options.fill_cache(false);
        let value = self.at.get().0.get_pinned_cf_opt(family, key, options);
        Ok(read(value.map_err(DbError::Read)?.as_deref()))
    }

    /// As [`Db::walk`].
    pub fn walk(&self, family: Family, lower: Vec<u8>, upper: Vec<u8>, order: Order) -> Walk<'_> {
        let db = self.at.backing_cart();
        db.walk_at(Some(self.at.get()), family, lower, upper, order)
    }

    /// As [`Db::walk_in_steps`].
    pub fn walk_in_steps(
        &self,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
    ) -> SteppedWalk<'_> {
        let db = self.at.backing_cart();
        db.walk_in_steps_at(Some(self.at.get()), family, lower, upper, order)
    }
}
