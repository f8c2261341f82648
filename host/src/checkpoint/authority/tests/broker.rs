//! A broker in memory, whose commit decides. It outlives the process that uses it, and may not answer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{Authority, Deciding, Undecided};
use crate::checkpoint::{CommitError, OpenError};
use crate::disk::Disk;
use crate::model::{CommitKey, Epoch, Nonce, StoreId, StreamId, TaskId};
use crate::records::{self, TaskRecord, Unwitnessed};
use crate::state::keys::StorePrefix;
use crate::state::{Change, Db, Durability, Family, WriteSet, encode_value_into};

/// What the broker does with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It commits, and says so.
    Committed,
    /// It does not commit, and says so.
    Refused,
    /// It commits, and nobody hears of it.
    CommittedUnheard,
    /// It does not commit, and nobody hears of it.
    RefusedUnheard,
}

/// A change of a task's state, to be kept.
#[derive(Debug, Clone)]
enum Kept {
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    Set(Vec<u8>, Option<Vec<u8>>),
}

/// A transaction: an epoch.
#[derive(Debug, Clone)]
struct Transaction {
    epoch: Epoch,
    nonce: Nonce,
    changes: Vec<(TaskId, StoreId, Kept)>,
    records: Vec<(TaskId, TaskRecord)>,
}

#[derive(Default)]
struct Contents {
    transactions: Vec<Transaction>,
    /// What readers that see committed messages only have read.
    output: Vec<(Partition, String)>,
    /// For the next commits; after them each is answered.
    answers: VecDeque<Answer>,
}

/// The partition that a message was sent to.
type Partition = u32;

/// The broker.
#[derive(Clone, Default)]
pub(super) struct Broker(Arc<Mutex<Contents>>);

impl Broker {
    pub(super) fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.0.lock().answers = answers.into_iter().collect();
    }

    /// The messages of a partition.
    pub(super) fn output(&self, partition: u32) -> Vec<String> {
        let contents = self.0.lock();
        let of_it = contents.output.iter().filter(|(of, _)| *of == partition);
        of_it.map(|(_, message)| message.clone()).collect()
    }
}

/// The broker's transactions decide.
pub(super) struct Transactions {
    pub(super) broker: Broker,
    pub(super) carried: StreamId,
    pub(super) disk: Disk,
}

impl Transactions {
    fn before(&self, step: &'static str) -> Result<(), Undecided> {
        let crash = |error: io::Error| Undecided::Unknown(error.to_string());
        self.disk.before(step).map_err(crash)
    }
}

impl Authority for Transactions {
    fn catch_up(&mut self, db: &Db, mut last: CommitKey) -> Result<CommitKey, OpenError> {
        let missed: Vec<Transaction> = {
            let contents = self.broker.0.lock();
            let transactions = contents.transactions.iter();
            let missed = transactions.filter(|transaction| transaction.epoch > last.epoch);
            missed.cloned().collect()
        };
        for transaction in missed {
            assert_eq!(transaction.epoch, last.epoch.next(), "one after the other");
            self.disk
                .before_at("broker.catch-up", "write to", "db".as_ref())?;
            let (mut writes, mut stored) = (db.write_set(), Vec::new());
            for (task, store, change) in &transaction.changes {
                let prefix = StorePrefix::new(*task, *store);
                match change {
                    Kept::DeleteRange(start, end) => {
                        let (lower, upper) = prefix.range(Some(start), end.as_deref());
                        writes.delete_range(Family::State, &lower, &upper);
                    }
                    Kept::Set(key, None) => writes.delete(Family::State, &prefix.key(key)),
                    Kept::Set(key, Some(value)) => {
                        encode_value_into(value, &mut stored);
                        writes.put(Family::State, &prefix.key(key), &stored);
                    }
                }
            }
            for (task, record) in &transaction.records {
                records::put(&mut writes, task, record);
            }
            last = CommitKey {
                seq: last.seq.next(),
                epoch: transaction.epoch,
                nonce: transaction.nonce,
                prev_nonce: last.nonce,
            };
            records::put(&mut writes, &(), &last);
            let written = writes.commit(Durability::Process);
            written.map_err(|source| OpenError::Db {
                path: "db".into(),
                source,
            })?;
        }
        Ok(last)
    }

    fn begin(&mut self, writes: &mut WriteSet<'_>, last: &CommitKey) -> bool {
        // The witness means nothing here.
        let mark = Unwitnessed {
            boot_id: "none".into(),
            synced: last.epoch,
        };
        records::put(writes, &(), &mark);
        true
    }

    fn carries(&self, stream: StreamId) -> bool {
        stream == self.carried
    }

    fn decide(&mut self, epoch: &Deciding<'_>) -> Result<(), Undecided> {
        self.before("broker.send")?;
        let mut transaction = Transaction {
            epoch: epoch.key.epoch,
            nonce: epoch.key.nonce,
            changes: Vec::new(),
            records: Vec::new(),
        };
        for (task, (id, stamp)) in epoch.sealed.tasks.iter().zip(epoch.stamps) {
            assert_eq!(task.task, *id, "a stamp for each task");
            let changes = task.state.iter().flat_map(|state| state.changes());
            let kept = changes.map(|(store, change)| {
                let change = match change {
                    Change::DeleteRange { start, end } => {
                        Kept::DeleteRange(start.to_vec(), end.map(<[u8]>::to_vec))
                    }
                    Change::Put(key, value) => Kept::Set(key.to_vec(), Some(value.to_vec())),
                    Change::Delete(key) => Kept::Set(key.to_vec(), None),
                };
                (*id, store, change)
            });
            transaction.changes.extend(kept);
            let record = TaskRecord {
                stamp: *stamp,
                ..task.record.clone()
            };
            transaction.records.push((*id, record));
        }
        let mut output = Vec::new();
        for ((_, partition), messages) in epoch.carried {
            for index in 0..messages.len() {
                let value = messages.get(index).value.unwrap_or_default();
                output.push((partition.0, String::from_utf8_lossy(value).into_owned()));
            }
        }
        self.before("broker.commit")?;
        let answer = {
            let mut contents = self.broker.0.lock();
            let answer = contents.answers.pop_front().unwrap_or(Answer::Committed);
            if matches!(answer, Answer::Committed | Answer::CommittedUnheard) {
                contents.transactions.push(transaction);
                contents.output.extend(output);
            }
            answer
        };
        self.before("broker.answer")?;
        match answer {
            Answer::Committed => Ok(()),
            Answer::Refused => Err(Undecided::Again("the broker refused".into())),
            Answer::CommittedUnheard | Answer::RefusedUnheard => {
                Err(Undecided::Unknown("the broker did not answer".into()))
            }
        }
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn accompany(&mut self, _: &mut WriteSet<'_>) {}

    fn confirm(&mut self, _: &CommitKey, _: Durability) -> Result<(), CommitError> {
        Ok(())
    }
}
