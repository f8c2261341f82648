//! How a process ended, as far as it could tell.
//!
//! A handler of fatal signals writes a word into the file of crumbs and leaves the rest to who handled the signal before. A signal that
//! another process sent is none of them. The kernel's OOM killer leaves no time for a word; the count of its kills has risen then.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// The words at the place of the end in the header. None: it did not tell.
pub(super) const IN_ORDER: u32 = 1;
pub(super) const ABORT: u32 = 2;
const SIGNAL: u32 = 3;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// In good order.
    InOrder,
    /// It was killed, or the machine stopped: nobody in it is to blame.
    FromOutside,
    /// It aborted, got a fatal signal, or took too much memory.
    ByItself,
}

/// How the process ended that left this.
pub(super) fn of(former: &[u8]) -> Death {
    let ended = former.get(8..12).and_then(|word| word.try_into().ok());
    match ended.map_or(0, u32::from_le_bytes) {
        IN_ORDER => Death::InOrder,
        ABORT | SIGNAL => Death::ByItself,
        _ => {
            let kills = former.get(16..24).and_then(|word| word.try_into().ok());
            let kills = kills.map_or(u64::MAX, u64::from_le_bytes);
            let same_boot = former.get(24..60) == Some(&boot_id());
            match same_boot && oom_kills() > kills {
                true => Death::ByItself,
                false => Death::FromOutside,
            }
        }
    }
}

/// The identity of the machine's run.
pub(super) fn boot_id() -> [u8; 36] {
    let mut id = [0; 36];
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let length = text.len().min(id.len());
    id[..length].copy_from_slice(&text[..length]);
    id
}

/// How many processes the kernel has killed because memory was short: of this control group, or where there is none of the machine.
pub(super) fn oom_kills() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let count = |text: String| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?;
        line.trim().parse().ok()
    };
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.and_then(|group| read(&format!("/sys/fs/cgroup{group}/memory.events")));
    own.and_then(count)
        .or_else(|| read("/proc/vmstat").and_then(count))
        .unwrap_or(0)
}

/// The signals that end a process because of what it did.
const FATAL: [libc::c_int; 5] = [
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
];

/// Where the word is written; -1: nowhere.
static FILE: AtomicI32 = AtomicI32::new(-1);

/// Who handled the signals before.
static BEFORE: OnceLock<Vec<(libc::c_int, libc::sigaction)>> = OnceLock::new();

/// From now on the word is written into this file, which stays open.
pub(super) fn note_in(file: &File) -> io::Result<()> {
    let own: RawFd = file.try_clone()?.into_raw_fd();
    FILE.store(own, Ordering::SeqCst);
    Ok(())
}

/// Handles fatal signals. To be called before wasmtime is set up, which handles some of them first: those of guests are its own.
#[expect(
    unsafe_code,
    reason = "there is no safe way to handle a fatal signal; the handler calls nothing but what POSIX allows in one"
)]
pub fn watch() {
    let mut before = Vec::new();
    for signal in FATAL {
        // SAFETY: the structures are valid, all zero is a valid `sigaction`, and the handler is safe to be called in a signal.
        unsafe {
            let mut former = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, std::ptr::null(), former.as_mut_ptr()) != 0 {
                continue;
            }
            before.push((signal, former.assume_init()));
        }
    }
    if BEFORE.set(before).is_err() {
        return;
    }
    for signal in FATAL {
        // SAFETY: as above.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Writes the word, if nobody else sent the signal, and lets who was there before handle it, when the instruction is tried again.
#[expect(unsafe_code, reason = "a signal handler")]
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over a valid `siginfo_t`; `pwrite`, `sigaction` and `getpid` may be called in a handler.
    unsafe {
        let code = (*info).si_code;
        let own = code > 0 || (*info).si_pid() == libc::getpid();
        let file = FILE.load(Ordering::SeqCst);
        if own && file >= 0 {
            let word: u32 = match signal {
                libc::SIGABRT => ABORT,
                _ => SIGNAL,
            };
            let bytes = word.to_le_bytes();
            libc::pwrite(file, bytes.as_ptr().cast(), bytes.len(), 8);
        }
        if code <= 0 {
            // One that was sent is not raised again by an instruction.
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
        }
        let before = BEFORE.get().into_iter().flatten();
        for (known, action) in before {
            if *known == signal {
                libc::sigaction(signal, action, std::ptr::null_mut());
            }
        }
    }
}
