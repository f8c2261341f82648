//! How many files all guests of the job have open together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

/// The bound, and what is open.
#[derive(Debug)]
pub(in crate::runtime) struct Descriptors {
    most: usize,
    open: AtomicUsize,
    told: AtomicBool,
}

impl Descriptors {
    pub(in crate::runtime) fn new(most: usize) -> Descriptors {
        Descriptors {
            most,
            open: AtomicUsize::new(0),
            told: AtomicBool::new(false),
        }
    }
}

/// A file that is open, and counted until the last handle to it is dropped.
pub(super) struct Counted(Arc<Descriptors>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The part of one guest. What it has open is closed with it.
pub(super) struct OwnDescriptors {
    all: Arc<Descriptors>,
    /// By the number of a descriptor or stream in the guest's table: a stream keeps its file open when the descriptor is dropped. Granted
    /// folders, of which a guest gets another handle whenever it asks, are not here.
    held: HashMap<u32, Arc<Counted>>,
}

impl OwnDescriptors {
    pub(super) fn new(all: Arc<Descriptors>) -> OwnDescriptors {
        OwnDescriptors {
            all,
            held: HashMap::new(),
        }
    }

    /// Counts one that is about to be opened. It counts for as long as this is kept.
    pub(super) fn one_more(&self) -> FsResult<Arc<Counted>> {
        let most = self.all.most;
        let one_more = |open: usize| (open < most).then_some(open + 1);
        let counted = self
            .all
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        if counted.is_err() {
            if !self.all.told.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    "guests have {most} files open, which is all that they may have together; raise the limit of open files (`ulimit -n`)"
                );
            }
            return Err(ErrorCode::Quota.into());
        }
        Ok(Arc::new(Counted(Arc::clone(&self.all))))
    }

    /// The descriptor of this number is of that file.
    pub(super) fn opened(&mut self, descriptor: u32, file: Arc<Counted>) {
        self.held.insert(descriptor, file);
    }

    /// A stream of the descriptor's file was made.
    pub(super) fn streams(&mut self, descriptor: u32, stream: u32) {
        if let Some(file) = self.held.get(&descriptor) {
            self.held.insert(stream, Arc::clone(file));
        }
    }

    /// The descriptor or stream of this number is dropped.
    pub(super) fn dropped(&mut self, number: u32) {
        self.held.remove(&number);
    }
}
