//! What the state engine must do, as plainly as it can be said: every point to which a task may return is a whole
//! `BTreeMap`. Nothing here merges anything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use wasm_host::model::TaskId;
use wasm_host::state::{Order, ScanOptions};

use super::engine::Setup;
use super::operation::{
    Answer, Bytes, CommitStep, Found, KeyRange, Operation, Place, Refusal, Subject,
};

type Entries = BTreeMap<Bytes, Bytes>;

/// The entries of a store as the task sees them, and whether the open epoch wrote anything to come to them.
#[derive(Clone, Default)]
struct View {
    entries: Rc<Entries>,
    written: bool,
}

#[derive(Default)]
struct Store {
    /// What a reopen finds.
    committed: Rc<Entries>,
    /// What a reopen finds once the sealed epoch is written.
    sealed: Rc<Entries>,
    /// Where undoing the batch leads.
    batch: View,
    /// Where undoing the message leads.
    message: View,
    now: View,
}

struct Cursor {
    task: usize,
    /// The store when the cursor was opened.
    entries: Rc<Entries>,
    range: KeyRange,
    options: ScanOptions,
    /// The key that was read last.
    last: Option<Bytes>,
}

/// The state of all tasks.
pub(super) struct Model {
    ids: Vec<(TaskId, Vec<u16>)>,
    tasks: Vec<Vec<Store>>,
    cursors: BTreeMap<u32, Cursor>,
}

impl Model {
    /// Tasks with empty stores.
    pub(super) fn new(setup: &Setup) -> Model {
        let stores: Vec<u16> = setup.stores.iter().map(|(id, _)| id.0).collect();
        let empty = || stores.iter().map(|_| Store::default()).collect();
        Model {
            tasks: setup.tasks.iter().map(|_| empty()).collect(),
            ids: setup.tasks.iter().map(|id| (*id, stores.clone())).collect(),
            cursors: BTreeMap::new(),
        }
    }

    fn now(&self, at: Place) -> &Rc<Entries> {
        &self.tasks[at.task][at.store].now.entries
    }

    fn write(&mut self, at: Place) -> &mut Entries {
        let now = &mut self.tasks[at.task][at.store].now;
        now.written = true;
        Rc::make_mut(&mut now.entries)
    }

    fn increment(&mut self, at: Place, key: &Bytes, by: i64) -> Result<i64, Refusal> {
        let value = match self.now(at).get(key) {
            None => 0,
            Some(value) => match <[u8; 8]>::try_from(&**value) {
                Ok(bytes) => i64::from_le_bytes(bytes),
                Err(_) => return Err(Refusal::Length(value.len())),
            },
        };
        let sum = value.checked_add(by).ok_or(Refusal::Overflow)?;
        self.write(at)
            .insert(key.clone(), sum.to_le_bytes()[..].into());
        Ok(sum)
    }

    fn delete_range(&mut self, at: Place, range: &KeyRange) {
        if range_is_empty(range) {
            return;
        }
        self.write(at).retain(|key, _| {
            let after_start = range.start.as_ref().is_none_or(|start| key >= start);
            let before_end = range.end.as_ref().is_none_or(|end| key < end);
            !(after_start && before_end)
        });
    }

    fn end_call(&mut self, task: usize) {
        self.cursors.retain(|_, cursor| cursor.task != task);
    }

    fn stored(&self) -> Vec<(Bytes, Bytes)> {
        let mut all = Vec::new();
        for ((id, store_ids), stores) in self.ids.iter().zip(&self.tasks) {
            for (store_id, store) in store_ids.iter().zip(stores) {
                let mut prefix = id.stage.0.to_be_bytes().to_vec();
                prefix.extend(id.partition.0.to_be_bytes());
                prefix.extend(store_id.to_be_bytes());
                for (key, value) in &*store.committed {
                    all.push(([&prefix, &**key].concat().into(), value.clone()));
                }
            }
        }
        all.sort();
        all
    }
}

