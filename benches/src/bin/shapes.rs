//! What do rows, columns and packed columns cost, and state one entry at a time against many, in each language? One counter,
//! written in five languages (`shapes/`) for every shape, with the engine's settings of the host and a hash table as state.
//!
//! `shapes/build FOLDER` makes the components.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use foldhash::fast::RandomState;
use serde_json::{Value, json};
use wasm_host::connectors::generate::{
    Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT,
};
use wasm_host::connectors::{FetchBounds, Input as _, OpenAt, Polled};
use wasm_host::model::{Batch, Column, PartitionId, StartAt};
use wasm_host_benches::{Result, thread_cpu};
use wasmtime::component::{Component, ComponentType, Lift, Linker, Lower, WasmList, WasmStr};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, ResourceLimiter,
    Store, StoreContextMut, bail, ensure,
};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "made by wasmtime, and documented in shapes/wit/"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "shapes/wit",
        world: "shapes",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

use bindings::wasm_host_benches::shapes::types;
use bindings::{Shapes, ShapesPre};

/// Messages that are given over and over again.
const MESSAGES: usize = 20_000;
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 100;
/// Messages a call.
const SIZES: [usize; 3] = [1, 100, 500];

#[derive(Parser)]
struct Args {
    /// The folder with the components, each named after its language
    components: PathBuf,
    /// Only this language
    #[arg(long, value_enum)]
    language: Vec<Language>,
    /// Times that everything is measured; the median is shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// CPU time of each measurement, in milliseconds
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// JSON in the place of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    C,
    Go,
    Python,
    Javascript,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    One,
    Rows,
    Columns,
    Packed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Touch,
    CountSingle,
    CountMany,
}

/// What is measured: a shape, some work, and how many messages a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    shape: Shape,
    work: Work,
    size: usize,
}

impl Cell {
    /// What is compared comes close together.
    fn all() -> impl Iterator<Item = Cell> {
        let cells = Work::value_variants().iter().flat_map(|&work| {
            SIZES.iter().flat_map(move |&size| {
                let shapes = Shape::value_variants().iter();
                shapes.map(move |&shape| Cell { shape, work, size })
            })
        });
        cells.filter(|cell| {
            cell.shape != Shape::One || (cell.work != Work::CountMany && cell.size == 1)
        })
    }
}

fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn main() -> Result<()> {
    let args = Args::parse();
    let languages = match &args.language[..] {
        [] => Language::value_variants(),
        some => some,
    };
    let engine = engine()?;
    let given = Given::new()?;
    let measured = languages
        .iter()
        .map(|&language| measure(&engine, &given, &args, language))
        .collect::<Result<Vec<_>>>()?;
    if args.json {
        println!("{}", json(&measured));
    } else {
        measured
            .iter()
            .for_each(|measured| println!("{}", table(measured)));
        println!("{}", ratios(&measured));
    }
    Ok(())
}

