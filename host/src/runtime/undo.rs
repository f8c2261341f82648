//! What a batch may change, as one list, and how it is undone: a message alone, or the whole batch.

use crate::model::{MessageRef, OutputIndex, PartitionId, Staged, StagedMark};
use crate::runtime::context::Requests;
use crate::runtime::metrics::TaskMetrics;
use crate::state::TaskState;

/// Something that a batch may change. It remembers how it was when the batch began, and when the message began.
pub(super) trait Undo {
    /// A message begins: from here on it can be undone alone.
    fn mark_message(&mut self);
    /// Goes back to where the message began.
    fn undo_message(&mut self);
    /// Goes back to where the batch began.
    fn undo_batch(&mut self);
    /// Keeps what was done. The next batch begins here.
    fn keep_batch(&mut self);
}

/// Everything that a batch may change.
///
/// Architecture invariant: what a guest can change, and what must be undone with its batch, is here and nowhere else.
pub(super) struct Effects {
    /// The stores.
    pub(super) state: TaskState,
    /// What was sent.
    pub(super) sent: Sent,
    /// Where round robin goes on, by output port.
    pub(super) round_robin: Marked<Vec<u64>>,
    /// What was reported.
    pub(super) metrics: TaskMetrics,
    /// What was asked of the host.
    pub(super) requests: Marked<Requests>,
}

impl Effects {
    /// All parts, as a list of pairs. It takes the struct apart without `..`: a new part does not compile until it is undone too.
    fn parts(&mut self) -> impl Undo {
        let Effects {
            state,
            sent,
            round_robin,
            metrics,
            requests,
        } = self;
        (state, (sent, (round_robin, (metrics, requests))))
    }
}

impl Undo for Effects {
    fn mark_message(&mut self) {
        self.parts().mark_message();
    }

    fn undo_message(&mut self) {
        self.parts().undo_message();
    }

    fn undo_batch(&mut self) {
        self.parts().undo_batch();
    }

    fn keep_batch(&mut self) {
        self.parts().keep_batch();
    }
}

/// A list without dynamic calls: marking is done for every message.
impl<A: Undo, B: Undo> Undo for (A, B) {
    fn mark_message(&mut self) {
        self.0.mark_message();
        self.1.mark_message();
    }

    fn undo_message(&mut self) {
        self.0.undo_message();
        self.1.undo_message();
    }

    fn undo_batch(&mut self) {
        self.0.undo_batch();
        self.1.undo_batch();
    }

    fn keep_batch(&mut self) {
        self.0.keep_batch();
        self.1.keep_batch();
    }
}

impl<T: Undo> Undo for &mut T {
    fn mark_message(&mut self) {
        (**self).mark_message();
    }

    fn undo_message(&mut self) {
        (**self).undo_message();
    }

    fn undo_batch(&mut self) {
        (**self).undo_batch();
    }

    fn keep_batch(&mut self) {
        (**self).keep_batch();
    }
}

impl Undo for TaskState {
    fn mark_message(&mut self) {
        self.mark_message();
    }

    fn undo_message(&mut self) {
        self.undo_message();
    }

    fn undo_batch(&mut self) {
        self.undo_batch();
    }

    fn keep_batch(&mut self) {
        self.keep_batch();
    }
}

/// What a task has sent in the open epoch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    staged: Staged,
    batch: StagedMark,
    message: StagedMark,
}

impl Sent {
    /// Sends a message.
    pub(super) fn push(
        &mut self,
        port: OutputIndex,
        partition: PartitionId,
        message: MessageRef<'_>,
    ) {
        self.staged.push(port, partition, message);
    }

    /// What was sent.
    pub(super) fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.staged.bytes()
    }

    /// Takes what was sent in kept batches. Not within a batch.
    pub(super) fn take(&mut self) -> Staged {
        std::mem::take(self).staged
    }
}

impl Undo for Sent {
    fn mark_message(&mut self) {
        self.message = self.staged.mark();
    }

    fn undo_message(&mut self) {
        self.staged.undo_to(self.message);
    }

    fn undo_batch(&mut self) {
        self.staged.undo_to(self.batch);
        self.message = self.batch;
    }

    fn keep_batch(&mut self) {
        self.batch = self.staged.mark();
        self.message = self.batch;
    }
}

/// A small value, copied when a batch or a message begins.
#[derive(Debug, Default)]
pub(super) struct Marked<T> {
    pub(super) now: T,
    batch: T,
    message: T,
}

impl<T: Clone + Default> Marked<T> {
    /// A value that no batch has changed.
    pub(super) fn new(value: T) -> Marked<T> {
        Marked {
            batch: value.clone(),
            message: value.clone(),
            now: value,
        }
    }

    /// Takes what kept batches came to. Not within a batch.
    pub(super) fn take(&mut self) -> T {
        std::mem::take(self).now
    }
}

impl<T: Clone> Undo for Marked<T> {
    fn mark_message(&mut self) {
        self.message.clone_from(&self.now);
    }

    fn undo_message(&mut self) {
        self.now.clone_from(&self.message);
    }

    fn undo_batch(&mut self) {
        self.now.clone_from(&self.batch);
        self.message.clone_from(&self.batch);
    }

