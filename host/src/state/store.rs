//! A store of a task, below its layers.

use std::sync::Arc;

use super::base::Base;
use super::cache::{CleanCache, StoreCache};
use super::db::{Db, Family, Snapshot};
use super::keys::{Order, StorePrefix};
use super::{StateError, value};
use crate::model::{StoreId, TaskId};

/// How the committed entries of a store are kept at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In the container's bounded cache.
    RocksDb,
    /// All in memory.
    Memory,
}

/// The committed part of a store of a task. Shared by the task, which reads it, and the commit, which writes it.
pub struct StoreHandle {
    id: StoreId,
    prefix: StorePrefix,
    base: Base,
}

impl StoreHandle {
    /// The store `store` of `task`. A `memory` store is read from the database here.
    ///
    /// # Errors
    /// The database cannot be read, or the store does not fit into memory.
    pub fn open(
        db: Arc<Db>,
        cache: Arc<CleanCache>,
        task: TaskId,
        store: StoreId,
        kind: StoreKind,
    ) -> Result<StoreHandle, StateError> {
        let prefix = StorePrefix::new(task, store);
        let cache = match kind {
            StoreKind::RocksDb => StoreCache::shared(cache),
            StoreKind::Memory => fill(&db, cache, prefix)?,
        };
        Ok(StoreHandle {
            id: store,
            prefix,
            base: Base::Now { cache, db },
        })
    }

    /// The store as it was committed at one moment, to be read. What is written above it cannot be committed.
    pub fn as_of(snapshot: Arc<Snapshot>, task: TaskId, store: StoreId) -> StoreHandle {
        StoreHandle {
            id: store,
            prefix: StorePrefix::new(task, store),
            base: Base::AsOf(snapshot),
        }
    }

    pub(super) fn id(&self) -> StoreId {
        self.id
    }

    pub(super) fn prefix(&self) -> StorePrefix {
        self.prefix
    }

    /// The database that writes to the store go to, and the cache that learns of them.
    ///
    /// # Panics
    /// The store is one of an earlier moment.
    pub(super) fn committed(&self) -> (&Db, &StoreCache) {
        match &self.base {
            Base::Now { cache, db } => (db, cache),
            Base::AsOf(_) => panic!("a write to what was committed at an earlier moment"),
        }
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    /// Calls `read` with the committed value of a key.
    pub(super) fn get_with<R>(
        &self,
        key: &[u8],
        scratch: &mut Vec<u8>,
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        self.base.get_with(self.prefix, key, scratch, read)
    }
}

fn fill(db: &Db, cache: Arc<CleanCache>, prefix: StorePrefix) -> Result<StoreCache, StateError> {
    let store = StoreCache::pinned(Arc::clone(&cache));
    let (lower, upper) = prefix.range(None, None);
    let mut walk = db.walk(Family::State, lower, upper, Order::Up);
    while let Some((key, stored)) = walk.entry()? {
        store.insert(prefix, &key[StorePrefix::LEN..], value::decode(stored)?);
        if let Some((pinned, budget)) = cache.pinned_over_budget() {
            return Err(StateError::MemoryStoresTooLarge { pinned, budget });
        }
        walk.advance();
    }
    Ok(store)
}