/// The settings of the host that bear on speed.
fn engine() -> wasmtime::Result<Engine> {
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

// What is given, and what must come of it.

/// A state is three numbers of 8 bytes: how many messages, the sum of their first bytes, and the greatest of them.
type States = HashMap<Vec<u8>, [u8; 24], RandomState>;

/// The messages, and the state before the first of them.
struct Given {
    messages: Batch,
    states: States,
}

impl Given {
    fn new() -> Result<Given> {
        let input = GenerateInput::new(GenerateOptions {
            count: Some(MESSAGES as u64),
            rate: None,
            keys: KEYS,
            distribution: Distribution::Zipfian,
            value_bytes: VALUE_BYTES,
            seed: 7,
            partitions: 1,
            start_ms: START_MS_DEFAULT,
        })?;
        let mut source = input.open(PartitionId(0), OpenAt::Start(StartAt::Oldest))?;
        let bounds = FetchBounds {
            messages: MESSAGES,
            bytes: usize::MAX,
        };
        let mut messages = Batch::default();
        while messages.len() < MESSAGES {
            let Polled::Messages(fetched) = source.poll(bounds)? else {
                return Err("the generator ends early".into());
            };
            let range = 0..fetched.messages.len();
            messages.offsets.extend(fetched.offsets);
            messages.messages.extend_from(&fetched.messages, range);
        }
        // A tenth of the keys begin without a state.
        let mut states = States::default();
        for index in 0..messages.len() {
            let key = messages.messages.key(index).unwrap_or_default();
            if !key.ends_with(b"0") {
                let state = [index as u64, 7, 3].map(u64::to_le_bytes);
                states.insert(key.to_vec(), state.as_flattened().try_into()?);
            }
        }
        Ok(Given { messages, states })
    }

    fn table(&self) -> Box<Table> {
        Box::new(Table {
            states: self.states.clone(),
            sent: 0,
            digest: 0,
        })
    }

    /// What so many messages lead to.
    fn expected(&self, messages: usize) -> wasmtime::Result<Box<Table>> {
        let mut table = self.table();
        for index in 0..messages {
            let message = self.messages.messages.get(index % MESSAGES);
            let key = message.key.unwrap_or_default();
            let first = message.value.unwrap_or_default().first();
            let first = first.copied().map_or(0, u64::from);
            let mut numbers = [0; 3];
            if let Some(state) = table.states.get(key) {
                for (number, bytes) in numbers.iter_mut().zip(state.as_chunks().0) {
                    *number = u64::from_le_bytes(*bytes);
                }
            }
            let [count, sum, max] = numbers;
            let state = [count + 1, sum + first, max.max(first)].map(u64::to_le_bytes);
            table.put(key, state.as_flattened())?;
            table.send(key, &[key, state.as_flattened()].concat())?;
        }
        Ok(table)
    }
}

/// State and output of a task.
#[derive(PartialEq)]
struct Table {
    states: States,
    /// How many messages were sent.
    sent: usize,
    /// Of all of them, in their order.
    digest: u64,
}

impl Table {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.states.get(key).map(|state| &state[..])
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> wasmtime::Result<()> {
        let value = value.try_into()?;
        match self.states.get_mut(key) {
            Some(state) => *state = value,
            None => drop(self.states.insert(key.to_vec(), value)),
        }
        Ok(())
    }

    fn send(&mut self, key: &[u8], value: &[u8]) -> wasmtime::Result<()> {
        ensure!(
            value.len() == key.len() + 24 && value.starts_with(key),
            "what is sent is no key and state"
        );
        self.sent += 1;
        for word in value.as_chunks().0 {
            let mixed = self.digest.rotate_left(5) ^ u64::from_le_bytes(*word);
            self.digest = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        Ok(())
    }
}

/// The messages in batches of one size, and what `touch` returns for each.
struct Feed {
    batches: Vec<Batch>,
    packed: Vec<Packed>,
    sums: Vec<u64>,
}

/// The numbers of a batch as bytes.
struct Packed {
    offsets: Vec<u8>,
    timestamps: Vec<u8>,
    key_ends: Vec<u8>,
    value_ends: Vec<u8>,
}

impl Feed {
    fn new(given: &Given, size: usize) -> Feed {
        let starts = (0..MESSAGES).step_by(size);
        let batches: Vec<Batch> = starts
            .map(|start| given.messages.slice(start..start + size))
            .collect();
        Feed {
            packed: batches.iter().map(Packed::new).collect(),
            sums: batches.iter().map(sum).collect(),
            batches,
        }
    }
}

impl Packed {
    fn new(batch: &Batch) -> Packed {
        let messages = &batch.messages;
        let ends = |column: &Column| {
            let ends = column.parts().0.iter();
            ends.flat_map(|end| end.to_le_bytes()).collect()
        };
        let timestamps = messages.timestamps.iter();
        Packed {
            offsets: batch
                .offsets
                .iter()
                .flat_map(|offset| offset.to_le_bytes())
                .collect(),
            timestamps: timestamps
                .flat_map(|timestamp| timestamp.to_le_bytes())
                .collect(),
            key_ends: messages.keys.as_ref().map(ends).unwrap_or_default(),
            value_ends: ends(&messages.values),
        }
    }
}

fn sum(batch: &Batch) -> u64 {
    let messages = (0..batch.len()).map(|index| {
        let message = batch.messages.get(index);
        let first = message.value.and_then(<[u8]>::first);
        (message.key.unwrap_or_default().len() as u64)
            .wrapping_add(first.copied().map_or(0, u64::from))
            .wrapping_add(batch.offsets[index])
            .wrapping_add_signed(message.timestamp)
    });
    messages.fold(0, u64::wrapping_add)
}

// The host's side of a call.

/// What an instance's store holds.
struct Host {
    /// It is taken out while a host function reads the guest's memory, which is in the store too.
    table: Option<Box<Table>>,
    memory_bytes: usize,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl Host {
    fn new(table: Box<Table>) -> Host {
        Host {
            table: Some(table),
            memory_bytes: 0,
            wasi: WasiCtxBuilder::new().inherit_stderr().build(),
            resources: ResourceTable::new(),
        }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// It limits nothing: it counts.
impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory_bytes += desired - current;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct Header {
    name: WasmStr,
    value: Option<WasmList<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct Outgoing {
    key: Option<WasmList<u8>>,
    value: Option<WasmList<u8>>,
    headers: Vec<Header>,
    timestamp: Option<i64>,
    partition: Option<u32>,
}

/// A column in the guest's memory; of packed ones the numbers are bytes.
#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestColumn<N> {
    ends: WasmList<N>,
    data: WasmList<u8>,
    absent: WasmList<N>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestHeaders<N> {
    ends: WasmList<N>,
    names: GuestColumn<N>,
    values: GuestColumn<N>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted because the host does, and of no use here")]
struct GuestMessages<N, T> {
    keys: Option<GuestColumn<N>>,
    values: GuestColumn<N>,
    timestamps: WasmList<T>,
    headers: Option<GuestHeaders<N>>,
}

/// A column on its way to the guest.
#[derive(ComponentType, Lower)]
#[component(record)]
struct HostColumn<N> {
    ends: Vec<N>,
    data: Vec<u8>,
    absent: Vec<N>,
}

type Call<'a> = StoreContextMut<'a, Host>;

/// What the numbers of a column are made of.
trait Number: Lift {
    /// How many make a number.
    const EACH: usize;
    fn read<'a>(list: &WasmList<Self>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a;
    fn list(numbers: Vec<u32>) -> Vec<Self>;
}

impl Number for u32 {
    const EACH: usize = 1;

    fn read<'a>(list: &WasmList<u32>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a {
        list.as_le_slice(memory).iter().copied()
    }

    fn list(numbers: Vec<u32>) -> Vec<u32> {
        numbers
    }
}

impl Number for u8 {
    const EACH: usize = 4;

    fn read<'a>(list: &WasmList<u8>, memory: &'a Call<'_>) -> impl Iterator<Item = u32> + 'a {
        let numbers = list.as_le_slice(memory).as_chunks().0.iter();
        numbers.map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn list(numbers: Vec<u32>) -> Vec<u8> {
        let mut list = vec![0; numbers.len() * 4];
        for (bytes, number) in list.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        list
    }
}

impl<N: Number> GuestColumn<N> {
    fn entries<'a>(
        &self,
        memory: &'a Call<'_>,
    ) -> impl Iterator<Item = wasmtime::Result<&'a [u8]>> + 'a {
        let data = self.data.as_le_slice(memory);
        let mut start = 0;
        N::read(&self.ends, memory).map(move |end| {
            let end = end as usize;
            let Some(entry) = data.get(start..end) else {
                bail!("an entry from {start} to {end} of {} bytes", data.len());
            };
            start = end;
            Ok(entry)
        })
    }
}

fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    let mut store = linker.instance("wasm-host-benches:shapes/store")?;
    store.func_wrap("get", get)?;
    store.func_wrap("put", put)?;
    store.func_wrap("send", send)?;
    store.func_wrap("get-many", get_many::<u32>)?;
    store.func_wrap("put-many", put_many::<u32>)?;
    store.func_wrap("send-many", send_many::<u32, i64>)?;
    store.func_wrap("get-many-packed", get_many::<u8>)?;
    store.func_wrap("put-many-packed", put_many::<u8>)?;
    store.func_wrap("send-many-packed", send_many::<u8, u8>)
}

fn with_table<R>(
    mut call: Call<'_>,
    f: impl FnOnce(&mut Table, &Call<'_>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    let Some(mut table) = call.data_mut().table.take() else {
        bail!("a host function called a host function");
    };
    let result = f(&mut table, &call);
    call.data_mut().table = Some(table);
    result
}

fn get(call: Call<'_>, (key,): (WasmList<u8>,)) -> wasmtime::Result<(Option<Vec<u8>>,)> {
    with_table(call, |table, memory| {
        let found = table.get(key.as_le_slice(memory));
        Ok((found.map(<[u8]>::to_vec),))
    })
}

fn put(call: Call<'_>, (key, value): (WasmList<u8>, WasmList<u8>)) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        table.put(key.as_le_slice(memory), value.as_le_slice(memory))
    })
}

fn send(call: Call<'_>, (port, message): (WasmStr, Outgoing)) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        check_port(&port, memory)?;
        let (Some(key), Some(value)) = (&message.key, &message.value) else {
            bail!("a message without a key or a value");
        };
        table.send(key.as_le_slice(memory), value.as_le_slice(memory))
    })
}

fn check_port(port: &WasmStr, memory: &Call<'_>) -> wasmtime::Result<()> {
    let port = port.to_str(memory)?;
    ensure!(port == "out", "there is no port {port}");
    Ok(())
}

fn get_many<N: Number>(
    call: Call<'_>,
    (keys,): (GuestColumn<N>,),
) -> wasmtime::Result<(HostColumn<N>,)> {
    with_table(call, |table, memory| {
        let len = keys.ends.len() / N::EACH;
        let (mut ends, mut absent) = (Vec::with_capacity(len), Vec::new());
        let mut data = Vec::with_capacity(len * 32);
        for (index, key) in (0..).zip(keys.entries(memory)) {
            match table.get(key?) {
                Some(state) => data.extend_from_slice(state),
                None => absent.push(index),
            }
            ends.push(u32::try_from(data.len())?);
        }
        let found = HostColumn {
            ends: N::list(ends),
            data,
            absent: N::list(absent),
        };
        Ok((found,))
    })
}

fn put_many<N: Number>(
    call: Call<'_>,
    (keys, values): (GuestColumn<N>, GuestColumn<N>),
) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        for (key, value) in keys.entries(memory).zip(values.entries(memory)) {
            table.put(key?, value?)?;
        }
        Ok(())
    })
}

