//! Looks at the workers, and gives the place of one whose guest's call lasts to a parked thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::cell::Beat;
use super::queue::NeedsThread;
use super::{Shared, worker};

/// How often workers are looked at. A call that is the same in two looks has lasted at least as long.
const LOOK: Duration = Duration::from_millis(5);
/// Threads beyond the workers: so many guests may be slow at a time without delaying others.
pub(super) const SPARE_THREADS: usize = 64;

/// Stands for a thread that runs nothing.
const NO_CALL: u64 = u64::MAX;

pub(super) fn spawn(shared: Arc<Shared>) -> JoinHandle<()> {
    let thread = thread::Builder::new().name("watchdog".into());
    match thread.spawn(move || watch(&shared)) {
        Ok(thread) => thread,
        Err(error) => panic!("a thread cannot be started: {error}"),
    }
}

fn watch(shared: &Arc<Shared>) {
    let mut seen: Vec<(u64, u64)> = Vec::new();
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
        seen.resize(beats.len(), (NO_CALL, NO_CALL));
        for (beat, before) in beats.iter().zip(&mut seen) {
            let now = running(beat);
            let slow = now.is_some() && now == Some(*before);
            *before = now.unwrap_or((NO_CALL, NO_CALL));
            if slow && !beat.taken.load(Ordering::Acquire) {
                hand_over(shared, beat, *before);
            }
        }
    }
}

/// The run and the call that a thread is in.
fn running(beat: &Beat) -> Option<(u64, u64)> {
    let cell = beat.cell.lock();
    let cell = cell.as_ref()?;
    Some((
        beat.runs.load(Ordering::Acquire),
        cell.control.calls.load(Ordering::Relaxed),
    ))
}

fn hand_over(shared: &Arc<Shared>, beat: &Beat, call: (u64, u64)) {
    // Under the queue's lock, because the worker gives its place back under it.
    let still = || running(beat) == Some(call) && !beat.taken.swap(true, Ordering::AcqRel);
    if let Some(NeedsThread(true)) = shared.queue.take_place(still)
        && shared.threads.lock().len() < super::threads_max(shared.options.workers)
    {
        worker::spawn(shared);
    }
}
