//! The new code of a stage's tasks: what becomes another for each, by name.

use std::sync::Arc;

use super::factory::{StageNow, TaskFactory, parked_at, way_back};
use crate::model::{StoreIndex, TaskId};
use crate::state::{StoreFrom, StoreHandle, StoreKind};
use crate::task::{CodeSource, NewCode};

/// The code that takes over in a stage.
pub(super) struct Cut {
    factory: Arc<TaskFactory>,
    before: Arc<StageNow>,
    now: Arc<StageNow>,
}

impl CodeSource for Cut {
    fn code_of(&self, task: TaskId) -> NewCode {
        let stage = &self.now.options;
        let (ports, dead_letters) = self.factory.ports(stage);
        NewCode {
            component: Arc::clone(&stage.component),
            info: Arc::new(self.factory.info(stage, task)),
            ports: ports.into(),
            dead_letters,
            rules: stage.rules.clone(),
            stores: self.stores(task),
            parked: parked_at(stage),
            before: way_back(stage),
            generation: self.now.generation,
            migrates_from: self.now.migrates_from,
        }
    }
}

impl Cut {
    pub(super) fn new(factory: Arc<TaskFactory>, before: Arc<StageNow>, now: Arc<StageNow>) -> Cut {
        Cut {
            factory,
            before,
            now,
        }
    }

    /// The stores by their names: a new one may sort in between.
    fn stores(&self, task: TaskId) -> Vec<StoreFrom> {
        let before = &self.before.options;
        let kept = |index: usize| StoreFrom::Kept(StoreIndex(index.try_into().unwrap_or(u16::MAX)));
        let store = |(name, kind): &(String, StoreKind)| {
            let known = before.stores.iter().position(|(known, _)| known == name);
            known.map(kept).unwrap_or_else(|| {
                let (db, cache) = (&self.factory.db, &self.factory.cache);
                let (db, cache) = (Arc::clone(db), Arc::clone(cache));
                let id = self.now.record.stores[name];
                let handle = StoreHandle::of_nothing(db, cache, task, id, *kind);
                StoreFrom::New(Arc::new(handle))
            })
        };
        let own = self.now.options.stores.iter().map(store);
        let parked = parked_at(before).map(StoreFrom::Kept);
        own.chain(parked).collect()
    }
}
