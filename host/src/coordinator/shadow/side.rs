//! One of the two codes of a shadow, for one task: it works on what is committed and on what it has written above that, and nothing of it is
//! ever committed.

use std::sync::Arc;

use crate::model::{Batch, Staged, StoreIndex, StreamId, TimestampMs};
use crate::runtime::{Component, Fault, Instance, TaskContext, World};
use crate::state::StateError;

/// A code at work for one task.
pub(super) struct Side {
    pub(super) component: Arc<Component>,
    /// The stream of each output port.
    pub(super) ports: Vec<StreamId>,
    /// The names of its stores, by index.
    pub(super) stores: Vec<String>,
    context: Option<Box<TaskContext>>,
    instance: Option<Instance>,
    /// Processor time that its calls have spent.
    pub(super) spent_ns: u64,
    /// What the random numbers of the batch follow from.
    seed: u64,
}

/// What the random numbers of an instance follow from while it is made: so it does not matter when that is.
const SEED_OF_INSTANCES: u64 = 0;

/// Messages that a batch rejects, by their places, and why.
pub(super) type Rejected = Vec<(usize, String)>;

impl Side {
    pub(super) fn new(
        component: Arc<Component>,
        ports: Vec<StreamId>,
        stores: Vec<String>,
        mut context: TaskContext,
    ) -> Side {
        context.be_tried();
        Side {
            component,
            ports,
            stores,
            context: Some(Box::new(context)),
            instance: None,
            spent_ns: 0,
            seed: 0,
        }
    }

    pub(super) fn context(&mut self) -> &mut TaskContext {
        match &mut self.context {
            Some(context) => context,
            None => panic!("the context of a task is used during a call"),
        }
    }

    /// What it has sent in the batch.
    pub(super) fn sent(&self) -> &Staged {
        match &self.context {
            Some(context) => context.sent(),
            None => panic!("the context of a task is used during a call"),
        }
    }

    /// Drops its instance: the next batch makes another.
    pub(super) fn rest(&mut self) {
        if let Some(instance) = self.instance.take() {
            let (context, _) = instance.close(self.lend());
            self.context = Some(context);
        }
    }

    /// Undoes the batch. What the instance remembers may come of it, so the instance goes too.
    pub(super) fn undo(&mut self) {
        self.forget();
        self.context().undo_batch();
    }

    pub(super) fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// Drops its instance, and does not ask it to close.
    pub(super) fn forget(&mut self) {
        self.instance = None;
    }

    fn lend(&mut self) -> Box<TaskContext> {
        match self.context.take() {
            Some(context) => context,
            None => panic!("the context of a task is used during a call"),
        }
    }

    /// Migrates all of its state. `goes_on` is asked between two calls, with the bytes that it has written; `None`: that is not wanted any more.
    ///
    /// # Errors
    /// Why it cannot be migrated, or what `goes_on` says.
    pub(super) fn migrate(
        &mut self,
        old: u32,
        goes_on: &dyn Fn(usize) -> Result<(), Option<String>>,
    ) -> Result<(), Option<String>> {
        let context = self.lend();
        let (context, made) = Instance::unopened(&self.component, context);
        self.context = Some(context);
        let mut instance = made.map_err(|fault| Some(fault.to_string()))?;
        let mut resume = None;
        loop {
            let (context, called) = instance.migrate(self.lend(), old, resume.as_deref());
            self.context = Some(context);
            let answer = called.map_err(|fault| Some(fault.to_string()))?;
            resume = answer.map_err(Some)?;
            self.context().keep_batch();
            if resume.is_none() {
                return Ok(());
            }
            goes_on(self.context().open_bytes())?;
        }
    }

    /// A batch begins, at this time and with randomness of this seed.
    pub(super) fn begin(&mut self, now: TimestampMs, latest: TimestampMs, seed: u64) {
        let context = self.context();
        let now = context.now().max(now);
        context.set_now(now);
        context.timestamp = latest;
        self.seed = seed;
    }

    /// Processes a batch. Returns what it has rejected. If that fails, nothing of it is left.
    ///
    /// # Errors
    /// Why the call failed.
    pub(super) fn run(&mut self, batch: &Batch) -> Result<Rejected, String> {
        let ran = self.try_run(batch);
        if ran.is_err() {
            self.context().undo_batch();
        }
        ran
    }

    fn try_run(&mut self, batch: &Batch) -> Result<Rejected, String> {
        if self.instance.is_none() {
            let mut context = self.lend();
            context.seed(SEED_OF_INSTANCES);
            let (context, made) = Instance::new(&self.component, context);
            self.context = Some(context);
            self.instance = Some(made.map_err(|fault| fault.to_string())?);
        }
        let seed = self.seed;
        self.context().seed(seed);
        match self.component.world() {
            World::Batch => {
                match self.call(|instance, context| instance.process_batch(context, batch))? {
                    Ok(rejections) => {
                        let rejected = rejections.into_iter();
                        Ok(rejected
                            .map(|rejected| (rejected.index, rejected.reason))
                            .collect())
                    }
                    Err(reason) if batch.len() == 1 => {
                        self.context().undo_batch();
                        Ok(vec![(0, reason)])
                    }
                    Err(reason) => Err(reason),
                }
            }
            World::Message => {
                let mut rejected = Vec::new();
                for index in 0..batch.len() {
                    let context = self.context();
                    context.mark_message();
                    context.timestamp = batch.messages.timestamps[index];
                    let answer = self.call(|instance, context| {
                        instance.process_message(context, batch, index)
                    })?;
                    if let Err(reason) = answer {
                        self.context().undo_message();
                        rejected.push((index, reason));
                    }
                }
                Ok(rejected)
            }
        }
    }

    /// Calls its guest. A fault drops the instance.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Instance, Box<TaskContext>) -> (Box<TaskContext>, Result<R, Fault>),
    ) -> Result<R, String> {
        let context = self.lend();
        let Some(instance) = &mut self.instance else {
            panic!("a guest is called without an instance");
        };
        let (mut context, result) = call(instance, context);
        let times = context.take_times();
        self.spent_ns += u64::try_from((times.guest + times.host).as_nanos()).unwrap_or(u64::MAX);
        self.context = Some(context);
        result.map_err(|fault| {
            self.instance = None;
            format!("{}: {}", fault.kind.name(), fault.message)
        })
    }

    /// Keeps what the batch did, above what is committed.
    pub(super) fn keep(&mut self) {
        let context = self.context();
        context.keep_batch();
        let _ = context.take_sent();
        let _ = context.take_requests();
    }

    /// The value of a key.
    pub(super) fn get(&mut self, store: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.store(store) {
            Some(store) => self.context().state_mut().get(store, key),
            None => Ok(None),
        }
    }

    /// A store by its name.
    pub(super) fn store(&self, name: &str) -> Option<StoreIndex> {
        let at = self.stores.iter().position(|store| store == name)?;
        u16::try_from(at).ok().map(StoreIndex)
    }
}
