//! The engine: settings that every component is compiled and run with, and the tick that ends calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::code_cache::CodeCache;
use super::compiler::Compiler;
use super::imports::Descriptors;
use super::limits::{Limits, STACK_BYTES};
use super::meter;

/// How often running calls are looked at. A call ends at most three ticks after its deadline, plus the longest single
/// operation that cannot be interrupted (a `memory.copy` of all of its memory).
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Instances that may live at a time.
    pub instances_max: u32,
    /// The largest memory limit of any stage.
    pub memory_bytes_max: usize,
    /// The largest limit of table elements of any stage.
    pub table_elements_max: usize,
    /// Whether any stage bounds the instructions of a call.
    pub has_fuel: bool,
    /// Files that all guests may have open together.
    pub descriptors_max: usize,
    /// Where compiled code is kept; `None`: it is not.
    pub cache: Option<CodeCache>,
    /// Where components are compiled.
    pub compiler: Compiler,
}

/// wasmtime, set up.
#[derive(Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) has_fuel: bool,
    memory_bytes_max: usize,
    table_elements_max: usize,
    pub(super) cache: Option<CodeCache>,
    pub(super) compiler: Compiler,
    pub(super) interrupted: tokio::sync::watch::Sender<bool>,
    /// What all guests have open together.
    pub(super) descriptors: Arc<Descriptors>,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// Sets the engine up and starts its ticker.
    ///
    /// # Errors
    /// wasmtime's reason.
    pub fn new(options: RuntimeOptions) -> Result<Runtime, String> {
        let mut config = config(options.has_fuel);
        config.allocation_strategy(pooling(&options));
        let engine = match Engine::new(&config) {
            Ok(engine) => engine,
            Err(error) => {
                // A process that may not reserve much address space (`ulimit -v`) goes on without the pool: instances take
                // longer to make.
                tracing::warn!("instances are not pooled: {error:#}");
                config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                Engine::new(&config).map_err(|error| format!("{error:#}"))?
            }
        };
        let ticker = Ticker::start(engine.clone());
        Ok(Runtime {
            engine,
            has_fuel: options.has_fuel,
            memory_bytes_max: options.memory_bytes_max,
            table_elements_max: options.table_elements_max,
            cache: options.cache,
            compiler: options.compiler,
            interrupted: tokio::sync::watch::channel(false).0,
            descriptors: Arc::new(Descriptors::new(options.descriptors_max)),
            ticker,
        })
    }

    /// Whether instances can have these limits. What all instances have room for is fixed when the process starts.
    ///
    /// # Errors
    /// Which of them is larger than what the process started with.
    pub fn fits(&self, limits: &Limits) -> Result<(), String> {
        let room = [
            ("memory", limits.memory_bytes, self.memory_bytes_max),
            (
                "table-elements",
                limits.table_elements,
                self.table_elements_max,
            ),
        ];
        if let Some((name, wanted, most)) = room.iter().find(|(_, wanted, most)| wanted > most) {
            return Err(format!(
                "`{name}` = {wanted} is more than the {most} that the largest stage had when the job started: that needs a restart of the job"
            ));
        }
        match limits.fuel.is_some() && !self.has_fuel {
            true => Err(
                "no stage had `fuel` when the job started: that needs a restart of the job"
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }

    /// Ends every call that runs, whether it computes or waits. For the end of a drain: calls that begin afterwards end at
    /// once as well when they wait.
    pub(super) fn interrupt(&self, deadline: Duration) {
        self.interrupted.send_replace(true);
        let ticks = deadline.as_nanos().div_ceil(TICK.as_nanos()) + 2;
        (0..ticks).for_each(|_| self.engine.increment_epoch());
    }

    /// A call is running for as long as the guard lives.
    pub(super) fn running(&self) -> Running<'_> {
        self.ticker.begin();
        Running(&self.ticker)
    }
}

/// Settings that decide what compiled code is.
pub(super) fn config(has_fuel: bool) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.consume_fuel(has_fuel);
    config.max_wasm_stack(STACK_BYTES);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
    // Lines of source are looked up by `backtrace`, when they are shown.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    // The same bits on every machine: what a guest computes becomes state.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.memory_init_cow(true);
    config
}

fn pooling(options: &RuntimeOptions) -> PoolingAllocationConfig {
    let instances = options.instances_max;
    // A component is a handful of core instances: the guest, its adapter, shims between them. A module may have several memories and
    // tables. So much may each instance have; what it does not use is addresses without memory.
    let (core_instances, memories, tables) = (64, 8, 64);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances);
    pool.total_core_instances(instances.saturating_mul(core_instances));
    pool.total_memories(instances.saturating_mul(memories));
    pool.total_tables(instances.saturating_mul(tables));
    pool.max_core_instances_per_component(core_instances);
    pool.max_memories_per_component(memories);
    pool.max_memories_per_module(memories);
    pool.max_tables_per_component(tables);
    pool.max_tables_per_module(tables);
    pool.max_component_instance_size(4 << 20);
    pool.max_core_instance_size(4 << 20);
    pool.max_memory_size(options.memory_bytes_max);
    pool.table_elements(options.table_elements_max);
    pool
}

/// A thread that advances the engine's epoch while any call runs, and sleeps while none does.
struct Ticker {
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: parking_lot::Mutex<Option<JoinHandle<()>>>,
    handle: std::sync::OnceLock<thread::Thread>,
    stop: AtomicBool,
}

pub(super) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Ticker {
    fn start(engine: Engine) -> Arc<Ticker> {
        let ticker = Arc::new(Ticker {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: parking_lot::Mutex::new(None),
            handle: std::sync::OnceLock::new(),
            stop: AtomicBool::new(false),
        });
        // The thread holds no count of its own, so that dropping the last `Runtime` stops it.
        let weak = Arc::downgrade(&ticker);
        let thread = thread::Builder::new().name("ticker".into()).spawn(move || {
            while let Some(ticker) = weak.upgrade() {
                if ticker.stop.load(Ordering::Acquire) {
                    return;
                }
                if ticker.running.load(Ordering::SeqCst) == 0 {
                    ticker.asleep.store(true, Ordering::SeqCst);
                    if ticker.running.load(Ordering::SeqCst) == 0 {
                        drop(ticker);
                        // Wakes by itself now and then, to notice that the runtime is gone.
                        thread::park_timeout(Duration::from_secs(3600));
                        continue;
                    }
                    ticker.asleep.store(false, Ordering::SeqCst);
                }
                drop(ticker);
                let began = Instant::now();
                thread::sleep(TICK);
                engine.increment_epoch();
                meter::tick(began.elapsed());
            }
        });
        match thread {
            Ok(thread) => {
                let _ = ticker.handle.set(thread.thread().clone());
                *ticker.thread.lock() = Some(thread);
            }
            Err(error) => panic!("a thread cannot be started: {error}"),
        }
        ticker
    }

    fn begin(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.handle.get()
        {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.handle.get() {
            thread.unpark();
        }
    }
}
