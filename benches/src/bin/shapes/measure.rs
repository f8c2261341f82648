//! Measures a language: each cell in turn, run after run, with what comes of it checked.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wasm_host_benches::{Result, thread_cpu};
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Store, ensure,
};

use crate::bindings::{Shapes, ShapesPre};
use crate::call::call;
use crate::given::{Feed, Given, Table};
use crate::host::{Host, link};
use crate::{Args, Cell, Language, SIZES, Shape, Work, name};

/// The settings of the host that bear on speed.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1);
    pool.total_core_instances(64);
    pool.total_memories(8);
    pool.total_tables(64);
    pool.max_core_instances_per_component(64);
    pool.max_memories_per_component(8);
    pool.max_tables_per_component(64);
    pool.max_component_instance_size(4 << 20);
    pool.max_core_instance_size(4 << 20);
    // All that there can be: Python's bindings leak what they pass to imports.
    pool.max_memory_size(4 << 30);
    pool.table_elements(100_000);
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(512 << 10);
    config.cranelift_opt_level(OptLevel::Speed);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.memory_init_cow(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// What was measured of a language. Times are in seconds.
pub(crate) struct Measured {
    pub(crate) language: Language,
    pub(crate) component_bytes: usize,
    pub(crate) compile: f64,
    pub(crate) load: f64,
    pub(crate) instantiate: f64,
    pub(crate) first_call: f64,
    pub(crate) cells: Vec<(Cell, Vec<Figures>)>,
}

/// One measurement of a cell.
pub(crate) struct Figures {
    /// Messages per CPU-second.
    pub(crate) rate: f64,
    /// The guest's linear memory in the end.
    pub(crate) memory_bytes: usize,
}

impl Measured {
    /// The median of the rates.
    pub(crate) fn rate(&self, shape: Shape, work: Work, size: usize) -> Option<f64> {
        let cell = Cell { shape, work, size };
        let (_, figures) = self.cells.iter().find(|(of, _)| *of == cell)?;
        Some(median(figures.iter().map(|figures| figures.rate)))
    }

    pub(crate) fn memory_bytes(&self, shape: Shape, work: Work, size: usize) -> Option<usize> {
        let cell = Cell { shape, work, size };
        let (_, figures) = self.cells.iter().find(|(of, _)| *of == cell)?;
        figures.iter().map(|figures| figures.memory_bytes).max()
    }
}

pub(crate) fn measure(
    engine: &Engine,
    given: &Given,
    args: &Args,
    language: Language,
) -> Result<Measured> {
    let path = args.components.join(format!("{}.wasm", name(language)));
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (compile, code) = timed(|| engine.precompile_component(&bytes))?;
    let (mut loads, mut instantiates, mut first_calls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        loads.push(timed(|| load(engine, &code))?.0);
    }

    let mut linker = Linker::new(engine);
    link(&mut linker)?;
    let guests = ShapesPre::new(linker.instantiate_pre(&load(engine, &code)?)?)?;
    let feeds = HashMap::from(SIZES.map(|size| (size, Feed::new(given, size))));
    let first = Cell {
        shape: Shape::One,
        work: Work::Touch,
        size: 1,
    };
    for _ in 0..21 {
        let table = given.table();
        let (instantiate, (mut store, guest)) = timed(|| instance(&guests, table))?;
        let (first_call, _) = timed(|| call(&guest, &mut store, first, &feeds[&first.size], 0))?;
        instantiates.push(instantiate);
        first_calls.push(first_call);
    }

    let mut cells: Vec<(Cell, Vec<Figures>)> = Cell::all().map(|cell| (cell, Vec::new())).collect();
    for run in 1..=args.runs {
        eprintln!("{}: run {run} of {}", name(language), args.runs);
        for (cell, figures) in &mut cells {
            let budget = Duration::from_millis(args.millis);
            let measured = run_cell(&guests, given, *cell, &feeds[&cell.size], budget);
            figures.push(measured.map_err(|error| format!("{cell:?}: {error:#}"))?);
        }
    }
    Ok(Measured {
        language,
        component_bytes: bytes.len(),
        compile,
        load: median(loads),
        instantiate: median(instantiates),
        first_call: median(first_calls),
        cells,
    })
}

fn timed<T>(f: impl FnOnce() -> wasmtime::Result<T>) -> wasmtime::Result<(f64, T)> {
    let began = Instant::now();
    let value = f()?;
    Ok((began.elapsed().as_secs_f64(), value))
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the code was compiled a moment ago, by this engine.
    #[expect(
        unsafe_code,
        reason = "loading compiled code is unsafe by its nature; see above"
    )]
    unsafe {
        Component::deserialize(engine, code)
    }
}

fn instance(
    guests: &ShapesPre<Host>,
    table: Box<Table>,
) -> wasmtime::Result<(Store<Host>, Shapes)> {
    let mut store = Store::new(guests.engine(), Host::new(table));
    store.limiter(|host| host);
    store.set_hostcall_fuel(64 << 20);
    store.set_epoch_deadline(u64::MAX / 2);
    let guest = guests.instantiate(&mut store)?;
    Ok((store, guest))
}

/// Measures a cell with an instance of its own, for so much CPU time and a tenth of it before, and checks what comes of it.
fn run_cell(
    guests: &ShapesPre<Host>,
    given: &Given,
    cell: Cell,
    feed: &Feed,
    budget: Duration,
) -> wasmtime::Result<Figures> {
    let (mut store, guest) = instance(guests, given.table())?;
    let mut calls = 0;
    // Between two looks at the clock, which cost as much as a call or two.
    let mut chunk = 1;
    let mut run = |chunk| {
        let began = thread_cpu();
        for _ in 0..chunk {
            let at = calls % feed.batches.len();
            let sum = call(&guest, &mut store, cell, feed, at)?;
            ensure!(
                cell.work != Work::Touch || sum == feed.sums[at],
                "`touch` returned {sum} instead of {}",
                feed.sums[at]
            );
            calls += 1;
        }
        wasmtime::Result::Ok(thread_cpu() - began)
    };
    let mut warmth = Duration::ZERO;
    while warmth < budget / 10 {
        let took = run(chunk)?;
        warmth += took;
        if took < budget / 100 {
            chunk *= 2;
        }
    }
    let (mut took, mut chunks) = (Duration::ZERO, 0);
    while took < budget {
        took += run(chunk)?;
        chunks += 1;
    }
    let table = store.data_mut().table.take();
    let counted = if cell.work == Work::Touch {
        0
    } else {
        calls * cell.size
    };
    ensure!(
        table == Some(given.expected(counted)?),
        "state or output is not that of the native counter"
    );
    #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
    let messages = (chunks * chunk * cell.size) as f64;
    Ok(Figures {
        rate: messages / took.as_secs_f64(),
        memory_bytes: store.data().memory_bytes,
    })
}
