//! Room on the disk.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often free space is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Bytes that this user may still write on the file system of `path`.
///
/// # Errors
/// The file system does not report it.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether a file system has the room that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Enough,
    /// It has only this many bytes.
    Short(u64),
}

impl Room {
    /// Waits until the file system of `path` has `reserve` bytes free, or until `gave_up` returns true. `waits` is called once,
    /// with the free bytes, if there is something to wait for.
    ///
    /// # Errors
    /// The file system does not report it.
    pub fn wait(
        path: &Path,
        reserve: u64,
        waits: impl FnOnce(u64),
        mut gave_up: impl FnMut(Duration) -> bool,
    ) -> io::Result<Room> {
        let began = Instant::now();
        let mut waits = Some(waits);
        loop {
            let free = free_bytes(path)?;
            if free >= reserve {
                return Ok(Room::Enough);
            }
            if gave_up(began.elapsed()) {
                return Ok(Room::Short(free));
            }
            if let Some(waits) = waits.take() {
                waits(free);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}
