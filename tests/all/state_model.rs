//! The state engine against a model of it, and the promises that a count can show.
//!
//! A run draws operations from a seed and asks engine and model the same things; see [`run`]. The engine is the host's own,
//! over a real RocksDB; the model is a `BTreeMap` for every point to which a task may return; see [`model`]. A failing run
//! prints its seed and its last operations. It is replayed by
//!
//! ```text
//! STATE_MODEL_SEED=7 STATE_MODEL_OPS=120000 cargo test --release -p wasm-host-tests --test all state_model
//! ```
//!
//! `STATE_MODEL_OPS` is the number of operations of each run.

mod allocations;
mod cache;
mod deleted;
mod engine;
mod isolation;
mod keys;
mod model;
mod operation;
mod options;
mod run;
mod seal;
mod snapshot;
mod undone;
mod wrong;

use wasm_host::model::{PartitionId, StageId, StoreId, TaskId};
use wasm_host::state::{Durability, StoreKind};

use engine::{Engine, Setup, commit};
use keys::{KeySpace, ValueLengths};
use operation::Operation;
use run::{Profile, run};
use wrong::{Mistake, Wrong};

/// Operations of a run, where the environment does not say.
const OPERATIONS: u64 = 120_000;

/// The seed that the environment gives, or any.
fn seed() -> u64 {
    from_environment("STATE_MODEL_SEED").unwrap_or_else(rand::random)
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}")),
    )
}

fn tasks(ids: &[(u16, u32)]) -> Vec<TaskId> {
    let task = |(stage, partition): &(u16, u32)| TaskId {
        stage: StageId(*stage),
        partition: PartitionId(*partition),
    };
    ids.iter().map(task).collect()
}

/// Three tasks and their stores side by side, and few keys: everything meets everything.
fn nasty_keys() -> Profile {
    Profile {
        setup: Setup {
            tasks: tasks(&[(0, 0), (0, u32::MAX), (1, 0)]),
            stores: vec![
                (StoreId(0xff), StoreKind::RocksDb),
                (StoreId(0x100), StoreKind::Memory),
                (StoreId(0x101), StoreKind::RocksDb),
                (StoreId(u16::MAX), StoreKind::RocksDb),
            ],
            cache_bytes: 64 << 10,
            write_buffer_bytes: 256 << 10,
            durability: Durability::Process,
        },
        keys: KeySpace::new(0),
        values: ValueLengths {
            usual_max: 40,
            rare_max: 100,
        },
        ranges: 30,
        barriers: 40,
        reopen_every: 2000,
    }
}

/// Thousands of keys, long epochs, and a cache for a part of them.
fn many_keys() -> Profile {
    Profile {
        setup: Setup {
            tasks: tasks(&[(2, 0), (2, 1)]),
            stores: vec![
                (StoreId(0), StoreKind::RocksDb),
                (StoreId(1), StoreKind::Memory),
                (StoreId(2), StoreKind::RocksDb),
            ],
            cache_bytes: 600_000,
            write_buffer_bytes: 512 << 10,
            durability: Durability::Process,
        },
        keys: KeySpace::new(2000),
        values: ValueLengths {
            usual_max: 100,
            rare_max: 400,
        },
        ranges: 6,
        barriers: 8,
        reopen_every: 5000,
    }
}

/// Values beyond what the arena uses again, beyond its chunks, and beyond what the cache takes. Commits are synced.
fn large_values() -> Profile {
    Profile {
        setup: Setup {
            tasks: tasks(&[(0, 0)]),
            stores: vec![(StoreId(0), StoreKind::RocksDb)],
            cache_bytes: 128 << 10,
            write_buffer_bytes: 1 << 20,
            durability: Durability::Sync,
        },
        keys: KeySpace::new(0),
        values: ValueLengths {
            usual_max: 20_000,
            rare_max: 1_500_000,
        },
        ranges: 4,
        barriers: 4,
        reopen_every: 8000,
    }
}

/// Barrier upon barrier, with many range deletes and reopens in every phase.
fn short_epochs() -> Profile {
    Profile {
        setup: Setup {
            tasks: tasks(&[(7, 3), (8, 3)]),
            stores: vec![
                (StoreId(0), StoreKind::RocksDb),
                (StoreId(1), StoreKind::Memory),
            ],
            cache_bytes: 64 << 10,
            write_buffer_bytes: 256 << 10,
            durability: Durability::Process,
        },
        keys: KeySpace::new(0),
        values: ValueLengths {
            usual_max: 20,
            rare_max: 100,
        },
        ranges: 80,
        barriers: 300,
        reopen_every: 1500,
    }
}

fn agrees_with_the_model(profile: &Profile) {
    let seed = seed();
    let operations = from_environment("STATE_MODEL_OPS").unwrap_or(OPERATIONS);
    println!("STATE_MODEL_SEED={seed} STATE_MODEL_OPS={operations}");
    let mut engine = Engine::new(&profile.setup, commit);
    let report = match run(profile, seed, operations, &mut engine) {
        Ok(report) => report,
        Err(mismatch) => {
            panic!("{mismatch}\nreplay with STATE_MODEL_SEED={seed} STATE_MODEL_OPS={operations}")
        }
    };
    println!("{report}");
    if operations >= OPERATIONS {
        for (kind, count) in Operation::KINDS.iter().zip(report.counts) {
            assert!(count > 0, "no {kind} was done");
        }
        assert!(report.while_sealed > 1000, "{report}");
        assert!(report.while_committing > 100, "{report}");
    }
}

#[test]
fn nasty_keys_agree_with_the_model() {
    agrees_with_the_model(&nasty_keys());
}

#[test]
fn many_keys_agree_with_the_model() {
    agrees_with_the_model(&many_keys());
}

#[test]
fn large_values_agree_with_the_model() {
    agrees_with_the_model(&large_values());
}

#[test]
fn short_epochs_agree_with_the_model() {
    agrees_with_the_model(&short_epochs());
}

#[test]
fn every_mistake_is_caught() {
    let mut missed = Vec::new();
    for mistake in Mistake::ALL {
        let profile = nasty_keys();
        for seed in 1..=3 {
            let mut wrong = Wrong::new(&profile.setup, mistake);
            match run(&profile, seed, 20_000, &mut wrong) {
                Ok(_) => missed.push((mistake, seed)),
                Err(mismatch) => println!("{mistake:?} with {mismatch}"),
            }
        }
    }
    assert_eq!(missed, [], "mistakes that no run noticed, and their seeds");
}
