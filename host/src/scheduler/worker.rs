//! A worker: takes a task, does what it was asked, and runs its batches for a slice of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::cell::{Beat, Cell};
use super::{Notice, Shared};
use crate::runtime::Requests;
use crate::task::{Outcome, Task};

/// A task that has more to do goes to the end of the queue after this, if others wait.
const SLICE: Duration = Duration::from_millis(5);
/// Guests run on the worker's stack: theirs is limited to 512 KiB, the rest is for host functions.
const STACK: usize = 4 << 20;

/// Starts a thread.
pub(super) fn spawn(shared: &Arc<Shared>) {
    let beat = Arc::new(Beat::default());
    shared.beats.lock().push(Arc::clone(&beat));
    let worker = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name("worker".into())
        .stack_size(STACK);
    match thread.spawn(move || work(&worker, &beat)) {
        Ok(thread) => shared.threads.lock().push(thread),
        Err(error) => panic!("a thread cannot be started: {error}"),
    }
}

fn work(shared: &Arc<Shared>, beat: &Beat) {
    let _io = shared.options.io.enter();
    while let Some(cell) = shared.queue.take() {
        shared.wake_watchdog();
        shared.running.fetch_add(1, Ordering::SeqCst);
        cell.begin();
        *beat.cell.lock() = Some(Arc::clone(&cell));
        beat.runs.fetch_add(1, Ordering::AcqRel);
        let again = run(shared, &cell, beat);
        *beat.cell.lock() = None;
        if cell.end(again) {
            shared.queue.push_again(&cell);
        }
        shared.running.fetch_sub(1, Ordering::SeqCst);
        shared
            .queue
            .give_back(|| beat.taken.swap(false, Ordering::AcqRel));
    }
}

/// Runs a task. Whether it has more to do.
fn run(shared: &Shared, cell: &Arc<Cell>, beat: &Beat) -> bool {
    let began = Instant::now();
    let mut task = cell.task.lock();
    loop {
        obey(shared, cell, &mut task);
        if shared.draining.load(Ordering::SeqCst) || cell.over.load(Ordering::Acquire) {
            return false;
        }
        if shared.is_full() {
            // Not lost: it is in the queue again, which opens when the epoch is committed.
            shared.queue.reopen(false);
            if shared.is_full() {
                return true;
            }
            shared.queue.reopen(true);
        }
        let reserved = !task.has_instance() && task.has_work();
        if reserved {
            reserve_instance(shared, cell);
        }
        let counted = reserved || task.has_instance();
        let outcome = task.step(&cell.control);
        count_instance(shared, cell, counted, task.has_instance());
        if report(shared, cell, &mut task) {
            // The guest asked to be stopped after this batch.
            cell.over.store(true, Ordering::Release);
            return cell.is_asked();
        }
        match outcome {
            Outcome::Worked => {}
            Outcome::Idle => return cell.is_asked(),
            Outcome::Ended => {
                if !cell.over.swap(true, Ordering::AcqRel) {
                    shared.say(Notice::Ended(cell.index));
                }
                return cell.is_asked();
            }
            Outcome::Failed(failure) => {
                cell.over.store(true, Ordering::Release);
                shared.say(Notice::Failed(cell.index, failure));
                return cell.is_asked();
            }
        }
        // Another thread has this one's place.
        let displaced = beat.taken.load(Ordering::Acquire);
        let others = began.elapsed() >= SLICE && shared.queue.has_waiting();
        if displaced || (others && !cell.is_asked()) {
            return true;
        }
    }
}

