//! A worker: takes a task, does what it was asked, and runs its batches for a slice of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::cell::{Ask, Beat, Cell};
use super::lists::{After, Reason};
use super::queue::Run;
use super::{Met, Notice, Shared};
use crate::model::Epoch;
use crate::runtime::Requests;
use crate::task::{Outcome, Task};

/// A task that has more to do goes to the end of the queue after this, if others wait.
const SLICE: Duration = Duration::from_millis(5);
/// Guests run on the worker's stack: theirs is limited to 512 KiB, the rest is for host functions.
pub(super) const STACK: usize = 4 << 20;
/// Where there are not enough cores, the commit and RocksDB's flushes come first: guests that outrun them stand until they have
/// ended. So guests slow down instead.
const NICE: i32 = 2;

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
    // A thread that may not be nicer works as well.
    let _ = rustix::process::nice(NICE);
    let _io = shared.options.io.enter();
    let id = rustix::thread::gettid().as_raw_nonzero().get();
    beat.thread
        .store(id.unsigned_abs().into(), Ordering::Relaxed);
    let mut ended = None;
    while let Some(taken) = shared.queue.next(ended.take(), &beat.seat) {
        shared.wake_watchdog();
        // A reader of a task that has left may still wake its place.
        let Some(cell) = shared.cell(taken.task) else {
            ended = Some(Run {
                task: taken.task,
                after: After::Idle,
                heavy: None,
            });
            continue;
        };
        *beat.cell.lock() = Some(Arc::clone(&cell));
        beat.runs.fetch_add(1, Ordering::AcqRel);
        let (after, ran) = match taken.reason {
            Reason::Errand => {
                obey(shared, &cell, &mut cell.task.lock());
                (After::Idle, false)
            }
            Reason::Ready => (run(shared, &cell, beat, taken.release), true),
        };
        *beat.cell.lock() = None;
        let has_left = cell.gone.load(Ordering::Acquire);
        drop(cell);
        if has_left {
            // The task is dropped, with all that it held in memory.
            shared.report(Notice::Left(taken.task));
        }
        beat.moved.store(false, Ordering::Release);
        let heavy = beat.heavy.swap(false, Ordering::AcqRel);
        ended = Some(Run {
            task: taken.task,
            after,
            heavy: ran.then_some(heavy),
        });
    }
}

/// Runs a task's batches. `release`: the number of the last release of memory before the run.
fn run(shared: &Arc<Shared>, cell: &Arc<Cell>, beat: &Beat, release: u64) -> After {
    let mut task = cell.task.lock();
    let after = run_batches(shared, cell, beat, release, &mut task);
    let is_over = task.holds_too_much();
    drop(task);
    if is_over {
        shared.trim_one();
    }
    after
}

fn run_batches(
    shared: &Arc<Shared>,
    cell: &Arc<Cell>,
    beat: &Beat,
    release: u64,
    task: &mut Task,
) -> After {
    let began = Instant::now();
    loop {
        if obey(shared, cell, task) {
            return After::Idle;
        }
        if shared.draining.load(Ordering::SeqCst) || cell.over.load(Ordering::Acquire) {
            return After::Idle;
        }
        if !shared.gate.may_begin(&cell.share) && task.has_work() {
            return After::Held(release);
        }
        let reserved = !task.has_instance() && task.has_work();
        if reserved {
            shared.instances.reserve();
        }
        let counted = reserved || task.has_instance();
        let stepped = Instant::now();
        let outcome = task.step(&cell.control);
        shared.instances.note(cell, counted, task.has_instance());
        if report(shared, cell, task) {
            // The guest asked to be stopped after this batch.
            cell.over.store(true, Ordering::Release);
            return After::Idle;
        }
        match outcome {
            Outcome::Worked => {
                let pause = shared.gate.pause(&cell.share, stepped.elapsed());
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
            }
            outcome => {
                note_outcome(shared, cell, task, outcome);
                return After::Idle;
            }
        }
        // Another thread has this one's seat.
        let moved = beat.moved.load(Ordering::Acquire);
        if moved || (began.elapsed() >= SLICE && shared.queue.has_waiting()) {
            return After::More;
        }
    }
}

