//! `task list`, `resume`, `skip`.

use clap::{Args, Subcommand};

use super::{Failure, Global, access, job, output, stderr};
use crate::admin::json::{self, Resumed};
use crate::disk::Disk;

#[derive(Subcommand)]
pub(super) enum TaskCommand {
    /// The tasks: what each does, and what it is held at
    List,
    /// Let a held task try again
    Resume(ResumeArgs),
    /// Pass over the message that a task is held at: it becomes a dead letter, where the stage has `dead-letters`
    Skip(SkipArgs),
}

#[derive(Args)]
pub(super) struct ResumeArgs {
    /// The task
    #[arg(value_name = "STAGE/PARTITION")]
    task: String,
    /// The breaker does not judge the next N messages
    #[arg(long, value_name = "N", default_value_t = 0)]
    past: u64,
}

#[derive(Args)]
pub(super) struct SkipArgs {
    /// The task
    #[arg(value_name = "STAGE/PARTITION")]
    task: String,
}

pub(super) fn task(global: &Global, command: &TaskCommand, disk: &Disk) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    match command {
        TaskCommand::List => list(global, &access::of(&job).ask(|job| job.status())?),
        TaskCommand::Resume(ResumeArgs { task, past }) => {
            let mut tasks = access::tasks(&job, disk);
            let resumed = tasks.ask(|tasks| tasks.resume(task, *past))?;
            say(global, &resumed, "goes on")
        }
        TaskCommand::Skip(SkipArgs { task }) => {
            let skipped = access::tasks(&job, disk).ask(|tasks| tasks.skip(task))?;
            say(global, &skipped, "passes over the message")
        }
    }
}

fn say(global: &Global, resumed: &Resumed, what: &str) -> Result<(), Failure> {
    if global.json {
        return output::json(resumed);
    }
    let mut text = format!("task {} {what}", resumed.task);
    if let (Some(stream), Some(offset)) = (&resumed.stream, resumed.offset) {
        text += &format!(" at stream {stream:?}, offset {offset}");
    }
    if let Some(epoch) = resumed.epoch {
        text += &format!("; checkpoint {epoch} contains it");
    }
    output::text(&(text + "\n"))
}

fn list(global: &Global, status: &json::Status) -> Result<(), Failure> {
    if global.json {
        return status.tasks.iter().try_for_each(output::json);
    }
    let head = ["TASK", "STATE", "STREAM", "OFFSET", "KIND", "SINCE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for task in &status.tasks {
        let mut row = vec![task.task.clone(), task.state.clone()];
        match &task.held {
            None => row.extend(["-"; 4].map(str::to_owned)),
            Some(held) => row.extend([
                held.stream.clone().unwrap_or_else(|| "-".to_owned()),
                held.offset
                    .map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
                held.kind.clone(),
                output::time(held.since),
            ]),
        }
        rows.push(row);
    }
    output::table(&rows)?;
    let runs = status.state != "stopped";
    for task in &status.tasks {
        if let Some(held) = &task.held {
            stderr::say(what_helps(&task.task, held, runs).trim_end());
        }
    }
    Ok(())
}

/// What a task is held at, and the commands that help.
pub(super) fn what_helps(task: &str, held: &json::Held, runs: bool) -> String {
    let place = match (&held.stream, held.offset) {
        (Some(stream), Some(offset)) => format!(" at stream {stream:?}, offset {offset}"),
        _ => String::new(),
    };
    let (since, kind, reason) = (output::time(held.since), &held.kind, &held.reason);
    let mut text = format!("task {task} is held{place} since {since} ({kind}): {reason}\n");
    for line in held.detail.lines() {
        text += &format!("  {line}\n");
    }
    let again = match (runs, &*held.kind) {
        (true, "breaker") => format!("wasm-host task resume {task} --past N"),
        (true, _) => format!("wasm-host task resume {task}"),
        (false, "breaker") => format!("wasm-host task resume {task} --past N; wasm-host run"),
        (false, _) => "wasm-host run".to_owned(),
    };
    text += &format!("  to try again: {again}\n");
    if held.offset.is_some() {
        text += &format!("  to pass over the message: wasm-host task skip {task}\n");
    }
    text
}
