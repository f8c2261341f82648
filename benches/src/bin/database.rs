//! What does the database cost beneath the layers? `reads`: random reads of a state that is larger than the clean cache. `queue`:
//! the first entry of a store whose keys were written and deleted in order, and a scan that has little time.

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use wasm_host::model::StoreIndex;
use wasm_host::runtime::TaskContext;
use wasm_host::state::{Durability, Family, Order, ScanOptions, StateError};
use wasm_host_benches::{Bench, Result, thread_cpu};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    question: Question,
    /// Keys
    #[arg(long, global = true, default_value_t = 10_000_000)]
    keys: u64,
    /// MiB of cache, as `cache` in a job file
    #[arg(long, global = true, default_value_t = 256)]
    cache: u64,
    /// Keys of a commit
    #[arg(long, global = true, default_value_t = 100_000)]
    commit: u64,
}

#[derive(Clone, Copy, Subcommand)]
enum Question {
    /// Random reads
    Reads,
    /// The first entry after deleted ones
    Queue,
}

const STORE: StoreIndex = StoreIndex(0);

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let bench = Bench::open(&folder.path().join("state"), 1, args.cache << 20)?;
    let context = bench.context(0)?;
    let mut subject = Subject { bench, context };
    match args.question {
        Question::Reads => subject.reads(args.keys, args.commit),
        Question::Queue => subject.queue(args.keys, args.commit),
    }
}

struct Subject {
    bench: Bench,
    context: Box<TaskContext>,
}

impl Subject {
    fn reads(&mut self, keys: u64, per_commit: u64) -> Result<()> {
        let began = Instant::now();
        for number in 0..keys {
            let random = mix(number);
            let len = 24 + random % 77;
            // Half of it can be compressed.
            let mut value = [7; 100];
            for (at, bytes) in value.chunks_exact_mut(16).enumerate() {
                bytes[..8].copy_from_slice(&mix(random ^ at as u64).to_le_bytes());
            }
            let value = &value[..usize::try_from(len)?];
            self.context
                .state_mut()
                .put(STORE, &scattered(number), Some(value));
            if (number + 1).is_multiple_of(per_commit) {
                self.commit(false)?;
            }
        }
        self.commit(false)?;
        self.settle();
        println!("filled with {keys} keys in {:?}", began.elapsed());
        let per_round = (keys / 10).max(1);
        for round in 0..6 {
            let (began, cpu) = (Instant::now(), thread_cpu());
            for read in 0..per_round {
                let number = mix(read ^ (round << 40)) % keys;
                let found =
                    self.context
                        .state_mut()
                        .get_with(STORE, &scattered(number), |value| value.is_some())?;
                assert!(found, "key {number} is gone");
            }
            println!(
                "round {round}: {per_round} random reads, {:.2} us each, {:.2} us of CPU; resident {} MiB",
                micros(began.elapsed()) / count(per_round),
                micros(thread_cpu() - cpu) / count(per_round),
                resident_mib()?
            );
        }
        let absent = Instant::now();
        for number in keys..keys + per_round {
            let found = self
                .context
                .state_mut()
                .get_with(STORE, &scattered(number), |value| value.is_some())?;
            assert!(!found, "key {number} was never written");
        }
        println!(
            "absent keys: {:.2} us each; block cache {} MiB of {} MiB, table readers {} MiB",
            micros(absent.elapsed()) / count(per_round),
            self.property("rocksdb.block-cache-usage") >> 20,
            self.property("rocksdb.block-cache-capacity") >> 20,
            self.property("rocksdb.estimate-table-readers-mem") >> 20,
        );
        Ok(())
    }

