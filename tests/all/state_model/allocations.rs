//! What a piece of code takes from and gives back to the allocator, counted on its own thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTS: Cell<Allocations> = const {
        Cell::new(Allocations {
            taken: 0,
            bytes: 0,
            given_back: 0,
        })
    };
}

/// What was asked of the allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocations {
    /// Allocations, and reallocations.
    pub(crate) taken: u64,
    /// Their bytes: an upper bound of what was copied to new memory.
    pub(crate) bytes: u64,
    /// Allocations that were freed.
    pub(crate) given_back: u64,
}

/// Runs `work` and counts.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    let before = COUNTS.get();
    let result = work();
    let after = COUNTS.get();
    let counts = Allocations {
        taken: after.taken - before.taken,
        bytes: after.bytes - before.bytes,
        given_back: after.given_back - before.given_back,
    };
    (result, counts)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(taken: u64, bytes: usize, given_back: u64) {
    // A thread that ends may free after its counts are gone.
    let _ = COUNTS.try_with(|counts| {
        let before = counts.get();
        counts.set(Allocations {
            taken: before.taken + taken,
            bytes: before.bytes + bytes as u64,
            given_back: before.given_back + given_back,
        });
    });
}

#[expect(
    unsafe_code,
    reason = "an allocator is; every call goes to the system's with the same arguments"
)]
// SAFETY: the system's allocator does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, 0, 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn every_allocation_of_the_thread_is_counted() {
    let (kept, counts) = count(|| {
        drop(std::hint::black_box(Box::new([0_u8; 100])));
        vec![0_u8; 1000]
    });
    let expected = Allocations {
        taken: 2,
        bytes: 1100,
        given_back: 1,
    };
    assert_eq!((kept.len(), counts), (1000, expected));
    let (_, elsewhere) = count(|| {
        std::thread::scope(|scope| {
            let big = scope.spawn(|| vec![0_u8; 1 << 20].len());
            big.join().expect("it does not panic")
        })
    });
    assert!(elsewhere.bytes < 1 << 20, "{elsewhere:?}");
}
