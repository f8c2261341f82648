//! What a process that is gone has left on the disk, read without changing it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasm_host::coordinator::View;
use wasm_host::model::CommitKey;
use wasm_host::records::{self, OutboxRecord};
use wasm_host::state::{Db, DbOptions};

use super::Job;

/// How far commits had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The last write is witnessed, and its output is delivered and recorded, or has not been.
    Between,
    /// The database is one write ahead of the witness.
    BeforeWitness,
    /// An outbox holds more than the file of its stream.
    InDelivery,
    /// The file has all of an outbox that still holds it.
    Delivered,
}

/// What the newest valid block of the witness says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    pub seq: u64,
    pub epoch: u64,
    pub nonce: u64,
}

/// A state directory that is not in use, and the files of its output.
#[derive(Debug)]
pub struct Found {
    pub commit: CommitKey,
    pub witness: Witness,
    /// Of each partition of an output outside of the database: its outbox, and the length of its file.
    pub outboxes: Vec<(OutboxRecord, u64)>,
    /// Where each task goes on in its input.
    pub positions: BTreeMap<String, u64>,
}

/// The state directory, if it has been made.
pub fn state_dir(job: &Job) -> Option<PathBuf> {
    let entries = fs::read_dir(job.path(".wasm-host")).ok()?;
    entries
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_none())
}

impl Found {
    /// Reads it; `None` where there is none yet.
    pub fn of(job: &Job) -> Option<Found> {
        let folder = state_dir(job)?;
        let db = Db::open_read_only(&folder.join("db"), &DbOptions::default());
        let db = Arc::new(db.expect("the database opens"));
        let view = View::of_stopped(Arc::clone(&db), &folder).expect("the catalog can be read");
        let tasks = view.tasks().expect("the tasks can be read");
        let positions = tasks.into_iter().filter_map(|mut task| {
            let (_, position) = task.record.positions.pop_first()?;
            Some((task.task, position.next))
        });
        let outboxes = records::list::<OutboxRecord>(&db).expect("the outboxes can be read");
        let outboxes = outboxes.into_iter().map(|(_, record)| {
            let length = fs::metadata(job.path("out/out-0-0")).map_or(0, |file| file.len());
            (record, length)
        });
        Some(Found {
            commit: view.commit().expect("the commit key"),
            witness: newest_block(&folder.join("witness")),
            outboxes: outboxes.collect(),
            positions: positions.collect(),
        })
    }

    /// The last committed epoch.
    pub fn epoch(&self) -> u64 {
        self.commit.epoch.0
    }

    /// How far commits had come when the process ended.
    #[track_caller]
    pub fn phase(&self) -> Phase {
        let (commit, witness) = (self.commit, self.witness);
        let ahead = commit.seq.0.checked_sub(witness.seq);
        if ahead == Some(1) {
            assert_eq!(commit.prev_nonce.0, witness.nonce, "{self:?}");
            return Phase::BeforeWitness;
        }
        assert_eq!(
            (commit.seq.0, commit.epoch.0, commit.nonce.0),
            (witness.seq, witness.epoch, witness.nonce),
            "{self:?}"
        );
        let mut phase = Phase::Between;
        for (outbox, length) in &self.outboxes {
            let recorded = recorded_length(outbox);
            assert!(
                (recorded..=recorded + outbox.bytes).contains(length),
                "{self:?}"
            );
            if outbox.bytes > 0 {
                phase = phase.max(match *length == recorded + outbox.bytes {
                    true => Phase::Delivered,
                    false => Phase::InDelivery,
                });
            }
        }
        phase
    }
}

/// The length that a file had when its outbox was written.
pub fn recorded_length(outbox: &OutboxRecord) -> u64 {
    let sink = outbox.sink.as_deref().expect("the state of a file output");
    assert_eq!((sink.len(), sink[0]), (25, 1));
    number(sink, 17)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
}

/// The newest block whose magic and version are right. Its checksum is the host's business.
fn newest_block(path: &Path) -> Witness {
    let bytes = fs::read(path).expect("the witness");
    assert_eq!(bytes.len(), 8192);
    let blocks = [&bytes[..76], &bytes[4096..4096 + 76]];
    let valid = blocks
        .into_iter()
        .filter(|block| block.starts_with(b"WHWITNES\x02\0\0\0"));
    let block = valid.map(|block| Witness {
        seq: number(block, 28),
        epoch: number(block, 36),
        nonce: number(block, 44),
    });
    block
        .max_by_key(|block| block.seq)
        .expect("a block of the witness")
}