fn send_many<N: Number, T>(
    call: Call<'_>,
    (port, messages, _): (WasmStr, GuestMessages<N, T>, Option<WasmList<N>>),
) -> wasmtime::Result<()> {
    with_table(call, |table, memory| {
        check_port(&port, memory)?;
        let Some(keys) = &messages.keys else {
            bail!("messages without keys");
        };
        for (key, value) in keys.entries(memory).zip(messages.values.entries(memory)) {
            table.send(key?, value?)?;
        }
        Ok(())
    })
}

/// Calls the guest for a batch, and says what `touch` returns.
fn call(
    guest: &Shapes,
    store: &mut Store<Host>,
    cell: Cell,
    feed: &Feed,
    at: usize,
) -> wasmtime::Result<u64> {
    let batch = &feed.batches[at];
    let nothing = |()| 0;
    match cell.shape {
        Shape::One => {
            let guest = guest.wasm_host_benches_shapes_one();
            let message = row(batch, 0);
            match cell.work {
                Work::Touch => guest.call_touch(store, message),
                Work::CountSingle => guest.call_count_single(store, message).map(nothing),
                Work::CountMany => bail!("one message is not many"),
            }
        }
        Shape::Rows => {
            let guest = guest.wasm_host_benches_shapes_rows();
            // The host has columns: to make rows of them is a part of their price.
            let rows: Vec<_> = (0..batch.len()).map(|index| row(batch, index)).collect();
            match cell.work {
                Work::Touch => guest.call_touch(store, &rows),
                Work::CountSingle => guest.call_count_single(store, &rows).map(nothing),
                Work::CountMany => guest.call_count_many(store, &rows).map(nothing),
            }
        }
        Shape::Columns => {
            let guest = guest.wasm_host_benches_shapes_columns();
            let batch = columns(batch);
            match cell.work {
                Work::Touch => guest.call_touch(store, batch),
                Work::CountSingle => guest.call_count_single(store, batch).map(nothing),
                Work::CountMany => guest.call_count_many(store, batch).map(nothing),
            }
        }
        Shape::Packed => {
            let guest = guest.wasm_host_benches_shapes_packed();
            let batch = packed(batch, &feed.packed[at]);
            match cell.work {
                Work::Touch => guest.call_touch(store, batch),
                Work::CountSingle => guest.call_count_single(store, batch).map(nothing),
                Work::CountMany => guest.call_count_many(store, batch).map(nothing),
            }
        }
    }
}

