//! A store of a task, below its layers.

use std::sync::Arc;

use parking_lot::Mutex;

use super::base::Base;
use super::cache::CleanCache;
use super::db::{Db, Family, Snapshot};
use super::keys::{Order, StorePrefix};
use super::table::Table;
use super::tidy::Tidy;
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

/// A store of a task: where it is in the database, and how it is kept at hand. Shared by the task, which reads it, and the commit, which
/// writes it.
pub struct StoreHandle {
    id: StoreId,
    prefix: StorePrefix,
    base: Base,
    kind: StoreKind,
    cache: Arc<CleanCache>,
    /// All of a `memory` store, until its task takes it.
    filled: Mutex<Option<Table>>,
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
        let filled = match kind {
            StoreKind::RocksDb => None,
            StoreKind::Memory => Some(fill(&db, &cache, prefix)?),
        };
        Ok(StoreHandle {
            id: store,
            prefix,
            base: Base::Now(db),
            kind,
            cache,
            filled: Mutex::new(filled),
        })
    }

    /// A store that is new, and has nothing yet.
    pub fn of_nothing(
        db: Arc<Db>,
        cache: Arc<CleanCache>,
        task: TaskId,
        store: StoreId,
        kind: StoreKind,
    ) -> StoreHandle {
        let filled = match kind {
            StoreKind::RocksDb => None,
            StoreKind::Memory => {
                let mut table = Table::new(Tidy::new(Arc::clone(&cache), true));
                table.note_filled();
                Some(table)
            }
        };
        StoreHandle {
            id: store,
            prefix: StorePrefix::new(task, store),
            base: Base::Now(db),
            kind,
            cache,
            filled: Mutex::new(filled),
        }
    }

    /// The store as it was committed at one moment, to be read. What is written above it cannot be committed.
    pub fn as_of(snapshot: Arc<Snapshot>, task: TaskId, store: StoreId) -> StoreHandle {
        StoreHandle {
            id: store,
            prefix: StorePrefix::new(task, store),
            base: Base::AsOf(snapshot),
            kind: StoreKind::RocksDb,
            cache: Arc::new(CleanCache::new(0)),
            filled: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> StoreId {
        self.id
    }

    pub(super) fn prefix(&self) -> StorePrefix {
        self.prefix
    }

    /// The database that writes to the store go to.
    ///
    /// # Panics
    /// The store is one of an earlier moment.
    pub(super) fn committed(&self) -> &Db {
        match &self.base {
            Base::Now(db) => db,
            Base::AsOf(_) => panic!("a write to what was committed at an earlier moment"),
        }
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }

    pub(super) fn cache(&self) -> &CleanCache {
        &self.cache
    }

    /// Whether what is read from the database may be kept at hand.
    pub(super) fn is_now(&self) -> bool {
        matches!(self.base, Base::Now(_))
    }

    /// What is known of the store at its opening.
    pub(super) fn table(&self) -> Table {
        let filled = self.filled.lock().take();
        filled.unwrap_or_else(|| {
            let is_pinned = self.kind == StoreKind::Memory;
            Table::new(Tidy::new(Arc::clone(&self.cache), is_pinned))
        })
    }

    /// Whether `memory` stores fit into the cache.
    pub(super) fn check_memory(&self) -> Result<(), StateError> {
        match self.kind {
            StoreKind::RocksDb => Ok(()),
            StoreKind::Memory => fits(self.cache.needed_over_budget()),
        }
    }
}

fn fits(over: Option<(u64, u64)>) -> Result<(), StateError> {
    match over {
        None => Ok(()),
        Some((pinned, budget)) => Err(StateError::MemoryStoresTooLarge { pinned, budget }),
    }
}

fn fill(db: &Db, cache: &Arc<CleanCache>, prefix: StorePrefix) -> Result<Table, StateError> {
    let mut table = Table::new(Tidy::new(Arc::clone(cache), true));
    let (lower, upper) = prefix.range(None, None);
    let mut walk = db.walk(Family::State, lower, upper, Order::Up);
    while let Some((key, stored)) = walk.entry()? {
        table.note_read(&key[StorePrefix::LEN..], value::decode(stored)?, 0);
        fits(cache.pinned_over_budget())?;
        walk.advance();
    }
    table.tidy_up(0);
    table.note_filled();
    fits(cache.pinned_over_budget())?;
    Ok(table)
}
