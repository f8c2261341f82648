//! The host in memory: what the task's imports act on.
//!
//! A task reaches it through a slot of the thread, which the harness fills for the time of a call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::limits::{CALL_BYTES, ENTRY_BYTES, METRIC_NAMES, at_most, check_metric_name, trap};
use super::ports::{self, Ports};
use super::stores::Stores;
use crate::log::Level;

/// How many calls of each kind a task has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct Calls {
    pub open: u64,
    pub get: u64,
    pub put: u64,
    pub delete: u64,
    pub increment: u64,
    pub get_many: u64,
    pub put_many: u64,
    pub delete_range: u64,
    pub scan: u64,
    pub next: u64,
    pub send_many: u64,
}

impl Calls {
    /// All calls that read or write state. Opening a store, which happens once per instance, does not count.
    pub fn state(&self) -> u64 {
        self.get
            + self.put
            + self.delete
            + self.increment
            + self.get_many
            + self.put_many
            + self.delete_range
            + self.scan
            + self.next
    }
}

/// A line that a task has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// What it belongs to: the module, for the crate's macros.
    pub context: String,
    /// The line.
    pub message: String,
}

/// A figure for operators.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Figure {
    Counter(u64),
    Gauge(f64),
    Histogram(Vec<f64>),
}

/// What a call of the guest may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rights {
    #[default]
    Read,
    WriteState,
    Write,
}

#[derive(Default)]
pub(super) struct Host {
    pub(super) stores: Stores,
    pub(super) ports: Ports,
    pub(super) figures: BTreeMap<String, Figure>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) inputs: Vec<String>,
    pub(super) lines: Vec<Line>,
    pub(super) calls: Calls,
    pub(super) job: String,
    pub(super) stage: String,
    pub(super) partition: u32,
    pub(super) partitions: u32,
    /// The wall clock, set by the test.
    pub(super) clock_ms: i64,
    /// Store time: it follows the clock between batches, and never back.
    pub(super) now_ms: i64,
    pub(super) default_timestamp_ms: i64,
    pub(super) may_stop: bool,
    pub(super) stop: Option<String>,
    pub(super) checkpoint_requested: bool,
    /// Counts the calls of the guest: a cursor ends with its own.
    pub(super) guest_call: u64,
    pub(super) open_stores: usize,
    pub(super) open_cursors: usize,
    pub(super) rights: Rights,
    pub(super) staged_bytes: usize,
}

/// What undoing goes back to.
pub(super) struct Mark {
    stores: usize,
    ports: ports::Mark,
    figures: BTreeMap<String, Figure>,
    checkpoint_requested: bool,
    stop: Option<String>,
}

impl Host {
    /// Begins a batch: store time stands still from here on.
    pub(super) fn begin_batch(&mut self) {
        self.now_ms = self.now_ms.max(self.clock_ms);
        self.stores.commit();
    }

    /// Begins a call of the guest.
    pub(super) fn begin_call(&mut self, rights: Rights) {
        self.guest_call += 1;
        self.open_cursors = 0;
        self.staged_bytes = 0;
        self.rights = rights;
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            stores: self.stores.mark(),
            ports: self.ports.mark(),
            figures: self.figures.clone(),
            checkpoint_requested: self.checkpoint_requested,
            stop: self.stop.clone(),
        }
    }

    pub(super) fn undo(&mut self, mark: Mark) {
        self.stores.undo(mark.stores);
        self.ports.undo(&mark.ports);
        self.figures = mark.figures;
        self.checkpoint_requested = mark.checkpoint_requested;
        self.stop = mark.stop;
    }

    /// Accounts for writes or sends, which only a batch may do: entries, messages and headers, and their bytes.
    #[track_caller]
    pub(super) fn stage(&mut self, what: &str, entries: usize, bytes: usize) {
        if self.rights == Rights::Read {
            trap(format_args!("{what} outside of a batch"));
        }
        self.staged_bytes += entries * ENTRY_BYTES + bytes;
        at_most(
            "writes and sends of one call, in bytes,",
            CALL_BYTES,
            self.staged_bytes,
        );
    }

    /// Whether the guest may send.
    #[track_caller]
    pub(super) fn check_sending(&self) {
        if self.rights == Rights::WriteState {
            trap("sending in `migrate`");
        }
    }

    /// A figure by name; `new` is what it begins as, and says its kind.
    #[track_caller]
    pub(super) fn figure(&mut self, name: &str, new: Figure) -> &mut Figure {
        check_metric_name(name);
        if !self.figures.contains_key(name) {
            at_most(
                "the number of figures",
                METRIC_NAMES,
                self.figures.len() + 1,
            );
        }
        let figure = self
            .figures
            .entry(name.to_owned())
            .or_insert_with(|| new.clone());
        if std::mem::discriminant(figure) != std::mem::discriminant(&new) {
            trap(format_args!("figure {name:?} is of another kind"));
        }
        figure
    }
}

/// A host, as it is shared with the handles of a task.
pub(super) type Shared = Rc<RefCell<Host>>;

thread_local! {
    static CURRENT: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Makes a host the one that the task's imports reach, for as long as `work` takes.
pub(super) fn enter<R>(host: &Shared, work: impl FnOnce() -> R) -> R {
    /// Puts back what was there, in a panic as well.
    struct Leave(Option<Shared>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _leave = Leave(CURRENT.replace(Some(Rc::clone(host))));
    work()
}

/// The host of the current call.
#[track_caller]
pub(super) fn current() -> Shared {
    match CURRENT.with_borrow(|current| current.clone()) {
        Some(host) => host,
        None => panic!("a task reaches its host only when `wasm_host_sdk::testing` runs it"),
    }
}
