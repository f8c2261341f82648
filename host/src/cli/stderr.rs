//! Standard error: whoever does not read it, or goes away, neither holds up nor ends a job.
//!
//! While a job runs, everything goes through a bounded queue to a thread of its own; what does not fit is dropped and counted.
//! Other commands have nothing to hold up and write by themselves. That it cannot be written is told nobody: this is where
//! errors are told.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::model::shown::{self, UNCUT};

/// What may wait to be written.
const QUEUED_BYTES: usize = 1 << 20;
/// At the end of the process what waits is waited for, but not longer.
const FLUSH: Duration = Duration::from_secs(1);
/// Nobody holds the lock for longer than it takes to move a pointer, unless something is very wrong.
const LOCK: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// From now on only a thread of its own waits for standard error.
pub(super) fn start_queue() {
    let queue = Arc::new(Queue::default());
    let own = Arc::clone(&queue);
    let thread = std::thread::Builder::new().name("stderr".into());
    // Without a thread everybody goes on to write by themselves.
    if thread.spawn(move || own.run()).is_ok() {
        let _ = QUEUE.set(queue);
    }
}

/// Says a line, or several.
pub(super) fn say(text: impl Display) {
    write(format!("{}\n", shown::lines(text, UNCUT)).into_bytes());
}

/// Writes bytes that are fit for a terminal, sooner or later.
pub(super) fn write(bytes: Vec<u8>) {
    match QUEUE.get() {
        Some(queue) => queue.push(bytes),
        None => write_all(&bytes),
    }
}

/// Waits until all is written that was to be, or for a second.
pub(super) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Pieces that found no room.
    dropped: u64,
    /// A piece has been taken and is being written.
    writing: bool,
}

impl Queue {
    fn push(&self, piece: Vec<u8>) {
        let Some(mut waiting) = self.waiting.try_lock_for(LOCK) else {
            return;
        };
        if waiting.bytes + piece.len() > QUEUED_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += piece.len();
        waiting.pieces.push_back(piece);
        self.changed.notify_all();
    }

    fn run(&self) {
        loop {
            let piece = self.next();
            write_all(&piece);
            let dropped = self.written(piece.len());
            if dropped > 0 {
                tracing::warn!("{dropped} lines were dropped: standard error was not read");
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(piece) = waiting.pieces.pop_front() {
                waiting.writing = true;
                return piece;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Gives room back, and says how many pieces would have needed it.
    fn written(&self, bytes: usize) -> u64 {
        let mut waiting = self.waiting.lock();
        waiting.writing = false;
        waiting.bytes -= bytes;
        self.changed.notify_all();
        std::mem::take(&mut waiting.dropped)
    }

    fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let Some(mut waiting) = self.waiting.try_lock_for(patience) else {
            return;
        };
        while waiting.writing || !waiting.pieces.is_empty() {
            if self.changed.wait_until(&mut waiting, until).timed_out() {
                return;
            }
        }
    }
}

/// Past the lock of the standard library, which may be held by somebody who waits.
fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(io::stderr(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Whoever shares the terminal or pipe may have made it so.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let queue = Queue::default();
        let piece = vec![b'x'; QUEUED_BYTES / 2];
        (0..3).for_each(|_| queue.push(piece.clone()));
        queue.push(Vec::new());
        assert_eq!(queue.next().len(), piece.len());
        assert_eq!(queue.written(piece.len()), 1);
        assert_eq!(queue.written(0), 0, "it is said once");
        queue.push(piece.clone());
        assert_eq!(queue.waiting.lock().pieces.len(), 3);
    }

    #[test]
    fn a_flush_ends_when_all_is_written_or_its_time_is_over() {
        let queue = Queue::default();
        queue.flush(Duration::from_secs(3600));
        queue.push(b"piece".to_vec());
        queue.flush(Duration::ZERO);
        let bytes = queue.next().len();
        queue.flush(Duration::ZERO);
        queue.written(bytes);
        queue.flush(Duration::from_secs(3600));
    }
}
