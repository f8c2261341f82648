//! Compiling a component: in a process of its own, which is niced, and bounded in memory and time, so that a component that is made to
//! be hard to compile costs its own start and nobody else anything.
//!
//! The process is this program again, with the component on its standard input and code on its standard output.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use wasmtime::Engine;

use super::engine::config;
use super::limits::CompileLimits;
use crate::model::shown::{self, SENTENCE_BYTES};

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In this process, for tests and benchmarks.
    Here,
    /// In a process of this program, which calls [`compile_in_child`] if it is given these arguments and [`ChildArgs`].
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

/// What the process that compiles is told.
#[derive(Debug, Clone, Copy)]
pub struct ChildArgs {
    /// It may use so many bytes of memory.
    pub memory_bytes: u64,
    /// It may compute for so many seconds, on all processors together.
    pub cpu_seconds: u64,
    /// Whether instructions are to be counted.
    pub has_fuel: bool,
}

impl ChildArgs {
    fn arguments(self) -> [String; 3] {
        let ChildArgs {
            memory_bytes,
            cpu_seconds,
            has_fuel,
        } = self;
        [
            format!("--memory-bytes={memory_bytes}"),
            format!("--cpu-seconds={cpu_seconds}"),
            format!("--has-fuel={has_fuel}"),
        ]
    }
}

/// Threads that compile at most.
const THREADS: usize = 8;
/// What of the process's standard error is looked at.
const STDERR_BYTES: u64 = 64 << 10;
/// With this code it says on its standard error what is wrong with the component.
const REFUSED: i32 = 2;

/// Why there is no code.
pub(super) enum NotCompiled {
    /// The component is not valid, or uses what this host does not run: wasmtime's words.
    Refused(String),
    /// It takes more than it may.
    Exceeds(String),
    /// The process failed, whatever the component is.
    Failed(String),
}

/// The code of a component for engines of this kind.
pub(super) fn compile(
    compiler: &Compiler,
    engine: &Engine,
    component: &[u8],
    has_fuel: bool,
    limits: CompileLimits,
) -> Result<Vec<u8>, NotCompiled> {
    let (program, arguments) = match compiler {
        Compiler::Here => {
            let code = engine.precompile_component(component);
            return code.map_err(|error| NotCompiled::Refused(format!("{error:#}")));
        }
        Compiler::Child { program, arguments } => (program, arguments),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(THREADS);
    let given = ChildArgs {
        memory_bytes: limits.memory_bytes,
        cpu_seconds: limits.time.as_secs().max(1) * threads as u64,
        has_fuel,
    };
    let spawned = Command::new(program)
        .args(arguments)
        .args(given.arguments())
        // What the host is told by its environment is none of its business.
        .env_clear()
        .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
        .env("RAYON_NUM_THREADS", threads.to_string())
        // Each arena of the allocator takes addresses, which are what is bounded.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal from the terminal is for the job, which decides what becomes of it.
        .process_group(0)
        .spawn();
    match spawned {
        Ok(child) => outcome(child, component, limits),
        Err(error) => Err(NotCompiled::Failed(format!(
            "start the process that compiles it ({}): {error}",
            program.display()
        ))),
    }
}

/// What came of it.
fn outcome(
    mut child: Child,
    component: &[u8],
    limits: CompileLimits,
) -> Result<Vec<u8>, NotCompiled> {
    let (code, stderr, status) = thread::scope(|threads| {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // If it does not read all of it, it says why.
        let writing = threads.spawn(move || stdin.map(|mut stdin| stdin.write_all(component)));
        let (done, ended) = channel();
        let reading = threads.spawn(move || {
            let code = read(stdout, u64::MAX);
            let _ = done.send(());
            code
        });
        let saying = threads.spawn(move || read(stderr, STDERR_BYTES));
        let status = wait(&mut child, &ended, limits.time);
        let _ = writing.join();
        (
            reading.join().unwrap_or_default(),
            saying.join().unwrap_or_default(),
            status,
        )
    });
    let said = String::from_utf8_lossy(&stderr);
    match status {
        Ok(Some(status)) if status.success() => Ok(code),
        Ok(Some(status)) => Err(why(status, &said, limits)),
        Ok(None) => Err(too_long(limits)),
        Err(error) => {
            let why = format!("wait for the process that compiles it: {error}");
            Err(NotCompiled::Failed(why))
        }
    }
}

/// Waits until it has said all, and ends it if that takes longer than it may.
fn wait(child: &mut Child, ended: &Receiver<()>, time: Duration) -> io::Result<Option<ExitStatus>> {
    /// Between two looks at it. A process that stood still meanwhile has used no more of its time than that.
    const LOOK: Duration = Duration::from_secs(1);
    let mut left = time;
    while ended.recv_timeout(left.min(LOOK)).is_err() {
        left = left.saturating_sub(LOOK);
        if left.is_zero() {
            // It may have ended just now.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
    }
    child.wait().map(Some)
}

fn read(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read until it failed is all there is.
        let _ = from.take(most).read_to_end(&mut bytes);
    }
    bytes
}

fn too_long(limits: CompileLimits) -> NotCompiled {
    let time = limits.time.as_secs_f64();
    NotCompiled::Exceeds(format!(
        "compiling it takes longer than `compile-time` = {time} s"
    ))
}

/// Why the process ended as it did.
fn why(status: ExitStatus, said: &str, limits: CompileLimits) -> NotCompiled {
    let out_of_memory = said.contains("memory allocation of") || said.contains("ut of memory");
    let signal = status.signal();
    if status.code() == Some(REFUSED) {
        NotCompiled::Refused(said.trim().to_owned())
    } else if out_of_memory {
        let most = limits.memory_bytes;
        NotCompiled::Exceeds(format!(
            "compiling it takes more than `compile-memory` = {most} bytes"
        ))
    } else if signal == Some(Signal::XCPU.as_raw()) {
        too_long(limits)
    } else {
        let said = shown::line(said.trim(), SENTENCE_BYTES / 2);
        NotCompiled::Failed(format!(
            "the process that compiles it ended with {status}: {said}"
        ))
    }
}

/// Compiles the component on standard input, in the process that was started for it. With an error it has written what is wrong to
/// standard error, and the process is to end with the code that is given back.
pub fn compile_in_child(arguments: ChildArgs) -> Result<(), u8> {
    let refuse = |what: String| {
        let _ = io::stderr().write_all(what.as_bytes());
        Err(u8::try_from(REFUSED).unwrap_or(1))
    };
    bound(arguments);
    let mut component = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut component) {
        return refuse(format!("read the component: {error}"));
    }
    let code = Engine::new(&config(arguments.has_fuel))
        .and_then(|engine| engine.precompile_component(&component));
    match code {
        Ok(code) => match io::stdout().write_all(&code) {
            Ok(()) => Ok(()),
            Err(error) => refuse(format!("write the code: {error}")),
        },
        Err(error) => refuse(shown::line(format_args!("{error:#}"), SENTENCE_BYTES)),
    }
}

/// Bounds this process. What the system refuses to bound stays as it is.
fn bound(arguments: ChildArgs) {
    /// Later than everything that works for its living.
    const NICE: i32 = 10;
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::nice(NICE);
    // At the second one the system kills, at the first it only says so.
    let most = |number: u64| Rlimit {
        current: Some(number),
        maximum: Some(number.saturating_add(1)),
    };
    let _ = setrlimit(Resource::As, most(arguments.memory_bytes));
    let _ = setrlimit(Resource::Cpu, most(arguments.cpu_seconds));
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, no_core);
}
