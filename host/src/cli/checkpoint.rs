//! `checkpoint list`, `show`, `trigger`.

use clap::Subcommand;
use serde::Serialize;

use super::{Failure, Global, access, exit, job, output, stderr};
use crate::admin::json::Checkpoint;
use crate::admin::swaps::Swap;

#[derive(Subcommand)]
pub(super) enum CheckpointCommand {
    /// The last 100 checkpoints, oldest first
    List,
    /// One checkpoint; default: the last
    Show {
        /// Its epoch
        epoch: Option<u64>,
    },
    /// Take a checkpoint now and wait until it is durable
    Trigger,
}

pub(super) fn checkpoint(global: &Global, command: &CheckpointCommand) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let mut access = access::of(&job);
    match command {
        CheckpointCommand::List => list(global, &access.ask(|job| job.checkpoints())?),
        CheckpointCommand::Show { epoch } => {
            let found = access.ask(|job| job.checkpoints())?;
            let swaps = access.ask(|job| job.status())?.swaps;
            show(global, &found, &swaps, *epoch)
        }
        CheckpointCommand::Trigger => {
            let taken = access.ask(|job| job.checkpoint())?;
            if global.json {
                return output::json(&taken);
            }
            output::text(&format!("checkpoint {}\n", taken.epoch))
        }
    }
}

fn list(global: &Global, found: &[Checkpoint]) -> Result<(), Failure> {
    if global.json {
        return found.iter().try_for_each(output::json);
    }
    let head = [
        "EPOCH", "TIME", "TRIGGER", "DURATION", "PAUSE", "TASKS", "ENTRIES", "MESSAGES", "BYTES",
        "FAILED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(row));
    output::table(&rows)?;
    if !found.is_empty() {
        stderr::say("a job goes on from the newest of them");
    }
    Ok(())
}

/// A checkpoint, and the swaps that were cut with it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    checkpoint: &'a Checkpoint,
    swaps: Vec<&'a Swap>,
}

fn show(
    global: &Global,
    found: &[Checkpoint],
    swaps: &[Swap],
    epoch: Option<u64>,
) -> Result<(), Failure> {
    let shown = match epoch {
        Some(epoch) => found.iter().find(|checkpoint| checkpoint.epoch == epoch),
        None => found.last(),
    };
    let Some(shown) = shown else {
        return Err(Failure::new(
            exit::USAGE,
            match (epoch, found.first(), found.last()) {
                (Some(epoch), Some(first), Some(last)) => format!(
                    "checkpoint {epoch} is not among those that are remembered, {} to {}",
                    first.epoch, last.epoch
                ),
                _ => "there is no checkpoint yet".to_owned(),
            },
        ));
    };
    let cut = swaps.iter().filter(|swap| swap.epoch == shown.epoch);
    let swaps: Vec<&Swap> = cut.collect();
    if global.json {
        return output::json(&Shown {
            checkpoint: shown,
            swaps,
        });
    }
    let mut text = format!(
        "checkpoint {}\n  taken: {}\n  asked for by: {}\n  from the barrier until durable: {} us\n  longest pause of a task: {} us\n  \
         tasks: {}\n  entries of stores: {}\n  messages sent: {}\n  bytes written: {}\n  failed attempts before it: {}\n",
        shown.epoch,
        output::time(shown.time),
        shown.trigger,
        shown.duration_us,
        shown.pause_us,
        shown.tasks,
        shown.entries,
        shown.messages,
        shown.bytes,
        shown.failed_attempts
    );
    for swap in swaps {
        let Swap { id, stage, .. } = swap;
        text += &format!(
            "  swap {id} of stage {stage}: from {} to {}\n",
            swap.from, swap.to
        );
    }
    output::text(&text)
}

fn row(checkpoint: &Checkpoint) -> Vec<String> {
    vec![
        checkpoint.epoch.to_string(),
        output::time(checkpoint.time),
        checkpoint.trigger.clone(),
        format!("{}us", checkpoint.duration_us),
        format!("{}us", checkpoint.pause_us),
        checkpoint.tasks.to_string(),
        checkpoint.entries.to_string(),
        checkpoint.messages.to_string(),
        checkpoint.bytes.to_string(),
        checkpoint.failed_attempts.to_string(),
    ]
}
