//! How much does the guest cost? The counter over zipfian keys, with the same state, staging, seal and commit each second;
//! only the call differs: a native closure, the batch world, the message world. Beside it the same loop on RocksDB directly.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use wasm_host::connectors::generate::{
    Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT,
};
use wasm_host::connectors::{FetchBounds, Input, OpenAt, Polled};
use wasm_host::model::{
    Batch, InputIndex, MessageRef, OutputIndex, PartitionId, StartAt, StoreIndex,
};
use wasm_host::runtime::{
    Compiler, Component, ComponentOptions, Instance, Runtime, RuntimeOptions, TaskContext,
};
use wasm_host_benches::{Bench, Commits, Result, seal, thread_cpu};

#[derive(Parser)]
struct Args {
    /// What processes the messages
    #[arg(value_enum)]
    mode: Mode,
    /// Keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Messages
    #[arg(long, default_value_t = 5_000_000)]
    messages: u64,
    /// Messages a batch
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// The component, for the worlds
    #[arg(long)]
    component: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Native,
    Batch,
    Message,
    Rocksdb,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let input = GenerateInput::new(GenerateOptions {
        count: Some(args.messages),
        rate: None,
        keys: args.keys,
        distribution: Distribution::Zipfian,
        value_bytes: 100,
        seed: 7,
        partitions: 1,
        start_ms: START_MS_DEFAULT,
    })?;
    let mut source = input.open(PartitionId(0), OpenAt::Start(StartAt::Oldest))?;
    let (sender, batches) = sync_channel(16);
    let bounds = FetchBounds {
        messages: args.batch,
        bytes: 1 << 20,
    };
    let reader = std::thread::spawn(move || {
        while let Ok(Polled::Messages(fetched)) = source.poll(bounds) {
            let batch = Batch {
                input: InputIndex(0),
                partition: PartitionId(0),
                offsets: fetched.offsets,
                messages: fetched.messages,
                origin: None,
            };
            if sender.send(batch).is_err() {
                return;
            }
        }
    });
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let cpu = thread_cpu();
    let epochs = match args.mode {
        Mode::Rocksdb => directly(&folder.path().join("db"), batches.iter())?,
        mode => hosted(&args, mode, folder.path(), batches.iter())?,
    };
    let (wall, cpu) = (began.elapsed(), thread_cpu() - cpu);
    reader.join().map_err(|_| "the reader panicked")?;
    let name = args
        .mode
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
    let (per_second, cpu_ns) = (
        args.messages as f64 / wall.as_secs_f64(),
        cpu.as_nanos() as f64 / args.messages as f64,
    );
    println!(
        "{name:8} keys {:>8} messages/s {per_second:>10.0} worker-cpu-ns/message {cpu_ns:>7.0} epochs {epochs}",
        args.keys
    );
    Ok(())
}

fn hosted(
    args: &Args,
    mode: Mode,
    folder: &std::path::Path,
    batches: impl Iterator<Item = Batch>,
) -> Result<u64> {
    let bench = Bench::open(&folder.join("state"), 1, 256 << 20)?;
    let mut context = bench.context(0)?;
    let out = bench.out;
    let mut instance = match &args.component {
        Some(path) => {
            let runtime = Runtime::new(RuntimeOptions {
                descriptors_max: 64,
                instances_max: 4,
                table_elements_max: 100_000,
                has_fuel: false,
                compiler: Compiler::Here,
                memory_bytes_max: 64 << 20,
                cache: None,
            })?;
            let component = Component::load(&runtime, path, ComponentOptions::default())?;
            let (returned, instance) = Instance::new(&component, context);
            context = returned;
            Some(instance?)
        }
        None => None,
    };
    let commits = Commits::start(bench.committer);
    let (mut epochs, mut in_flight, mut last) = (0, false, Instant::now());
    for batch in batches {
        context.timestamp = 0;
        match (&mut instance, mode) {
            (Some(instance), Mode::Batch) => {
                let (returned, answer) = instance.process_batch(context, &batch);
                context = returned;
                answer??;
            }
            (Some(instance), Mode::Message) => {
                for index in 0..batch.len() {
                    context.mark_message();
                    let (returned, answer) = instance.process_message(context, &batch, index);
                    context = returned;
                    answer??;
                }
            }
            _ => native(&mut context, &batch)?,
        }
        context.keep_batch();
        if in_flight && commits.done.try_recv().is_ok() {
            context.release();
            in_flight = false;
        }
        // As the host does it: each second, or at half of the default 64 MiB.
        let due = last.elapsed() >= Duration::from_secs(1) || context.open_bytes() >= 32 << 20;
        if due && in_flight && context.open_bytes() >= 32 << 20 {
            commits.done.recv()?;
            context.release();
            in_flight = false;
        }
        if due && !in_flight {
            commits.give(vec![seal(&mut context, out)]);
            (in_flight, last) = (true, Instant::now());
            epochs += 1;
        }
    }
    if in_flight {
        commits.done.recv()?;
        context.release();
    }
    commits.give(vec![seal(&mut context, out)]);
    commits.done.recv()?;
    commits.stop();
    Ok(epochs + 1)
}

fn step(entry: &mut [u8; 24], value: &[u8]) {
    let seen = u64::from(value.last().copied().unwrap_or(0));
    let mut numbers = [0u64; 3];
    for (number, bytes) in numbers.iter_mut().zip(entry.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    let numbers = [numbers[0] + 1, numbers[1] + seen, numbers[2].max(seen)];
    for (bytes, number) in entry.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
}

fn native(context: &mut TaskContext, batch: &Batch) -> Result<()> {
    let store = StoreIndex(0);
    for index in 0..batch.len() {
        let message = batch.messages.get(index);
        let (key, value) = (
            message.key.unwrap_or_default(),
            message.value.unwrap_or_default(),
        );
        let mut entry = context.state_mut().get_with(store, key, |found| {
            found
                .and_then(|found| found.try_into().ok())
                .unwrap_or([0; 24])
        })?;
        step(&mut entry, value);
        context.state_mut().put(store, key, Some(&entry));
        let mut sent = [0; 40];
        sent[..16].copy_from_slice(&key[..16]);
        sent[16..].copy_from_slice(&entry);
        let sent = MessageRef::new(Some(key), Some(&sent), context.timestamp);
        context.send(OutputIndex(0), PartitionId(0), sent);
    }
    Ok(())
}

/// What people write without a host: read, update and write each message, sync each second.
fn directly(path: &std::path::Path, batches: impl Iterator<Item = Batch>) -> Result<u64> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(256 << 20));
    options.set_block_based_table_factory(&table);
    let db = Arc::new(rocksdb::DB::open(&options, path)?);
    let (mut epochs, mut last, mut out) = (0, Instant::now(), Vec::new());
    for batch in batches {
        for index in 0..batch.len() {
            let message = batch.messages.get(index);
            let (key, value) = (
                message.key.unwrap_or_default(),
                message.value.unwrap_or_default(),
            );
            let found = db.get_pinned(key)?;
            let mut entry = found
                .and_then(|found| (*found).try_into().ok())
                .unwrap_or([0; 24]);
            step(&mut entry, value);
            db.put(key, entry)?;
            out.extend_from_slice(&key[..16]);
            out.extend_from_slice(&entry);
        }
        if last.elapsed() >= Duration::from_secs(1) {
            db.flush_wal(true)?;
            out.clear();
            last = Instant::now();
            epochs += 1;
        }
    }
    db.flush_wal(true)?;
    Ok(epochs + 1)
}
