//! Other code of a stage: what becomes another for each of its tasks, by name, and what a task would lend to code that is only tried.

use std::sync::Arc;

use super::factory::{StageNow, TaskFactory, parked_at, round_robin, way_back};
use crate::coordinator::StageOptions;
use crate::model::{PartitionId, StoreIndex, TaskId};
use crate::records::{self, StageRecord, TaskRecord};
use crate::runtime::{TaskContext, TaskMetrics};
use crate::state::{Snapshot, StateError, StoreFrom, StoreHandle, StoreKind, TaskState};
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

impl TaskFactory {
    /// What a task of a stage would lend to its guest as of a snapshot. Nothing that is done to it can be committed.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub(in crate::coordinator) fn trial(
        &self,
        now: &StageNow,
        partition: PartitionId,
        snapshot: &Arc<Snapshot>,
    ) -> Result<TaskContext, StateError> {
        let stage = now.record.id;
        let id = TaskId { stage, partition };
        let record: TaskRecord = records::get_at(snapshot, &id)?.unwrap_or_default();
        let info = Arc::new(self.info(&now.options, id));
        let (ports, _) = self.ports(&now.options);
        let round_robin = round_robin(&record, &ports[..info.outputs.len()]);
        let store = |(name, _): &(String, StoreKind)| {
            let id_of_store = now.record.stores[name];
            Arc::new(StoreHandle::as_of(Arc::clone(snapshot), id, id_of_store))
        };
        let state = TaskState::new(id, now.options.stores.iter().map(store).collect());
        let metrics = TaskMetrics::new(Arc::default(), partition);
        let mut context = TaskContext::new(info, state, metrics, round_robin);
        let wall = self.options.clock.now_ms();
        context.set_now(record.store_time.max(wall));
        Ok(context)
    }

    /// Other code takes over in a stage: what is made of it from now on is of that code.
    pub(in crate::coordinator) fn cut(
        self: &Arc<TaskFactory>,
        at: usize,
        options: StageOptions,
        record: StageRecord,
        migrates_from: Option<u32>,
    ) -> Arc<dyn CodeSource> {
        let mut deadline = self.deadline.lock();
        *deadline = deadline.max(options.component.limits().call_deadline);
        drop(deadline);
        let mut stage = self.stages[at].write();
        let now = Arc::new(StageNow {
            options: Arc::new(options),
            record,
            generation: stage.generation + 1,
            migrates_from,
        });
        let before = std::mem::replace(&mut *stage, Arc::clone(&now));
        Arc::new(Cut::new(Arc::clone(self), before, now))
    }

    /// The code of a stage stays: there is no way back any more.
    pub(in crate::coordinator) fn keep_code(&self, at: usize, record: StageRecord) {
        let mut stage = self.stages[at].write();
        let options = Arc::new(StageOptions {
            before: None,
            ..(*stage.options).clone()
        });
        let generation = stage.generation;
        *stage = Arc::new(StageNow {
            options,
            record,
            generation,
            migrates_from: None,
        });
    }

    /// The code before, which may come back in a stage that has new code since the start.
    pub(in crate::coordinator) fn way_back(&self, at: usize) -> Option<Arc<StageNow>> {
        let now = self.stage(at);
        let before = now.options.before.clone()?;
        let mut record = now.record.clone();
        record.code = record.previous.clone()?;
        let options = StageOptions {
            component: before,
            before: None,
            ..(*now.options).clone()
        };
        Some(Arc::new(StageNow {
            options: Arc::new(options),
            record,
            generation: 0,
            migrates_from: None,
        }))
    }
}
