//! Looks at the workers, and gives away the seat of one whose guest's call lasts.
//!
//! What the call does decides which seat it has from then on. The kernel knows: the thread of a guest that computes is running or
//! waits for a processor, that of one that waits sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cell::Beat;
use super::{Shared, worker};

/// How often workers are looked at. A call that is the same in two looks has lasted at least as long.
const LOOK: Duration = Duration::from_millis(5);
/// Threads beyond those with seats: so many guests may wait at a time without delaying others.
pub(super) const SPARE_THREADS: usize = 64;

/// The run of a thread and the call of the guest in it.
type Call = (u64, u64);

pub(super) fn spawn(shared: Arc<Shared>) -> JoinHandle<()> {
    let thread = thread::Builder::new().name("watchdog".into());
    match thread.spawn(move || watch(&shared)) {
        Ok(thread) => thread,
        Err(error) => panic!("a thread cannot be started: {error}"),
    }
}

fn watch(shared: &Arc<Shared>) {
    let mut seen: Vec<Option<Call>> = Vec::new();
    while !shared.queue.is_stopped() {
        if !shared.queue.is_busy() {
            // Woken by the next worker that finds work; by itself only to notice the end.
            shared.asleep.store(true, Ordering::SeqCst);
            if !shared.queue.is_busy() && !shared.queue.is_stopped() {
                thread::park_timeout(Duration::from_secs(3600));
            }
            shared.asleep.store(false, Ordering::SeqCst);
            seen.clear();
            continue;
        }
        thread::sleep(LOOK);
        let beats = shared.beats.lock().clone();
        seen.resize(beats.len(), None);
        for (beat, before) in beats.iter().zip(&mut seen) {
            let now = running(beat);
            let slow = now.is_some() && now == *before;
            *before = now;
            if !slow {
                *beat.since.lock() = None;
                continue;
            }
            beat.since
                .lock()
                .get_or_insert_with(|| Instant::now() - LOOK);
            if !beat.moved.load(Ordering::Acquire) {
                move_over(shared, beat, now);
            }
        }
    }
}

/// What a thread is in.
fn running(beat: &Beat) -> Option<Call> {
    let cell = beat.cell.lock();
    let cell = cell.as_ref()?;
    Some((
        beat.runs.load(Ordering::Acquire),
        cell.control.calls.load(Ordering::Relaxed),
    ))
}

fn move_over(shared: &Arc<Shared>, beat: &Beat, call: Option<Call>) {
    let uses_processor = uses_processor(beat);
    // Under the queue's lock, because the worker gives its seat back under it.
    let still = || {
        let still = running(beat) == call;
        if still {
            beat.moved.store(true, Ordering::Release);
            beat.heavy.fetch_or(uses_processor, Ordering::AcqRel);
        }
        still
    };
    if shared.queue.move_over(&beat.seat, uses_processor, still)
        && shared.threads.lock().len() < super::threads_max(shared.options.workers)
    {
        worker::spawn(shared);
    }
}

/// Whether a thread computes, or would if it were given a processor.
pub(super) fn uses_processor(beat: &Beat) -> bool {
    let thread = beat.thread.load(Ordering::Relaxed);
    // `number (name) state …`, and the name is ours.
    std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('R'))
    })
}
