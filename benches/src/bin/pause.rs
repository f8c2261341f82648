//! How long does a barrier hold a task up? 64 tasks with 1M dirty entries together, sealed one after the other, at a small and
//! at a large state: wall and CPU time from the last call's return to the next call allowed.

use std::time::{Duration, Instant};

use clap::Parser;
use wasm_host::model::{MessageRef, OutputIndex, PartitionId, StoreIndex};
use wasm_host_benches::{Bench, Commits, Result, seal, thread_cpu};

#[derive(Parser)]
struct Args {
    /// Bytes of state beneath, written beforehand
    #[arg(long, default_value_t = 1 << 20)]
    state_bytes: u64,
    /// Tasks
    #[arg(long, default_value_t = 64)]
    tasks: u32,
    /// Dirty entries of all tasks together
    #[arg(long, default_value_t = 1_000_000)]
    dirty: u64,
    /// Barriers
    #[arg(long, default_value_t = 10)]
    barriers: u32,
}

const VALUE: usize = 100;

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir_in(".")?;
    let bench = Bench::open(&folder.path().join("state"), args.tasks, 256 << 20)?;
    let mut contexts = (0..args.tasks)
        .map(|task| bench.context(task))
        .collect::<Result<Vec<_>>>()?;
    let out = bench.out;
    let commits = Commits::start(bench.committer);
    let store = StoreIndex(0);
    let entries = args.state_bytes / (VALUE as u64 + 16);
    let mut written = 0;
    while written < entries {
        let part = (entries - written).min(500_000);
        for entry in written..written + part {
            let context = &mut contexts[(entry % u64::from(args.tasks)) as usize];
            context.state_mut().put(
                store,
                format!("k{entry:015}").as_bytes(),
                Some(&[b'v'; VALUE]),
            );
        }
        written += part;
        commits.give(
            contexts
                .iter_mut()
                .map(|context| {
                    context.keep_batch();
                    seal(context, out)
                })
                .collect(),
        );
        commits.done.recv()?;
        contexts.iter_mut().for_each(|context| context.release());
    }
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for barrier in 0..args.barriers {
        for entry in 0..args.dirty {
            let context = &mut contexts[(entry % u64::from(args.tasks)) as usize];
            let number = entry.wrapping_mul(0x9e37_79b9) % entries.max(args.dirty);
            context.state_mut().put(
                store,
                format!("k{number:015}").as_bytes(),
                Some(&[b'w'; VALUE]),
            );
            if entry % 16 == 0 {
                context.send(
                    OutputIndex(0),
                    PartitionId(0),
                    MessageRef::new(None, Some(b"out"), i64::from(barrier)),
                );
            }
        }
        contexts.iter_mut().for_each(|context| context.keep_batch());
        let mut sealed = Vec::with_capacity(contexts.len());
        for context in &mut contexts {
            let (wall, cpu) = (Instant::now(), thread_cpu());
            sealed.push(seal(context, out));
            cpus.push(thread_cpu() - cpu);
            walls.push(wall.elapsed());
        }
        commits.give(sealed);
        commits.done.recv()?;
        contexts.iter_mut().for_each(|context| context.release());
    }
    commits.stop();
    println!(
        "pause    state {:>6} MiB, {} tasks, {} dirty: wall p50 {:?} p99 {:?}, cpu p50 {:?} p99 {:?}",
        args.state_bytes >> 20,
        args.tasks,
        args.dirty,
        percentile(&mut walls, 50),
        percentile(&mut walls, 99),
        percentile(&mut cpus, 50),
        percentile(&mut cpus, 99)
    );
    Ok(())
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}
