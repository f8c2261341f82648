//! Looks at the workers, and gives away the seat of one whose guest's call lasts too long.
//!
//! What the call does decides its seat from then on. The kernel knows: the thread of a guest that computes is running or
//! waits for a processor, that of one that waits sleeps. The kind of seat that its task waits for next time depends on the
//! processor time of the call: on a busy machine a short call takes long too, and must not wait for those that compute.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cell::Beat;
use super::{Shared, worker};

/// How often workers are looked at. A call that is the same in two looks has lasted at least as long.
const LOOK: Duration = Duration::from_millis(5);
/// Threads beyond those with seats: the number of guests that can wait at a time without delaying others.
pub(super) const SPARE_THREADS: usize = 64;

/// A call that has used this much processor time since it was first seen is heavy. The kernel updates its figure at each of
/// its ticks, usually of 4 ms, so a smaller value would hit calls that used next to nothing.
const HEAVY: Duration = Duration::from_millis(6);

/// The run of a thread and the call of the guest in it.
type Call = (u64, u64);

/// A call when it was first seen.
struct Seen {
    call: Call,
    /// The processor time of its thread by then.
    processor: Option<Duration>,
}

pub(super) fn spawn(shared: Arc<Shared>) -> JoinHandle<()> {
    let thread = thread::Builder::new().name("watchdog".into());
    match thread.spawn(move || watch(&shared)) {
        Ok(thread) => thread,
        Err(error) => panic!("a thread cannot be started: {error}"),
    }
}

fn watch(shared: &Arc<Shared>) {
    let mut seen: Vec<Option<Seen>> = Vec::new();
    while !shared.queue.is_stopped() {
        if !shared.queue.is_busy() {
            // Woken by the next worker that finds work; wakes by itself only to notice the end.
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
        seen.resize_with(beats.len(), || None);
        for (beat, before) in beats.iter().zip(&mut seen) {
            let now = running(beat);
            let Some(first) = before.as_ref().filter(|seen| now == Some(seen.call)) else {
                *before = now.map(|call| Seen {
                    call,
                    processor: processor(beat),
                });
                *beat.since.lock() = None;
                continue;
            };
            beat.since
                .lock()
                .get_or_insert_with(|| Instant::now() - LOOK);
            let heavy = is_heavy(first.processor, beat);
            let new = heavy && !beat.heavy.load(Ordering::Acquire);
            if new || !beat.moved.load(Ordering::Acquire) {
                move_over(shared, beat, now, heavy);
            }
        }
    }
}

/// Whether a call has computed for long since it was first seen. If the kernel does not report it, all elapsed time counts.
fn is_heavy(first: Option<Duration>, beat: &Beat) -> bool {
    match (first, processor(beat)) {
        (Some(first), Some(now)) => now.saturating_sub(first) >= HEAVY,
        _ => uses_processor(beat),
    }
}

/// The processor time of a thread since it was started.
fn processor(beat: &Beat) -> Option<Duration> {
    let thread = beat.thread.load(Ordering::Relaxed);
    let told = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanoseconds = told.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// What a thread is running.
fn running(beat: &Beat) -> Option<Call> {
    let cell = beat.cell.lock();
    let cell = cell.as_ref()?;
    Some((
        beat.runs.load(Ordering::Acquire),
        cell.control.calls.load(Ordering::Relaxed),
    ))
}

fn move_over(shared: &Arc<Shared>, beat: &Beat, call: Option<Call>, heavy: bool) {
    let uses_processor = uses_processor(beat);
    // Under the queue's lock, because the worker gives its seat back under it.
    let still = || {
        let still = running(beat) == call;
        if still {
            beat.heavy.fetch_or(heavy, Ordering::AcqRel);
        }
        still && !beat.moved.swap(still, Ordering::AcqRel)
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
