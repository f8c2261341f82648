//! `[job]` and `[checkpoint]`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::at_home;
use crate::config::job::{Checkpoint, CheckpointMode, General};
use crate::config::machine;
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::units::ByteSize;

/// More threads than any machine has cores.
const WORKERS_MAX: u32 = 1024;

/// Less could not hold one write of a guest and the bookkeeping for it.
const CHECKPOINT_BYTES_MIN: ByteSize = ByteSize::mib(1);

/// A checkpoint is one write to the database, and the columns it is made of end at 4 GiB.
const CHECKPOINT_BYTES_MAX: ByteSize = ByteSize::mib(2048);

/// More is the same as never stopping.
const FAILURES_MAX: u32 = 1_000_000;

/// `[job]`; `None` without a valid name.
pub(super) fn job(root: &mut Table<'_>) -> Option<General> {
    if root.peek("job").is_none() {
        root.missing("job", "write [job] with the name of the job: name = \"…\"");
    }
    let mut table = root.table("job", "[job]")?;
    let name = match table.entry("name") {
        Some(entry) => entry.name("job"),
        None => {
            table.missing("name", "write name = \"…\"");
            None
        }
    };
    let state_dir = table.path("state-dir");
    let workers = table.integer_u32("workers", 1..=WORKERS_MAX);
    let cache = table.text("cache");
    let disk_reserve = table.text("disk-reserve");
    let drain_timeout = table.text("drain-timeout");
    let listen = table.text("listen");
    let watch = table.bool("watch");
    let cx = table.cx;
    table.finish(|key| at_home(key, "[job]"));

    let name = name?.to_owned();
    let default_dir = || PathBuf::from(".wasm-host").join(&name);
    Some(General {
        state_dir: state_dir.unwrap_or_else(|| cx.folder.join(default_dir()).into()),
        workers: workers.unwrap_or_else(cores),
        cache: cache.unwrap_or(General::CACHE.into()),
        disk_reserve: disk_reserve.unwrap_or(General::DISK_RESERVE.into()),
        drain_timeout: drain_timeout.unwrap_or(General::DRAIN_TIMEOUT.into()),
        listen,
        watch: watch.unwrap_or(false),
        name,
    })
}

fn cores() -> u32 {
    u32::try_from(machine::cores())
        .unwrap_or(WORKERS_MAX)
        .min(WORKERS_MAX)
}

/// `[checkpoint]`, and the place of its timeout in the file, if it is set.
pub(super) struct Located {
    pub(super) checkpoint: Checkpoint,
    pub(super) timeout_span: Option<Range<usize>>,
}

/// `[checkpoint]`; all of it has defaults.
pub(super) fn checkpoint(root: &mut Table<'_>) -> Option<Located> {
    let default = Checkpoint::default();
    if root.entry("checkpoint").is_none() {
        return Some(Located {
            checkpoint: default,
            timeout_span: None,
        });
    }
    let mut table = root.table("checkpoint", "[checkpoint]")?;
    let enabled = table.bool("enabled");
    let interval = positive(&mut table, "interval");
    let early = table.bool("early");
    let bytes = size_in(
        &mut table,
        "bytes",
        CHECKPOINT_BYTES_MIN,
        CHECKPOINT_BYTES_MAX,
    );
    let mode = table.text::<CheckpointMode>("mode");
    table.later("schedule");
    let min_pause = table.text::<Duration>("min-pause");
    let timeout = positive(&mut table, "timeout");
    let tolerate_failures = table.integer_u32("tolerate-failures", 0..=FAILURES_MAX);
    let durability = table.text("durability");
    table.finish(|key| at_home(key, "[checkpoint]"));

    let checkpoint = Checkpoint {
        enabled: enabled.unwrap_or(default.enabled),
        interval: interval.unwrap_or(default.interval),
        early: early.unwrap_or(default.early),
        bytes: bytes.unwrap_or(default.bytes),
        mode: mode.unwrap_or(default.mode),
        min_pause: min_pause.unwrap_or(default.min_pause),
        timeout: timeout.unwrap_or(default.timeout),
        tolerate_failures: tolerate_failures.unwrap_or(default.tolerate_failures),
        durability: durability.unwrap_or(default.durability),
    };
    if *checkpoint.min_pause > *checkpoint.interval {
        let problem = Problem::new(format!(
            "a `min-pause` of {} is longer than the `interval` of {}",
            checkpoint.min_pause, checkpoint.interval
        ));
        let help = "`interval` is the longest time between two checkpoints: make it longer";
        table
            .cx
            .error(&table.span_of("min-pause"), problem.help(help));
    }
    Some(Located {
        checkpoint,
        timeout_span: table.peek("timeout").map(|entry| entry.span),
    })
}

/// A duration that is not zero.
pub(in crate::config) fn positive(
    table: &mut Table<'_>,
    key: &'static str,
) -> Option<Setting<Duration>> {
    let duration = table.text::<Duration>(key)?;
    if duration.is_zero() {
        let problem = Problem::new(format!("`{key}` is longer than zero"));
        table.cx.error(&table.span_of(key), problem);
        return None;
    }
    Some(duration)
}

/// A size between two others.
pub(in crate::config) fn size_in(
    table: &mut Table<'_>,
    key: &'static str,
    min: ByteSize,
    max: ByteSize,
) -> Option<Setting<ByteSize>> {
    let size = table.text::<ByteSize>(key)?;
    if *size < min || *size > max {
        let bounds = format!("from {} to {}", Setting::from(min), Setting::from(max));
        let problem = Problem::new(format!("`{key}` is a size {bounds}"));
        table.cx.error(&table.span_of(key), problem);
        return None;
    }
    Some(size)
}
