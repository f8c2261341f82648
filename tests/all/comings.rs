//! Tasks that are taken away and made again, over and over, while the job runs: nothing is lost or doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wasm_host::checkpoint::Holder;
use wasm_host::checkpoint::decide::{CadenceOptions, Wanted};
use wasm_host::checkpoint::logs::Retention;
use wasm_host::coordinator::machine::Ending;
use wasm_host::coordinator::{
    Coordinator, Deleted, Handle, InputOptions, JobOptions, Produce, StageOptions, StreamOptions,
    TaskChange,
};
use wasm_host::disk::Disk;
use wasm_host::model::{MessageRef, Messages, PartitionId, StartAt, SystemClock};
use wasm_host::runtime::{Compiler, Component, ComponentOptions, Runtime, RuntimeOptions};
use wasm_host::state::{DbOptions, Durability, StoreKind};
use wasm_host::task::Rules;

use crate::harness::guest;

const PARTITIONS: u32 = 4;
const COMINGS: usize = 1_000;
/// Messages of each partition at least.
const MESSAGES: u64 = 2_000;

fn options(folder: &std::path::Path, kind: StoreKind) -> JobOptions {
    let runtime = Runtime::new(RuntimeOptions {
        descriptors_max: 64,
        instances_max: 16,
        table_elements_max: 100_000,
        has_fuel: false,
        compiler: Compiler::Here,
        memory_bytes_max: 64 << 20,
        cache: None,
    });
    let runtime = runtime.expect("an engine");
    let component = Component::load(&runtime, &guest("counter"), ComponentOptions::default());
    let log = || StreamOptions::log(PARTITIONS, Retention::default(), None);
    JobOptions {
        name: "comings".into(),
        state_dir: folder.join("state"),
        disk_reserve: 0,
        db: DbOptions::default(),
        // Little more than the `memory` stores of all tasks take: what a former task had must be given back first.
        cache_bytes: 32 << 10,
        workers: 2,
        instances_max: 8,
        cadence: CadenceOptions {
            enabled: true,
            interval: Duration::from_millis(20),
            bytes_max: 4 << 20,
            early: false,
            min_pause: Duration::ZERO,
        },
        tolerate_failures: 3,
        checkpoint_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(30),
        durability: Durability::Process,
        streams: BTreeMap::from([("in".to_owned(), log()), ("out".to_owned(), log())]),
        stages: vec![StageOptions {
            state_version: 0,
            successor: None,
            name: "count".into(),
            component: component.expect("a component"),
            file: None,
            wanted: Wanted::Recorded,
            before: None,
            swap: Default::default(),
            partitions: PARTITIONS,
            inputs: vec![InputOptions {
                port: "in".into(),
                stream: "in".into(),
                start: StartAt::Oldest,
            }],
            outputs: vec![("out".into(), "out".into())],
            rules: Rules::default(),
            dead_letters: None,
            replay_queue: None,
            parked_store: None,
            batch_messages: 50,
            batch_bytes: 1 << 20,
            stores: vec![("counts".into(), kind)],
            may_request_stop: false,
        }],
        drops: Default::default(),
        until_idle: false,
        skips: None,
        remotes: Vec::new(),
        loader: None,
        last_resort: Arc::new(|_| {}),
        disk: Disk::default(),
        clock: Arc::new(SystemClock),
    }
}

/// The key of a message: few, so that each count goes on from state that was committed by an earlier task.
fn key(number: u64) -> String {
    format!("k{}", number % 13)
}