/// Reports why a task does nothing for now.
fn note_outcome(shared: &Arc<Shared>, cell: &Arc<Cell>, task: &Task, outcome: Outcome) {
    match outcome {
        Outcome::Worked | Outcome::Idle => {}
        Outcome::Regressed(failure) => shared.report(Notice::Regressed(cell.index, failure)),
        Outcome::Migrated => shared.report(Notice::Migrated(cell.index)),
        Outcome::Waiting(until) => shared.wake_at(cell.index, until),
        Outcome::Ended => {
            if !cell.over.swap(true, Ordering::AcqRel) {
                shared.report(Notice::Ended(cell.index));
            }
        }
        Outcome::Failed(failure) => {
            cell.over.store(true, Ordering::Release);
            let met = match task.is_fresh() {
                true => Met::First,
                false => Met::Later,
            };
            shared.report(Notice::Failed(cell.index, failure, met));
        }
    }
}

/// Does what the task was asked, between two batches. Returns whether it has left the scheduler.
fn obey(shared: &Shared, cell: &Arc<Cell>, task: &mut Task) -> bool {
    while let Some(ask) = cell.take_ask() {
        match ask {
            Ask::Seal(epoch, asked, None) => _ = seal(shared, cell, task, epoch, asked),
            Ask::Seal(epoch, asked, Some(code)) => {
                task.forget_failures();
                let pause = seal(shared, cell, task, epoch, asked);
                let had_instance = task.has_instance();
                task.take_code(code.code_of(task.id()), &cell.control, pause);
                shared.instances.note(cell, had_instance, false);
                if task.has_to_migrate() {
                    // One that has come to its end as well.
                    begin_again(shared, cell);
                }
                // What it waited for, or was done with, may be another thing for other code.
                shared.queue.wake(cell.index);
            }
            Ask::Release => {
                cell.share.release();
                task.release();
            }
            Ask::Stop => {
                cell.control.end_batch.store(true, Ordering::SeqCst);
                let had_instance = task.has_instance();
                task.drop_instance(&cell.control);
                shared.instances.note(cell, had_instance, false);
                cell.over.store(true, Ordering::Release);
                shared.report(Notice::Stopped(cell.index));
            }
            Ask::Resume(how) => {
                begin_again(shared, cell);
                task.resume(how);
                report(shared, cell, task);
            }
            Ask::GoOn(generation) => task.go_on_without(generation),
            Ask::Leave => {
                assert!(cell.over.load(Ordering::Acquire), "a task leaves at work");
                let changed = cell.changed.swap(false, Ordering::AcqRel);
                if shared.gate.forget(&cell.share, changed) {
                    // Others may wait for the room.
                    shared.queue.release();
                }
                shared.leave(cell);
                return true;
            }
        }
    }
    false
}

/// A task that was over is not.
fn begin_again(shared: &Shared, cell: &Cell) {
    cell.over.store(false, Ordering::Release);
    let draining = shared.draining.load(Ordering::SeqCst);
    cell.control.end_batch.store(draining, Ordering::SeqCst);
}

/// Returns how long it took.
fn seal(
    shared: &Shared,
    cell: &Arc<Cell>,
    task: &mut Task,
    epoch: Epoch,
    asked: Instant,
) -> Duration {
    let ends = shared.draining.load(Ordering::SeqCst) || cell.over.load(Ordering::Acquire);
    cell.control.end_batch.store(ends, Ordering::SeqCst);
    // A drain that began meanwhile has set it for good.
    if shared.draining.load(Ordering::SeqCst) {
        cell.control.end_batch.store(true, Ordering::SeqCst);
    }
    let changed = cell.changed.swap(false, Ordering::AcqRel);
    let began = Instant::now();
    let sealed = task.seal(|| began.elapsed());
    shared.gate.seal(&cell.share, changed);
    cell.note_sealed();
    tracing::trace!(task = %task.name(), %epoch, waited = ?asked.elapsed(), "sealed");
    shared.report(Notice::Sealed(cell.index, epoch, sealed.map(Box::new)));
    began.elapsed()
}

/// Reports what a step changed. Returns whether the guest asked to be stopped.
fn report(shared: &Shared, cell: &Arc<Cell>, task: &mut Task) -> bool {
    if !task.is_dirty() {
        return false;
    }
    let new = !cell.changed.swap(true, Ordering::AcqRel);
    // Before its bytes are counted: a barrier that is set because of them must know the task that has them.
    if new {
        shared.report(Notice::Changed(cell.index));
    }
    let half = shared.gate.report(&cell.share, task.open_bytes(), new);
    if half.0 {
        shared.report(Notice::Bytes);
    }
    if task.take_begins() {
        shared.report(Notice::Begun);
    }
    let requests = task.take_requests();
    let stops = requests.stop.is_some();
    if requests != Requests::default() {
        shared.report(Notice::Requested(cell.index, requests));
    }
    stops
}