fn row(batch: &Batch, index: usize) -> types::Message<'_> {
    let message = batch.messages.get(index);
    types::Message {
        offset: batch.offsets[index],
        timestamp: message.timestamp,
        key: message.key,
        value: message.value,
        headers: &[],
    }
}

fn columns(batch: &Batch) -> types::Batch<'_> {
    let column = |column| {
        let (ends, data, absent) = Column::parts(column);
        types::BytesColumnParam { ends, data, absent }
    };
    types::Batch {
        offsets: &batch.offsets,
        messages: types::MessagesParam {
            keys: batch.messages.keys.as_ref().map(column),
            values: column(&batch.messages.values),
            timestamps: &batch.messages.timestamps,
            headers: None,
        },
    }
}

fn packed<'a>(batch: &'a Batch, numbers: &'a Packed) -> types::PackedBatch<'a> {
    let column = |column, ends| types::PackedColumnParam {
        ends,
        data: Column::parts(column).1,
        absent: &[],
    };
    let keys = batch.messages.keys.as_ref();
    types::PackedBatch {
        offsets: &numbers.offsets,
        messages: types::PackedMessagesParam {
            keys: keys.map(|keys| column(keys, &numbers.key_ends)),
            values: column(&batch.messages.values, &numbers.value_ends),
            timestamps: &numbers.timestamps,
            headers: None,
        },
    }
}

