//! What a task lends to a guest for a call.
//!
//! What the guest changes is behind methods, because it must move together with the marks to which it can be undone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{SeedableRng as _, TryRng};

use super::limits::{CallBudget, Limits};
use super::logs::TaskLog;
use super::meter::CallTimes;
use super::metrics::TaskMetrics;
use super::undo::{Effects, Marked, Sent, Undo as _};
use crate::model::{
    MessageBounds, MessageRef, OutputIndex, PartitionId, Staged, TaskId, TimestampMs,
};
use crate::state::{SealedState, StoreFrom, TaskState};

/// An output port of a stage.
#[derive(Debug, Clone)]
pub struct OutputPort {
    /// The name that guests use.
    pub name: String,
    /// The partitions of the stream behind it.
    pub partitions: u32,
    /// What is refused of what is sent to it.
    pub bounds: Option<MessageBounds>,
    /// The first port that is bound to the same stream: they share its counter for round robin.
    pub counter: OutputIndex,
}

/// A task's identity and its ports. The same for every call.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Its id.
    pub id: TaskId,
    /// The job.
    pub job: String,
    /// The stage.
    pub stage: String,
    /// Tasks of the stage.
    pub partitions: u32,
    /// Ports of the inputs, in order.
    pub inputs: Vec<String>,
    /// Output ports, in order.
    pub outputs: Vec<OutputPort>,
    /// Names of the stores, in order.
    pub stores: Vec<String>,
    /// Whether it may ask to be stopped.
    pub may_request_stop: bool,
}

impl TaskInfo {
    /// The task's name: stage, slash, partition.
    pub fn name(&self) -> String {
        format!("{}/{}", self.stage, self.id.partition)
    }
}

/// What the guest asked of the host in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// A checkpoint.
    pub checkpoint: bool,
    /// To be stopped, and why.
    pub stop: Option<String>,
}

/// What a call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rights {
    /// Read state.
    Read,
    /// Write state as well.
    WriteState,
    /// Write state and send as well.
    Write,
}

/// What a call of the guest can see and change. Changes belong to the batch until it is kept.
pub struct TaskContext {
    /// Whose it is.
    pub info: Arc<TaskInfo>,
    /// Store time: fixed during a batch.
    now: TimestampMs,
    /// What its instances are given.
    pub(super) given: Given,
    /// The timestamp of what is sent without one.
    pub timestamp: TimestampMs,
    /// What the batch changes.
    effects: Effects,
    /// What the running call may do.
    pub(super) rights: Rights,
    /// What the current call has used of what it may.
    pub(super) budget: CallBudget,
    /// Where its calls spent their time, since that was last asked.
    times: CallTimes,
}

/// What all instances of a task are given.
#[derive(Clone)]
pub(super) struct Given {
    /// Where the guest's lines go.
    pub(super) log: Arc<Mutex<TaskLog>>,
    /// Store time, for clocks.
    pub(super) clock: Arc<AtomicI64>,
    /// Randomness that can be given again, with which the clocks show store time; `None`: that of the system, and its time.
    pub(super) random: Option<SharedRandom>,
}

impl Given {
    pub(super) fn new(log: TaskLog) -> Given {
        Given {
            log: Arc::new(Mutex::new(log)),
            clock: Arc::default(),
            random: None,
        }
    }
}

/// Random numbers that follow from a seed, for all instances of a task.
#[derive(Clone)]
pub(super) struct SharedRandom(Arc<Mutex<StdRng>>);

impl TryRng for SharedRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.lock().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.lock().try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.lock().try_fill_bytes(bytes)
    }
}

impl TaskContext {
    /// The context of a task at a checkpoint: `round_robin` has one counter for each output port.
    pub fn new(
        info: Arc<TaskInfo>,
        state: TaskState,
        metrics: TaskMetrics,
        round_robin: Vec<u64>,
    ) -> TaskContext {
        assert_eq!(
            round_robin.len(),
            info.outputs.len(),
            "a counter for each port"
        );
        TaskContext {
            given: Given::new(TaskLog::new(info.name())),
            info,
            now: 0,
            timestamp: 0,
            effects: Effects {
                state,
                sent: Sent::default(),
                round_robin: Marked::new(round_robin),
                metrics,
                requests: Marked::default(),
            },
            rights: Rights::Read,
            budget: CallBudget::of(&Limits::default()),
            times: CallTimes::default(),
        }
    }

    /// Other code takes over, with other ports and stores. Only between two batches, when nothing is open.
    pub fn take_code(
        &mut self,
        info: Arc<TaskInfo>,
        stores: Vec<StoreFrom>,
        round_robin: Vec<u64>,
    ) {
        assert_eq!(
            round_robin.len(),
            info.outputs.len(),
            "a counter for each port"
        );
        self.info = info;
        self.effects.state.arrange(stores);
        self.effects.round_robin = Marked::new(round_robin);
    }

