//! From a component's bytes to code: from the cache, or by Cranelift, one component at a time.
//!
//! Compiling uses all cores and, for a component with a language's whole runtime in it, hundreds of megabytes for seconds. So
//! processes of one user that share a cache take turns, and one that waited for the same component finds its code in the cache.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use super::Runtime;
use crate::model::shown::{self, SENTENCE_BYTES};

/// Compilations longer than this are logged.
const QUIET: Duration = Duration::from_secs(1);
/// How often their progress is logged.
const EVERY: Duration = Duration::from_secs(5);
/// The longest wait for other processes. Turns save work and memory; nothing is wrong without them.
const PATIENCE: Duration = Duration::from_secs(300);

/// The code of a component.
///
/// # Errors
/// It is not a component, or not a valid one.
pub(super) fn compile(
    runtime: &Runtime,
    path: &Path,
    bytes: &[u8],
    sha256: &str,
) -> Result<Component, String> {
    let cache = runtime.cache.as_ref();
    let cached = || cache.and_then(|cache| cache.load(&runtime.engine, sha256));
    if let Some(code) = cached() {
        return Ok(code);
    }
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err("it is a core module, not a component: build for wasm32-wasip2, or wrap it with `wasm-tools component new`".into());
    }
    if !bytes.starts_with(b"\0asm") {
        return Err("it is no WebAssembly: it does not begin with `\\0asm`".into());
    }
    let what = format!("{} ({:.1} MB)", path.display(), bytes.len() as f64 / 1e6);
    let waiting = Progress::start(format!(
        "waiting for another process to compile, before {what}"
    ));
    let turn = cache.and_then(|cache| cache.turn(PATIENCE));
    if let Some(code) = cached() {
        waiting.end("another process has compiled it");
        return Ok(code);
    }
    match turn {
        Some(_) => drop(waiting),
        None => waiting.end("it is compiled without waiting any longer"),
    }
    let compiling = Progress::start(format!(
        "compiling {what}; its code is kept for the next start"
    ));
    let code = Component::from_binary(&runtime.engine, bytes).map_err(|error| {
        shown::line(
            format_args!("{}{error:#}", why_not(&format!("{error:#}"), bytes)),
            SENTENCE_BYTES,
        )
    })?;
    if let Some(cache) = cache
        && let Ok(serialized) = code.serialize()
    {
        cache.store(&runtime.engine, sha256, &serialized);
    }
    compiling.end("compiled");
    Ok(code)
}

/// What the host has to say of an error of wasmtime, which names features by words of the specification and modules by offsets.
fn why_not(error: &str, component: &[u8]) -> String {
    const UNKNOWN: [(&str, &str); 4] = [
        (
            "gc types",
            "references to values of others (`externref`) or garbage collection",
        ),
        ("exceptions proposal", "exceptions"),
        (
            "threads must be enabled",
            "shared memory, which is for threads",
        ),
        ("shared-everything-threads", "threads"),
    ];
    let offset = || {
        let (_, rest) = error.split_once("(at offset 0x")?;
        usize::from_str_radix(rest.split(')').next()?, 16).ok()
    };
    match UNKNOWN.iter().find(|(says, _)| error.contains(says)) {
        None => "it does not compile: ".to_owned(),
        Some((_, what)) => {
            let module = offset().and_then(|offset| module_at(component, offset));
            let module = module.map_or_else(
                || "a core module of it".to_owned(),
                |module| format!("its core module {module}"),
            );
            format!("{module} uses {what}, which this host does not run: ")
        }
    }
}

/// Which core module of a component lies at an offset, counted from 0 in the order of the file, those of nested components
/// included.
fn module_at(component: &[u8], offset: usize) -> Option<usize> {
    const HEADER: usize = 8;
    const MODULE: u8 = 1;
    const COMPONENT: u8 = 4;
    let (mut at, mut modules) = (HEADER, 0);
    while at < offset {
        let section = *component.get(at)?;
        let (size, content) = leb128(component, at + 1)?;
        let end = content.checked_add(size)?;
        match section {
            MODULE if offset < end => return Some(modules),
            MODULE => modules += 1,
            // What is in it comes next.
            COMPONENT => {
                at = content.checked_add(HEADER)?;
                continue;
            }
            _ => {}
        }
        at = end;
    }
    None
}

/// An unsigned number, and where it ends.
fn leb128(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte < 0x80 {
            return Some((number, at));
        }
    }
}

/// Logs from time to time what takes so long, until it is dropped.
struct Progress {
    began: Instant,
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    fn start(what: String) -> Progress {
        let (done, wait) = channel();
        let began = Instant::now();
        let thread = thread::Builder::new().name("progress".into());
        let thread = thread.spawn(move || {
            let mut pause = QUIET;
            while wait.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                tracing::info!("{what}, {} s so far", began.elapsed().as_secs());
                pause = EVERY;
            }
        });
        Progress {
            began,
            done: Some(done),
            // If the thread cannot start, progress is not logged; nothing else depends on it.
            thread: thread.ok(),
        }
    }

    /// Logs how it ended, if its progress was logged.
    fn end(self, how: &str) {
        let took = self.began.elapsed();
        drop(self);
        if took >= QUIET {
            tracing::info!("{how}, after {:.1} s", took.as_secs_f64());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