    fn keep_batch(&mut self) {
        self.batch.clone_from(&self.now);
        self.message.clone_from(&self.now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{StageId, StoreId, StoreIndex, TaskId};
    use crate::runtime::metrics::StageMetrics;
    use crate::state::{CleanCache, Db, DbOptions, Order, ScanOptions, StoreHandle, StoreKind};

    const STORES: [StoreIndex; 2] = [StoreIndex(0), StoreIndex(1)];
    const TASK: TaskId = TaskId {
        stage: StageId(1),
        partition: PartitionId(0),
    };

    fn effects(db: &Arc<Db>) -> Effects {
        let cache = Arc::new(CleanCache::new(1 << 20));
        let store = |id, kind| {
            let handle = StoreHandle::open(Arc::clone(db), Arc::clone(&cache), TASK, id, kind);
            Arc::new(handle.expect("a store"))
        };
        let stores = vec![
            store(StoreId(1), StoreKind::RocksDb),
            store(StoreId(2), StoreKind::Memory),
        ];
        Effects {
            state: TaskState::new(TASK, stores),
            sent: Sent::default(),
            round_robin: Marked::new(vec![0, 0]),
            metrics: TaskMetrics::new(Arc::new(StageMetrics::default()), TASK.partition),
            requests: Marked::default(),
        }
    }

    /// Changes every part in every way that a guest can. Another `number` changes it otherwise.
    fn change(effects: &mut Effects, number: u8) {
        let state = &mut effects.state;
        for store in STORES {
            state.put(store, &[number], Some(&[number]));
            state.put(store, b"overwritten", Some(&[number; 30]));
            state.put(store, &[number.wrapping_sub(1)], None);
            state.increment(store, b"sum", 1).expect("a counter");
            state.put(store, &[b'r', number], Some(b"of a range"));
            state.delete_range(store, Some(b"r"), Some(&[b'r', number]));
        }
        let bytes = [number];
        for key in [None, Some(&bytes[..])] {
            let message = MessageRef::new(key, Some(&bytes), 7);
            effects.sent.push(OutputIndex(0), PartitionId(0), message);
        }
        effects.round_robin.now[0] += 1;
        effects.round_robin.now[1] += 2;
        let metrics = &mut effects.metrics;
        metrics
            .add("seen", 1, 128)
            .and_then(|()| metrics.set("level", number.into(), 128))
            .and_then(|()| metrics.record("size", number.into(), 128))
            .expect("good names");
        effects.requests.now.checkpoint = number.is_multiple_of(2);
        effects.requests.now.stop = Some(number.to_string());
    }

    /// Each part as text. Taken apart without `..`: a new part must be compared, too.
    fn shown(effects: &mut Effects) -> [String; 5] {
        let Effects {
            state,
            sent,
            round_robin,
            metrics,
            requests,
        } = effects;
        let mut entries = Vec::new();
        for store in STORES {
            let options = ScanOptions {
                order: Order::Up,
                keys_only: false,
            };
            let cursor = state.scan(store, None, None, options);
            let found = state.scan_next(cursor, 1_000, 1 << 20, &mut || false);
            let found = found.expect("a scan").expect("a cursor");
            let pairs = found.keys.iter().zip(found.values.iter());
            entries.push(format!("{:?}", pairs.collect::<Vec<_>>()));
        }
        state.end_call();
        [
            entries.concat(),
            format!("{:?}", sent.staged),
            format!("{:?}", round_robin.now),
            metrics.shown(),
            format!("{:?}", requests.now),
        ]
    }

    fn change_all(effects: &mut Effects, number: u8) {
        let before = shown(effects);
        change(effects, number);
        for (before, after) in before.iter().zip(&shown(effects)) {
            assert_ne!(before, after, "every part is changed");
        }
    }

    #[test]
    fn every_part_is_undone_with_its_message_and_with_its_batch() {
        let folder = std::env::temp_dir().join(format!("wasm-host-undo-{}", std::process::id()));
        let db = Db::create(&folder, &DbOptions::default()).expect("a database");
        let mut effects = effects(&Arc::new(db));
        effects.mark_message();
        change_all(&mut effects, 1);
        effects.keep_batch();
        let kept = shown(&mut effects);

        change_all(&mut effects, 2);
        effects.undo_batch();
        assert_eq!(shown(&mut effects), kept, "a batch of one call is undone");

        effects.mark_message();
        change_all(&mut effects, 3);
        effects.mark_message();
        let first = shown(&mut effects);
        change_all(&mut effects, 4);
        effects.undo_message();
        assert_eq!(shown(&mut effects), first, "the second message is undone");
        change_all(&mut effects, 5);
        effects.undo_batch();
        assert_eq!(shown(&mut effects), kept, "both messages are undone");

        change_all(&mut effects, 6);
        effects.undo_message();
        assert_eq!(
            shown(&mut effects),
            kept,
            "after an undone batch its messages are no way back"
        );

        effects.mark_message();
        change(&mut effects, 7);
        effects.keep_batch();
        let kept = shown(&mut effects);
        effects.undo_batch();
        assert_eq!(shown(&mut effects), kept, "what is kept stays");
        drop(effects);
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}