impl Subject for Model {
    fn apply(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Get { at, key } => return Answer::Value(self.now(*at).get(key).cloned()),
            Operation::GetMany { at, keys } => {
                let values = keys.iter().map(|key| self.now(*at).get(key).cloned());
                return Answer::Values(values.collect());
            }
            Operation::Put { at, key, value } => {
                self.write(*at).insert(key.clone(), value.clone());
            }
            Operation::Delete { at, key } => {
                self.write(*at).remove(key);
            }
            Operation::Increment { at, key, by } => {
                return Answer::Sum(self.increment(*at, key, *by));
            }
            Operation::DeleteRange { at, range } => self.delete_range(*at, range),
            Operation::Scan {
                at,
                range,
                options,
                cursor,
            } => {
                let opened = Cursor {
                    task: at.task,
                    entries: Rc::clone(self.now(*at)),
                    range: range.clone(),
                    options: *options,
                    last: None,
                };
                self.cursors.insert(*cursor, opened);
            }
            Operation::ScanNext {
                cursor,
                entries_max,
                bytes_max,
                ..
            } => {
                let cursor = self.cursors.get_mut(cursor);
                return Answer::Entries(cursor.map(|cursor| cursor.next(*entries_max, *bytes_max)));
            }
            Operation::ScanClose { cursor, .. } => {
                self.cursors.remove(cursor);
            }
            Operation::Walk {
                at, range, options, ..
            } => {
                let mut cursor = Cursor {
                    task: at.task,
                    entries: Rc::clone(self.now(*at)),
                    range: range.clone(),
                    options: *options,
                    last: None,
                };
                return Answer::Entries(Some(cursor.next(usize::MAX, usize::MAX)));
            }
            Operation::CountCursors { task } => {
                let open = self.cursors.values().filter(|cursor| cursor.task == *task);
                return Answer::Cursors(open.count());
            }
            Operation::EndCall { task } => self.end_call(*task),
            Operation::MarkMessage { task } => {
                for store in &mut self.tasks[*task] {
                    store.message = store.now.clone();
                }
            }
            Operation::UndoMessage { task } => {
                self.end_call(*task);
                for store in &mut self.tasks[*task] {
                    store.now = store.message.clone();
                }
            }
            Operation::KeepBatch { task } => {
                self.end_call(*task);
                for store in &mut self.tasks[*task] {
                    store.batch = store.now.clone();
                    store.message = store.now.clone();
                }
            }
            Operation::UndoBatch { task } => {
                self.end_call(*task);
                for store in &mut self.tasks[*task] {
                    store.now = store.batch.clone();
                    store.message = store.batch.clone();
                }
            }
            Operation::Seal { task } => {
                let stores = &mut self.tasks[*task];
                let written = stores.iter().any(|store| store.now.written);
                for store in stores {
                    store.sealed = Rc::clone(&store.now.entries);
                    store.now.written = false;
                    store.batch = store.now.clone();
                    store.message = store.now.clone();
                }
                return Answer::Sealed(written);
            }
            Operation::Begin(CommitStep::Write) => {
                for store in self.tasks.iter_mut().flatten() {
                    store.committed = Rc::clone(&store.sealed);
                }
            }
            Operation::Begin(_) | Operation::Finish | Operation::Release { .. } => {}
            Operation::Stored => return Answer::Stored(self.stored()),
            Operation::Reopen => {
                self.cursors.clear();
                for store in self.tasks.iter_mut().flatten() {
                    store.now = View {
                        entries: Rc::clone(&store.committed),
                        written: false,
                    };
                    store.batch = store.now.clone();
                    store.message = store.now.clone();
                }
            }
        }
        Answer::Done
    }
}

impl Cursor {
    fn next(&mut self, entries_max: usize, bytes_max: usize) -> Found {
        if range_is_empty(&self.range) {
            return Found::new();
        }
        let mut lower = self
            .range
            .start
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Included);
        let mut upper = self
            .range
            .end
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        match (&self.last, self.options.order) {
            (Some(last), Order::Up) => lower = Bound::Excluded(last),
            (Some(last), Order::Down) => upper = Bound::Excluded(last),
            (None, _) => {}
        }
        if let (Bound::Included(start), Bound::Excluded(end)) = (lower, upper)
            && start >= end
        {
            return Found::new();
        }
        let up = self.entries.range((lower, upper));
        let found = match self.options.order {
            Order::Up => take(up, self.options.keys_only, entries_max, bytes_max),
            Order::Down => take(up.rev(), self.options.keys_only, entries_max, bytes_max),
        };
        if let Some((last, _)) = found.last() {
            self.last = Some(last.clone());
        }
        found
    }
}

/// As many entries as the limits allow, but one at least.
fn take<'a>(
    entries: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
    keys_only: bool,
    entries_max: usize,
    bytes_max: usize,
) -> Found {
    let mut found = Found::new();
    let mut bytes = 0;
    for (key, value) in entries {
        let value = (!keys_only).then(|| value.clone());
        bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        if !found.is_empty() && (found.len() >= entries_max || bytes > bytes_max) {
            break;
        }
        found.push((key.clone(), value));
    }
    found
}

fn range_is_empty(range: &KeyRange) -> bool {
    match (&range.start, &range.end) {
        (Some(start), Some(end)) => start >= end,
        (None, Some(end)) => end.is_empty(),
        (_, None) => false,
    }
}