/// Appends messages to each partition until told to stop, and [`MESSAGES`] at least. Returns how many each has.
async fn produce(handle: Handle, stop: Arc<AtomicBool>) -> u64 {
    let mut count = 0;
    while count < MESSAGES || !stop.load(Ordering::Relaxed) {
        let mut batch = Vec::new();
        for number in count..count + 20 {
            for partition in (0..PARTITIONS).map(PartitionId) {
                let mut message = Messages::default();
                message.push(MessageRef::new(Some(key(number).as_bytes()), Some(b"v"), 0));
                batch.push(Produce {
                    partition: Some(partition),
                    message,
                });
            }
        }
        count += 20;
        let produced = handle.produce("in".into(), batch).await;
        produced.expect("the job runs").expect("they are appended");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    count
}

async fn change(handle: &Handle, task: u32, change: TaskChange) {
    let changed = handle.change(format!("count/{task}"), change).await;
    let done = changed.expect("the job runs");
    assert_eq!(done, Ok(()), "task {task}: {change:?}");
}

async fn come_and_go(handle: &Handle) {
    let mut random = StdRng::seed_from_u64(7);
    let mut comings = 0;
    while comings < COMINGS {
        let task = random.random_range(0..PARTITIONS);
        match random.random_range(0..4) {
            0 => {
                change(handle, task, TaskChange::Suspend).await;
                change(handle, task, TaskChange::Start).await;
            }
            1 => {
                change(handle, task, TaskChange::Retire).await;
                change(handle, task, TaskChange::Start).await;
            }
            2 => change(handle, task, TaskChange::Restart).await,
            // All at once.
            _ => {
                let restart = |task| change(handle, task, TaskChange::Restart);
                tokio::join!(restart(0), restart(1), restart(2), restart(3));
                comings += 3;
            }
        }
        comings += 1;
    }
}

/// Messages that all tasks have processed.
async fn processed(handle: &Handle) -> u64 {
    let status = handle.status().await.expect("the job runs");
    status.tasks.iter().map(|task| task.processed).sum()
}

fn out(handle: &Handle, partition: PartitionId) -> Vec<String> {
    let view = handle.view();
    let catalog = view.catalog().expect("the catalog");
    let (mut next, end) = view.log_bounds(catalog.streams["out"].id, partition);
    let mut lines = Vec::new();
    while next < end {
        let read = view.log_read("out", partition, next, Deleted::Refused);
        let read = read.expect("messages");
        for index in 0..read.messages.len() {
            let value = read.messages.get(index).value.unwrap_or_default();
            lines.push(String::from_utf8_lossy(value).into_owned());
        }
        next += read.messages.len() as u64;
    }
    lines
}

fn nothing_is_lost_or_doubled(kind: StoreKind) {
    let folder = tempfile::tempdir().expect("a folder");
    let io = tokio::runtime::Runtime::new().expect("a runtime");
    let holder = Holder {
        pid: std::process::id(),
        socket: None,
    };
    let coordinator = Coordinator::open(options(folder.path(), kind), io.handle(), Some(&holder));
    let coordinator = coordinator.expect("the job opens");
    let handle = coordinator.handle();
    let job = std::thread::spawn(move || coordinator.run());
    let stop = Arc::new(AtomicBool::new(false));
    let producing = io.spawn(produce(handle.clone(), Arc::clone(&stop)));
    let each = io.block_on(async {
        let all = tokio::time::timeout(Duration::from_secs(300), come_and_go(&handle));
        all.await.expect("changes come to their end");
        stop.store(true, Ordering::Relaxed);
        let each = producing.await.expect("the producer");
        while processed(&handle).await < each * u64::from(PARTITIONS) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        handle.checkpoint().await.expect("a checkpoint");
        each
    });
    let mut counts = BTreeMap::new();
    let expected: Vec<String> = (0..each)
        .map(|number| {
            let count = counts.entry(key(number)).or_insert(0);
            *count += 1;
            format!("{} {count}", key(number))
        })
        .collect();
    // What guests send with a key goes by that key, so partitions of the output are mixed: all of them together hold each line once
    // for each task.
    let mut found: Vec<String> = (0..PARTITIONS)
        .flat_map(|partition| out(&handle, PartitionId(partition)))
        .collect();
    let mut wanted: Vec<String> = (0..PARTITIONS).flat_map(|_| expected.clone()).collect();
    found.sort();
    wanted.sort();
    assert!(found == wanted, "{} lines of {}", found.len(), wanted.len());
    handle.stop();
    let report = job.join().expect("the job's thread");
    assert_eq!(report.ending, Ending::Drained, "{report:?}");
    assert_eq!(report.processed, each * u64::from(PARTITIONS));
}

#[test]
fn tasks_that_come_and_go_a_thousand_times_lose_and_double_nothing() {
    nothing_is_lost_or_doubled(StoreKind::RocksDb);
}

#[test]
fn tasks_with_memory_stores_that_come_and_go_lose_and_double_nothing() {
    nothing_is_lost_or_doubled(StoreKind::Memory);
}
