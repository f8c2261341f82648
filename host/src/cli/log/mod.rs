//! `log list`, `produce`, `consume`.

mod consume;
mod produce;

use clap::Subcommand;

use super::{Failure, Global, access, job, output};
use crate::config::Job;
use crate::disk::Disk;

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Log streams and what they hold
    List,
    /// Append messages from standard input, a line each; durable when it returns
    Produce(produce::ProduceArgs),
    /// Read messages
    Consume(consume::ConsumeArgs),
}

pub(super) fn log(global: &Global, command: LogCommand, disk: Disk) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    match command {
        LogCommand::List => list(global, &job),
        LogCommand::Produce(args) => produce::produce(&job, &args, disk),
        LogCommand::Consume(args) => consume::consume(global, &job, &args),
    }
}

fn list(global: &Global, job: &Job) -> Result<(), Failure> {
    let found = access::of(job).ask(|job| job.logs())?;
    if global.json {
        return found.iter().try_for_each(output::json);
    }
    let mut rows = vec![
        ["STREAM", "PARTITION", "OLDEST", "END"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(found.into_iter().map(|log| {
        vec![
            log.stream,
            log.partition.to_string(),
            log.oldest.to_string(),
            log.end.to_string(),
        ]
    }));
    output::table(&rows)
}
