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
use super::compiler::{self, NotCompiled};
use super::component::ComponentError;
use super::limits::CompileLimits;
use super::sections;

/// Components may be nested so deep. A tool that composes some nests three.
const NESTING: usize = 32;
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
    limits: CompileLimits,
) -> Result<Component, ComponentError> {
    let unfit = |why: &str| Err(ComponentError::unfit(path, why));
    let cache = runtime.cache.as_ref();
    let cached = || cache.and_then(|cache| cache.load(&runtime.engine, sha256));
    if let Some(code) = cached() {
        return Ok(code);
    }
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return unfit(
            "it is a core module, not a component: build for wasm32-wasip2, or wrap it with `wasm-tools component new`",
        );
    }
    if !bytes.starts_with(b"\0asm") {
        return unfit("it is no WebAssembly: it does not begin with `\\0asm`");
    }
    let depth = sections::depth(bytes);
    if depth > NESTING {
        return unfit(&format!(
            "its components are nested {depth} deep, and this host takes {NESTING}"
        ));
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
    let Runtime {
        engine, compiler, ..
    } = runtime;
    let code = compiler::compile(compiler, engine, bytes, runtime.has_fuel, limits);
    let code = code.map_err(|error| match error {
        NotCompiled::Failed(why) => ComponentError::Host {
            path: path.to_owned(),
            why,
        },
        NotCompiled::Exceeds(why) => ComponentError::unfit(path, why),
        NotCompiled::Refused(why) => {
            ComponentError::unfit(path, format_args!("{}{why}", why_not(&why, bytes)))
        }
    })?;
    if let Some(cache) = cache {
        cache.store(engine, sha256, &code);
    }
    compiling.end("compiled");
    // SAFETY: the bytes are what wasmtime made of the component, in this process or in one of this program that was given nothing else.
    #[expect(
        unsafe_code,
        reason = "loading compiled code is unsafe by its nature; see above"
    )]
    let loaded = unsafe { Component::deserialize(engine, &code) };
    loaded.map_err(|error| ComponentError::unfit(path, not_loaded(&format!("{error:#}"))))
}

/// Why code cannot be loaded. wasmtime's sentence names none of our limits.
fn not_loaded(error: &str) -> String {
    let why = if error.contains("minimum byte size") {
        "it begins with more memory than `memory` allows"
    } else if error.contains("minimum element size") {
        "it begins with a larger table than `table-elements` allows"
    } else {
        "the compiled code cannot be loaded"
    };
    format!("{why}: {error}")
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
            let module = offset().and_then(|offset| sections::module_at(component, offset));
            let module = module.map_or_else(
                || "a core module of it".to_owned(),
                |module| format!("its core module {module}"),
            );
            format!("{module} uses {what}, which this host does not run: ")
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