// Measuring.

/// What was measured of a language. Times are in seconds.
struct Measured {
    language: Language,
    component_bytes: usize,
    compile: f64,
    load: f64,
    instantiate: f64,
    first_call: f64,
    cells: Vec<(Cell, Vec<Figures>)>,
}

/// One measurement of a cell.
struct Figures {
    /// Messages per CPU-second.
    rate: f64,
    /// The guest's linear memory in the end.
    memory_bytes: usize,
}

impl Measured {
    /// The median of the rates.
    fn rate(&self, shape: Shape, work: Work, size: usize) -> Option<f64> {
        let cell = Cell { shape, work, size };
        let (_, figures) = self.cells.iter().find(|(of, _)| *of == cell)?;
        Some(median(figures.iter().map(|figures| figures.rate)))
    }

    fn memory_bytes(&self, shape: Shape, work: Work, size: usize) -> Option<usize> {
        let cell = Cell { shape, work, size };
        let (_, figures) = self.cells.iter().find(|(of, _)| *of == cell)?;
        figures.iter().map(|figures| figures.memory_bytes).max()
    }
}

fn measure(engine: &Engine, given: &Given, args: &Args, language: Language) -> Result<Measured> {
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

// Showing.

fn json(measured: &[Measured]) -> Value {
    let language = |measured: &Measured| {
        let cells = measured.cells.iter().map(|(cell, figures)| {
            json!({
                "shape": name(cell.shape),
                "work": name(cell.work),
                "size": cell.size,
                "rates": figures.iter().map(|figures| figures.rate).collect::<Vec<_>>(),
                "memory_bytes": figures.iter().map(|figures| figures.memory_bytes).collect::<Vec<_>>(),
            })
        });
        json!({
            "language": name(measured.language),
            "component_bytes": measured.component_bytes,
            "compile_seconds": measured.compile,
            "load_seconds": measured.load,
            "instantiate_seconds": measured.instantiate,
            "first_call_seconds": measured.first_call,
            "cells": cells.collect::<Vec<_>>(),
        })
    };
    measured.iter().map(language).collect()
}

/// Messages per CPU-second of each shape and work, by messages a call.
fn table(measured: &Measured) -> String {
    let mut table = format!(
        "### {}\n\n{} bytes; compiled in {:.2} s, loaded in {:.1} ms, instantiated in {:.0} µs; first call {:.0} µs\n\n",
        name(measured.language),
        measured.component_bytes,
        measured.compile,
        measured.load * 1e3,
        measured.instantiate * 1e6,
        measured.first_call * 1e6,
    );
    let sizes = SIZES.map(|size| size.to_string()).join(" | ");
    table += &format!("| shape | work | {sizes} | memory, MiB |\n|---|---|--:|--:|--:|--:|\n");
    for &shape in Shape::value_variants() {
        for &work in Work::value_variants() {
            let rates = SIZES.map(|size| {
                measured
                    .rate(shape, work, size)
                    .map_or("".into(), thousands)
            });
            let memory = SIZES
                .iter()
                .filter_map(|&size| measured.memory_bytes(shape, work, size))
                .max();
            if let Some(memory) = memory {
                #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
                let memory = memory as f64 / f64::from(1 << 20);
                let rates = rates.join(" | ");
                table += &format!(
                    "| {} | {} | {rates} | {memory:.1} |\n",
                    name(shape),
                    name(work)
                );
            }
        }
    }
    table
}

fn thousands(rate: f64) -> String {
    format!("{:.0} k", rate / 1e3)
}

/// What is gained by each step.
fn ratios(measured: &[Measured]) -> String {
    use {
        Shape::{Columns, Packed, Rows},
        Work::{CountMany, CountSingle, Touch},
    };
    let pairs = [
        ("columns/rows touch", (Columns, Touch), (Rows, Touch)),
        ("single", (Columns, CountSingle), (Rows, CountSingle)),
        ("many", (Columns, CountMany), (Rows, CountMany)),
        ("packed/columns touch", (Packed, Touch), (Columns, Touch)),
        ("single", (Packed, CountSingle), (Columns, CountSingle)),
        ("many", (Packed, CountMany), (Columns, CountMany)),
        ("many/single rows", (Rows, CountMany), (Rows, CountSingle)),
        ("columns", (Columns, CountMany), (Columns, CountSingle)),
        ("packed", (Packed, CountMany), (Packed, CountSingle)),
    ];
    let titles = pairs.map(|(title, _, _)| title).join(" | ");
    let mut table = format!(
        "### Ratios\n\n| language | messages | {titles} |\n|---|--:|{}\n",
        "--:|".repeat(pairs.len())
    );
    for measured in measured {
        for size in SIZES {
            let ratios = pairs.map(|(_, above, below)| {
                let rate = |(shape, work)| measured.rate(shape, work, size).unwrap_or(f64::NAN);
                format!("{:.2}", rate(above) / rate(below))
            });
            table += &format!(
                "| {} | {size} | {} |\n",
                name(measured.language),
                ratios.join(" | ")
            );
        }
    }
    table
}