/// Does what the task was asked, between two batches.
fn obey(shared: &Shared, cell: &Arc<Cell>, task: &mut Task) {
    // The seal is looked at first: whoever asks for it has asked for the release of the epoch before, and that must not be
    // missed.
    let seal = cell.take_seal();
    if cell.take_release() {
        task.release();
    }
    let Some(epoch) = seal else { return };
    let asked = cell.asked.lock().take();
    cell.control.end_batch.store(false, Ordering::SeqCst);
    if shared.draining.load(Ordering::SeqCst) {
        cell.control.end_batch.store(true, Ordering::SeqCst);
    }
    cell.listed.store(false, Ordering::Release);
    let began = Instant::now();
    let bytes = cell.reported.swap(0, Ordering::AcqRel);
    let sealed = task.seal(|| began.elapsed());
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    shared.sealed_bytes.fetch_add(bytes, Ordering::AcqRel);
    let open = shared.open_bytes.fetch_sub(bytes, Ordering::AcqRel) - bytes;
    if open < shared.options.bytes_max / 2 {
        shared.bytes_said.store(false, Ordering::Release);
    }
    tracing::trace!(task = %task.name(), %epoch, waited = ?asked.map(|asked| asked.elapsed()), "sealed");
    shared.say(Notice::Sealed(cell.index, epoch, sealed.map(Box::new)));
}

/// Tells what a step changed. Whether the guest asked to be stopped.
fn report(shared: &Shared, cell: &Arc<Cell>, task: &mut Task) -> bool {
    if !task.is_dirty() {
        return false;
    }
    let bytes = task.open_bytes() as u64;
    let before = cell.reported.swap(bytes, Ordering::AcqRel);
    let (bytes, before) = (
        usize::try_from(bytes).unwrap_or(usize::MAX),
        usize::try_from(before).unwrap_or(0),
    );
    let open = if bytes >= before {
        shared
            .open_bytes
            .fetch_add(bytes - before, Ordering::AcqRel)
            + (bytes - before)
    } else {
        shared
            .open_bytes
            .fetch_sub(before - bytes, Ordering::AcqRel)
            - (before - bytes)
    };
    if !cell.listed.swap(true, Ordering::AcqRel) {
        let mut dirty = shared.dirty.lock();
        dirty.push(cell.index);
        if dirty.len() == 1 {
            drop(dirty);
            shared.say(Notice::Changed);
        }
    }
    if open >= shared.options.bytes_max / 2 && !shared.bytes_said.swap(true, Ordering::AcqRel) {
        shared.say(Notice::Bytes);
    }
    let requests = task.take_requests();
    let stops = requests.stop.is_some();
    if requests != Requests::default() {
        shared.say(Notice::Requested(cell.index, requests));
    }
    stops
}

fn count_instance(shared: &Shared, cell: &Cell, before: bool, after: bool) {
    match (before, after) {
        (false, true) => {
            shared.instances.fetch_add(1, Ordering::AcqRel);
        }
        (true, false) => {
            shared.instances.fetch_sub(1, Ordering::AcqRel);
        }
        _ => {}
    }
    if after {
        let now = shared.uses.fetch_add(1, Ordering::Relaxed);
        cell.last_used.store(now, Ordering::Relaxed);
    }
}

/// Counts an instance that is about to be made. Where there is no room, the least recently used one of a task that no thread
/// runs is dropped for it.
fn reserve_instance(shared: &Shared, but: &Arc<Cell>) {
    let max = shared.options.instances_max;
    let one_more = |alive: usize| (alive < max).then_some(alive + 1);
    while shared
        .instances
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
        .is_err()
    {
        if !drop_one(shared, but) {
            // All of them are at work: more instances than the bound for a moment, rather than a task that waits.
            shared.instances.fetch_add(1, Ordering::AcqRel);
            return;
        }
    }
}

/// Drops the least recently used instance of a task that no thread runs; whether there was one.
fn drop_one(shared: &Shared, but: &Arc<Cell>) -> bool {
    let mut idle: Vec<&Arc<Cell>> = shared
        .cells
        .iter()
        .filter(|cell| !Arc::ptr_eq(cell, but) && cell.last_used.load(Ordering::Relaxed) > 0)
        .collect();
    idle.sort_by_key(|cell| cell.last_used.load(Ordering::Relaxed));
    idle.into_iter().any(|cell| match cell.task.try_lock() {
        Some(mut task) if task.has_instance() => {
            task.drop_instance();
            cell.last_used.store(0, Ordering::Relaxed);
            shared.instances.fetch_sub(1, Ordering::AcqRel);
            true
        }
        _ => false,
    })
}