    /// Store time.
    pub fn now(&self) -> TimestampMs {
        self.now
    }

    /// Store time moves on.
    pub fn set_now(&mut self, now: TimestampMs) {
        self.now = now;
        self.given.clock.store(now, Ordering::Relaxed);
    }

    /// Its guest is tried beside the one that works: its lines are not logged, its clocks show store time, and its random numbers follow
    /// from a seed.
    pub fn be_tried(&mut self) {
        self.given = Given {
            random: Some(SharedRandom(Arc::new(Mutex::new(StdRng::seed_from_u64(0))))),
            ..Given::new(TaskLog::silent())
        };
        self.given.clock.store(self.now, Ordering::Relaxed);
    }

    /// Its guest's random numbers follow from this seed from now on.
    pub fn seed(&mut self, seed: u64) {
        if let Some(SharedRandom(random)) = &self.given.random {
            *random.lock() = StdRng::seed_from_u64(seed);
        }
    }

    /// What was sent since this was last taken.
    pub fn sent(&self) -> &Staged {
        self.effects.sent.staged()
    }

    /// Takes what kept batches have sent.
    pub fn take_sent(&mut self) -> Staged {
        self.effects.sent.take()
    }

    /// The task's stores.
    pub fn state_mut(&mut self) -> &mut TaskState {
        &mut self.effects.state
    }

    /// Sends a message.
    pub fn send(&mut self, port: OutputIndex, partition: PartitionId, message: MessageRef<'_>) {
        self.effects.sent.push(port, partition, message);
    }

    /// Where a counter of round robin goes on.
    pub fn round_robin(&self, counter: OutputIndex) -> u64 {
        self.effects.round_robin.now[counter.index()]
    }

    /// The figures that the guest reports.
    pub(super) fn metrics_mut(&mut self) -> &mut TaskMetrics {
        &mut self.effects.metrics
    }

    /// What the guest asks of the host.
    pub(super) fn requests_mut(&mut self) -> &mut Requests {
        &mut self.effects.requests.now
    }

    /// A call spent this.
    pub(super) fn note_times(&mut self, spent: CallTimes) {
        self.times.guest += spent.guest;
        self.times.host += spent.host;
    }

    /// Where its calls spent their time since this was last asked.
    pub fn take_times(&mut self) -> CallTimes {
        std::mem::take(&mut self.times)
    }

    /// A message begins: it can be undone alone.
    pub fn mark_message(&mut self) {
        self.effects.mark_message();
    }

    /// Undoes what the guest did since [`TaskContext::mark_message`].
    pub fn undo_message(&mut self) {
        self.effects.undo_message();
    }

    /// Undoes what the guest did since the last kept batch.
    pub fn undo_batch(&mut self) {
        self.effects.undo_batch();
    }

    /// Keeps what the guest did: it belongs to the epoch.
    pub fn keep_batch(&mut self) {
        self.effects.keep_batch();
    }

    /// Freezes what kept batches wrote, and takes what they sent.
    ///
    /// # Panics
    /// Inside a batch, or while an earlier epoch is not released.
    pub fn seal(&mut self) -> (Option<SealedState>, Staged) {
        (self.effects.state.seal(), self.effects.sent.take())
    }

    /// The sealed epoch is committed.
    pub fn release(&mut self) {
        self.effects.state.release();
    }

    /// Whether all tasks together hold more committed values than they may.
    pub fn holds_too_much(&self) -> bool {
        self.effects.state.holds_too_much()
    }

    /// Gives up some of the committed values that it holds, if all tasks together hold too many. Whether there was something.
    pub fn trim(&mut self) -> bool {
        self.effects.state.trim()
    }

    /// Takes what the guest asked for in kept batches.
    pub fn take_requests(&mut self) -> Requests {
        self.effects.requests.take()
    }

    /// Bytes of the open epoch.
    pub fn open_bytes(&self) -> usize {
        self.effects.state.open_bytes() + self.effects.sent.bytes()
    }

    /// The partition of a message that names none.
    pub(super) fn partition_for(&mut self, port: OutputIndex, key: Option<&[u8]>) -> PartitionId {
        let partitions = self.info.outputs[port.index()].partitions;
        match key {
            Some(key) => PartitionId(crate::model::partition_of_key(key, partitions)),
            None => {
                let counter = self.info.outputs[port.index()].counter;
                let next = &mut self.effects.round_robin.now[counter.index()];
                let partition = *next % u64::from(partitions);
                *next = next.wrapping_add(1);
                PartitionId(u32::try_from(partition).unwrap_or(0))
            }
        }
    }
}
