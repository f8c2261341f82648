//! Counts, and its allocator reads the clock once it has counted two messages, as a garbage collector does: also while the host asks
//! for memory, when a guest may call no import.

#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasm_host_sdk::prelude::*;

static READS_THE_CLOCK: AtomicBool = AtomicBool::new(false);

struct Allocator;

// SAFETY: memory is the system's, asked for and given back as it is asked of this one.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if READS_THE_CLOCK.load(Ordering::Relaxed) {
            std::hint::black_box(Instant::now());
        }
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct ClockAllocator;

#[task]
impl ClockAllocator {
    fn open(cx: &Context) -> Result<Self, Error> {
        let count = cx.store::<Raw, I64>("counts")?.get(b"count")?;
        READS_THE_CLOCK.store(count.unwrap_or_default() >= 2, Ordering::Relaxed);
        Ok(Self)
    }

    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let text = message.value_str()?;
        let count = cx.store::<Raw, I64>("counts")?.increment(b"count", 1)?;
        let line = format!("{text} {count}");
        cx.output::<Raw, Raw>("out").send_value(line.as_bytes())?;
        READS_THE_CLOCK.store(count >= 2, Ordering::Relaxed);
        Ok(())
    }
}
