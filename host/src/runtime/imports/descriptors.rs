//! How many files all guests of the job have open together.

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

/// The part of one guest. What it has open is closed with it.
pub(super) struct OwnDescriptors {
    all: Arc<Descriptors>,
    own: usize,
}

impl OwnDescriptors {
    pub(super) fn new(all: Arc<Descriptors>) -> OwnDescriptors {
        OwnDescriptors { all, own: 0 }
    }

    /// Counts one that is about to be opened.
    pub(super) fn one_more(&mut self) -> FsResult<()> {
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
        self.own += 1;
        Ok(())
    }

    /// One that was counted is closed. Those that were not (the granted folders) are not known apart: the count errs to the guest's
    /// favour by their number at most.
    pub(super) fn one_less(&mut self) {
        if self.own > 0 {
            self.own -= 1;
            self.all.open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for OwnDescriptors {
    fn drop(&mut self) {
        self.all.open.fetch_sub(self.own, Ordering::AcqRel);
    }
}
