//! What can be done to the state of some tasks, and what comes back: the language that engine and model share.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use wasm_host::state::ScanOptions;

/// A key or a value: cheap to clone, short when printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bytes(Rc<[u8]>);

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes.into())
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 24;
        match self.len() {
            0..=SHOWN => write!(f, "\"{}\"", self.escape_ascii()),
            len => write!(f, "\"{}…\" ({len} bytes)", self[..SHOWN].escape_ascii()),
        }
    }
}

/// A store of a task, by their places in the setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) task: usize,
    pub(super) store: usize,
}

/// Keys from `start`, inclusive, to `end`, exclusive; a missing bound is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) start: Option<Bytes>,
    pub(super) end: Option<Bytes>,
}

impl KeyRange {
    /// Every key there is.
    pub(super) const ALL: KeyRange = KeyRange {
        start: None,
        end: None,
    };

    /// The keys that begin with `prefix`.
    pub(super) fn of_prefix(prefix: &[u8]) -> KeyRange {
        let below_max = prefix.iter().rposition(|byte| *byte < u8::MAX);
        let end = below_max.map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        });
        KeyRange {
            start: Some(prefix.into()),
            end,
        }
    }
}

/// The steps of a commit that can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitStep {
    /// The one write is built; what range deletes will remove is read.
    Prepare,
    /// It becomes durable.
    Write,
    /// The cache is updated.
    Publish,
}

/// One step of a run.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Get {
        at: Place,
        key: Bytes,
    },
    GetMany {
        at: Place,
        keys: Vec<Bytes>,
    },
    Put {
        at: Place,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        at: Place,
        key: Bytes,
    },
    Increment {
        at: Place,
        key: Bytes,
        by: i64,
    },
    DeleteRange {
        at: Place,
        range: KeyRange,
    },
    /// Opens a cursor under a name that the run has not used before.
    Scan {
        at: Place,
        range: KeyRange,
        options: ScanOptions,
        cursor: u32,
    },
    ScanNext {
        task: usize,
        cursor: u32,
        entries_max: usize,
        bytes_max: usize,
    },
    ScanClose {
        task: usize,
        cursor: u32,
    },
    /// Opens a cursor, reads it to its end in pieces of `entries_max`, closes it.
    Walk {
        at: Place,
        range: KeyRange,
        options: ScanOptions,
        entries_max: usize,
    },
    CountCursors {
        task: usize,
    },
    EndCall {
        task: usize,
    },
    MarkMessage {
        task: usize,
    },
    UndoMessage {
        task: usize,
    },
    /// Ends the call, then keeps the batch.
    KeepBatch {
        task: usize,
    },
    UndoBatch {
        task: usize,
    },
    Seal {
        task: usize,
    },
    /// The commit's thread begins a step, while the tasks go on.
    Begin(CommitStep),
    /// Waits until the step has ended.
    Finish,
    Release {
        task: usize,
    },
    /// Everything in the column family of the stores. Not between a [`Operation::Begin`] and its end.
    Stored,
    /// Drops everything, after the running step of a commit if there is one, and opens the database again.
    Reopen,
}

/// Entries in the order of a scan; no values in a scan of keys only.
pub(super) type Found = Vec<(Bytes, Option<Bytes>)>;

/// Why a counter was not incremented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The length of the value.
    Length(usize),
    /// The sum exceeds 64 bits.
    Overflow,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Value(Option<Bytes>),
    Values(Vec<Option<Bytes>>),
    Sum(Result<i64, Refusal>),
    /// `None`: the cursor has ended.
    Entries(Option<Found>),
    Cursors(usize),
    /// Whether there was anything to commit.
    Sealed(bool),
    /// Keys with their prefixes, and values without their flags.
    Stored(Vec<(Bytes, Bytes)>),
}

/// What is driven: the engine, the model, or an engine with a mistake.
pub(super) trait Subject {
    /// Does one step and gives its result.
    fn apply(&mut self, operation: &Operation) -> Answer;
}

impl Operation {
    /// The name of every kind, for counting.
    pub(super) const KINDS: [&str; 22] = [
        "get",
        "get many",
        "put",
        "delete",
        "increment",
        "delete range",
        "scan",
        "scan next",
        "scan close",
        "walk",
        "count cursors",
        "end call",
        "mark message",
        "undo message",
        "keep batch",
        "undo batch",
        "seal",
        "begin step",
        "finish step",
        "release",
        "stored",
        "reopen",
    ];

    /// Its place among [`Operation::KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Operation::Get { .. } => 0,
            Operation::GetMany { .. } => 1,
            Operation::Put { .. } => 2,
            Operation::Delete { .. } => 3,
            Operation::Increment { .. } => 4,
            Operation::DeleteRange { .. } => 5,
            Operation::Scan { .. } => 6,
            Operation::ScanNext { .. } => 7,
            Operation::ScanClose { .. } => 8,
            Operation::Walk { .. } => 9,
            Operation::CountCursors { .. } => 10,
            Operation::EndCall { .. } => 11,
            Operation::MarkMessage { .. } => 12,
            Operation::UndoMessage { .. } => 13,
            Operation::KeepBatch { .. } => 14,
            Operation::UndoBatch { .. } => 15,
            Operation::Seal { .. } => 16,
            Operation::Begin(_) => 17,
            Operation::Finish => 18,
            Operation::Release { .. } => 19,
            Operation::Stored => 20,
            Operation::Reopen => 21,
        }
    }
}
