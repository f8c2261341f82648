//! From a component's bytes to code: from the cache, or by Cranelift, one component at a time.
//!
//! Compiling uses all cores and, for a component with a language's whole runtime in it, hundreds of megabytes for seconds. So
//! processes of one user that share a cache take turns, and whoever waited finds the code in the cache.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use super::Runtime;

/// A compilation that takes longer is talked about.
const QUIET: Duration = Duration::from_secs(1);
/// How often then.
const EVERY: Duration = Duration::from_secs(5);

/// The code of a component.
///
/// # Errors
/// It is no component, or not a valid one.
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
    let progress = Progress::start(path, bytes.len());
    let _turn = cache.and_then(|cache| cache.turn());
    if let Some(code) = cached() {
        return Ok(code);
    }
    let code = Component::from_binary(&runtime.engine, bytes)
        .map_err(|error| format!("it does not compile: {error:#}"))?;
    if let Some(cache) = cache
        && let Ok(serialized) = code.serialize()
    {
        cache.store(&runtime.engine, sha256, &serialized);
    }
    drop(progress);
    Ok(code)
}

/// Says now and then that something is being compiled, until it is dropped.
struct Progress {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    fn start(path: &Path, bytes: usize) -> Progress {
        let (done, wait) = channel();
        let path = path.to_owned();
        let began = Instant::now();
        let thread = thread::Builder::new().name("progress".into());
        let thread = thread.spawn(move || {
            let mut pause = QUIET;
            while wait.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                tracing::info!(
                    "compiling {} ({:.1} MB), {} s so far; its code is kept for the next start",
                    path.display(),
                    bytes as f64 / 1e6,
                    began.elapsed().as_secs()
                );
                pause = EVERY;
            }
            if began.elapsed() >= QUIET {
                tracing::info!("compiled in {:.1} s", began.elapsed().as_secs_f64());
            }
        });
        Progress {
            done: Some(done),
            // Without a thread nothing is said, and nothing else is amiss.
            thread: thread.ok(),
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