    fn queue(&mut self, keys: u64, per_commit: u64) -> Result<()> {
        for delete in [false, true] {
            for number in 0..keys {
                let value = (!delete).then_some([1; 32]);
                let value = value.as_ref().map(<[u8; 32]>::as_slice);
                self.context.state_mut().put(STORE, &ordered(number), value);
                // The last ones wait.
                if (number + 1).is_multiple_of(per_commit) && (!delete || number + 1 < keys) {
                    self.commit(true)?;
                }
            }
        }
        let live = ordered(keys);
        self.context.state_mut().put(STORE, &live, Some(b"live"));
        self.first(&live, "with deletes that are not committed")?;
        self.commit(true)?;
        self.context = self.bench.context(0)?;
        println!("written and deleted: {keys} keys");
        self.soon(Duration::from_millis(50))?;
        for look in 0..3 {
            self.first(&live, &format!("look {look}"))?;
        }
        for number in 1..=1_000 {
            self.context
                .state_mut()
                .put(STORE, &ordered(keys + number), Some(b"live"));
            self.context
                .state_mut()
                .put(STORE, &ordered(keys + number - 1), None);
        }
        self.commit(true)?;
        self.first(&ordered(keys + 1_000), "1,000 later")?;
        // Nothing is known in memory any more.
        self.context = self.bench.context(0)?;
        self.soon(Duration::from_millis(50))?;
        self.first(&ordered(keys + 1_000), "as after a restart")?;
        self.settle();
        self.context = self.bench.context(0)?;
        self.first(&ordered(keys + 1_000), "after compactions")
    }

    /// A scan with little time.
    fn soon(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        let cursor = self.scan();
        let mut over = || began.elapsed() > time;
        let found = self
            .context
            .state_mut()
            .scan_next(cursor, 1, 1 << 20, &mut over);
        let found = match found {
            Ok(_) => "found",
            Err(StateError::TimeOver) => "nothing found in its time",
            Err(error) => return Err(error.into()),
        };
        println!("with {time:?}: {found} after {:?}", began.elapsed());
        self.context.state_mut().end_call();
        Ok(())
    }

    fn first(&mut self, expected: &[u8], what: &str) -> Result<()> {
        let began = Instant::now();
        let cursor = self.scan();
        let found = self
            .context
            .state_mut()
            .scan_next(cursor, 1, 1 << 20, &mut || false)?;
        let took = began.elapsed();
        self.context.state_mut().end_call();
        let found = found.ok_or("the cursor has ended")?;
        assert_eq!(found.keys.get(0), Some(expected), "the first entry");
        println!("{what}: the first entry after {took:?}");
        Ok(())
    }

    fn scan(&mut self) -> wasm_host::state::CursorId {
        let options = ScanOptions {
            order: Order::Up,
            keys_only: false,
        };
        self.context.state_mut().scan(STORE, None, None, options)
    }

    fn commit(&mut self, publish: bool) -> Result<()> {
        self.context.keep_batch();
        let Some(sealed) = self.context.state_mut().seal() else {
            return Ok(());
        };
        let mut writes = self.bench.db.write_set();
        let ranges = sealed.resolve_ranges(&mut 0)?;
        sealed.write_into(&mut writes, &ranges)?;
        writes.commit(Durability::Process)?;
        if publish {
            sealed.note_durable(&ranges)?;
        }
        self.context.release();
        Ok(())
    }

    /// Waits until flushes and compactions have ended.
    fn settle(&self) {
        let names = [
            "rocksdb.mem-table-flush-pending",
            "rocksdb.num-running-flushes",
            "rocksdb.compaction-pending",
            "rocksdb.num-running-compactions",
        ];
        let mut quiet = 0;
        while quiet < 10 {
            std::thread::sleep(Duration::from_millis(50));
            let busy = names.iter().any(|name| self.property(name) > 0);
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    fn property(&self, name: &str) -> u64 {
        self.bench.db.property(Family::State, name).unwrap_or(0)
    }
}

fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn scattered(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn ordered(number: u64) -> [u8; 16] {
    let mut key = *b"timers//........";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

#[expect(clippy::cast_precision_loss, reason = "figures for a person")]
fn count(number: u64) -> f64 {
    number as f64
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn resident_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? >> 10)
}
