//! Work that mostly waits for a disk, several at a time: the disk makes many syncs in the time of one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

/// The most threads at a time.
const MOST: usize = 16;

/// Does `work` for each item, which are begun in order. Returns what came of each, in their order too, or the error of the
/// first that failed: those that were not begun by then are not done.
pub(super) fn overlapped<T: Send, R: Send, E: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = items.len().min(MOST);
    let left = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    let failed = AtomicBool::new(false);
    let take_part = || {
        while !failed.load(Ordering::Acquire) {
            let next = left.lock().next();
            let Some((index, item)) = next else { break };
            let result = work(item);
            failed.fetch_or(result.is_err(), Ordering::AcqRel);
            done.lock().push((index, result));
        }
    };
    thread::scope(|scope| {
        let start = |_| {
            let thread = thread::Builder::new().name("overlap".to_owned());
            // Fewer take longer.
            thread.spawn_scoped(scope, take_part).ok()
        };
        let threads: Vec<_> = (1..threads).map_while(start).collect();
        take_part();
        // A handle that is dropped detaches its thread, which glibc does wrongly to one that is ending.
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_done_while_others_wait() {
        // The first waits for the second.
        let (tell, told) = channel();
        let (tell, told) = (Mutex::new(tell), Mutex::new(told));
        let numbers = overlapped((0..100).collect(), |number| {
            match number {
                0 => told.lock().recv_timeout(Duration::from_secs(60))?,
                1 => tell.lock().send(()).expect("it is waited for"),
                _ => {}
            }
            Ok::<_, std::sync::mpsc::RecvTimeoutError>(number * 2)
        });
        let expected = (0..100).map(|number| number * 2).collect();
        assert_eq!(numbers, Ok(expected));
        assert_eq!(overlapped(Vec::new(), Ok::<u8, u8>), Ok(Vec::new()));
    }

    #[test]
    fn the_first_error_ends_it() {
        let begun = Mutex::new(0);
        let result = overlapped((0..10_000).collect(), |number| {
            *begun.lock() += 1;
            match number {
                ..5 => Ok(number),
                _ => Err(number),
            }
        });
        assert_eq!(result, Err(5));
        let begun = begun.into_inner();
        assert!((6..=5 + MOST).contains(&begun), "{begun}");
    }
}
