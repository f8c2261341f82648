//! A store of a task, below its layers: prefix, cache, database.

use std::sync::Arc;

use super::cache::{Cached, CleanCache, StoreCache};
use super::db::{Db, Family};
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
    cache: StoreCache,
    db: Arc<Db>,
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
            cache,
            db,
        })
    }

    pub(super) fn id(&self) -> StoreId {
        self.id
    }

    pub(super) fn prefix(&self) -> StorePrefix {
        self.prefix
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn cache(&self) -> &StoreCache {
        &self.cache
    }

    /// Calls `read` with the committed value of a key.
    pub(super) fn get_with<R>(
        &self,
        key: &[u8],
        scratch: &mut Vec<u8>,
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        match self.cache.get(self.prefix, key) {
            Cached::Value(value) => Ok(read(Some(&value))),
            Cached::Absent => Ok(read(None)),
            Cached::Unknown => {
                self.prefix.key_into(key, scratch);
                self.db
                    .get_with(Family::State, scratch, |stored| match stored {
                        None => Ok(read(None)),
                        Some(stored) => {
                            let value = value::decode(stored)?;
                            self.cache.insert(self.prefix, key, value);
                            Ok(read(Some(value)))
                        }
                    })?
            }
        }
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
