//! `log consume`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use crate::cli::access::{self, Access, JobAccess};
use crate::cli::{Failure, Global, exit, output};
use crate::config::Job;
use crate::connectors::log::LogRead;
use crate::connectors::{MessageName, write_lines};
use crate::coordinator::Deleted;
use crate::model::{Offset, PartitionId, TimestampMs, shown};

#[derive(Args)]
pub(in crate::cli) struct ConsumeArgs {
    /// The stream
    stream: String,
    /// Where to begin: oldest, latest, an offset, or a time (RFC 3339)
    #[arg(long, default_value = "oldest", value_name = "WHERE")]
    from: String,
    /// Go on when the end is reached
    #[arg(long)]
    follow: bool,
    /// At most so many messages
    #[arg(long, value_name = "MESSAGES")]
    limit: Option<u64>,
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
}

/// How often a reader that follows looks for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);

pub(super) fn consume(global: &Global, job: &Job, args: &ConsumeArgs) -> Result<(), Failure> {
    let mut access = access::of(job);
    let mut places = begin(&mut access, job, args)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let (now, is_running) =
            access.ask(|found| Ok((bounds(found, &args.stream)?, found.is_running())))?;
        for (partition, place) in &mut places {
            let end = now.get(partition).map_or(0, |bounds| bounds.end);
            while place.next < end && left > 0 {
                let (limit, Place { next, deleted }) = (left.min(end - place.next), *place);
                let read = access
                    .ask(|found| found.log_read(&args.stream, *partition, next, deleted, limit))?;
                let count = read.messages.len() as u64;
                if count == 0 {
                    break;
                }
                left -= count;
                *place = Place {
                    next: read.first + count,
                    deleted: Deleted::Refused,
                };
                print(global, &args.stream, *partition, &read)?;
            }
        }
        if left == 0 || !args.follow {
            return Ok(());
        }
        if !is_running {
            return Err(Failure::new(
                exit::HOST,
                "--follow: the job has ended, so nothing more will come",
            ));
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

/// Where reading goes on in a partition.
#[derive(Clone, Copy)]
struct Place {
    next: Offset,
    /// What is deleted may be passed over before the first message, unless the first was named.
    deleted: Deleted,
}

impl Place {
    fn at(next: Offset, deleted: Deleted) -> Place {
        Place { next, deleted }
    }
}

/// The first place to be read of each partition.
fn begin(
    access: &mut Access<'_, dyn JobAccess + '_>,
    job: &Job,
    args: &ConsumeArgs,
) -> Result<BTreeMap<PartitionId, Place>, Failure> {
    let held = access.ask(|found| {
        if args.follow && !found.is_running() {
            return Err(Failure::new(
                exit::USAGE,
                "--follow: the job does not run, so nothing more will come",
            ));
        }
        bounds(found, &args.stream)
    })?;
    if held.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} has no log stream {:?} yet",
                job.general.name, args.stream
            ),
        ));
    }
    let mut places = BTreeMap::new();
    for (partition, bounds) in held {
        if args.partition.is_none_or(|only| only == partition.0) {
            let place = match start(args, partition, bounds)? {
                Start::At(place) => place,
                Start::NotBefore(time) => {
                    let at =
                        access.ask(|found| found.log_offset_at(&args.stream, partition, time))?;
                    Place::at(at, Deleted::PassedOver)
                }
            };
            places.insert(partition, place);
        }
    }
    if places.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            format!("stream {:?} has no such partition", args.stream),
        ));
    }
    Ok(places)
}

/// What a partition holds.
#[derive(Clone, Copy)]
struct Bounds {
    oldest: Offset,
    end: Offset,
}

/// The partitions of a log stream; none if the job has no such stream.
fn bounds(job: &dyn JobAccess, stream: &str) -> Result<BTreeMap<PartitionId, Bounds>, Failure> {
    let mut found = job.logs()?;
    found.retain(|log| log.stream == stream);
    let bounds = found.into_iter().map(|log| {
        let bounds = Bounds {
            oldest: log.oldest,
            end: log.end,
        };
        (PartitionId(log.partition), bounds)
    });
    Ok(bounds.collect())
}

/// Where reading begins in a partition.
enum Start {
    At(Place),
    /// At the first message that is not older.
    NotBefore(TimestampMs),
}

fn start(args: &ConsumeArgs, partition: PartitionId, bounds: Bounds) -> Result<Start, Failure> {
    match args.from.as_str() {
        "oldest" => Ok(Start::At(Place::at(bounds.oldest, Deleted::PassedOver))),
        "latest" => Ok(Start::At(Place::at(bounds.end, Deleted::Refused))),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() => {
            let offset: u64 = number.parse().map_err(|_| {
                Failure::new(
                    exit::USAGE,
                    format!("--from {number}: no offset is that large"),
                )
            })?;
            // Without --partition the offset need not be in all of them.
            let beyond = offset > bounds.end && args.partition.is_some();
            if offset < bounds.oldest || beyond {
                return Err(Failure::new(
                    exit::USAGE,
                    format!(
                        "--from {offset}: partition {partition} holds offsets {} to before {}",
                        bounds.oldest, bounds.end
                    ),
                ));
            }
            Ok(Start::At(Place::at(
                offset.min(bounds.end),
                Deleted::Refused,
            )))
        }
        time => {
            let at: jiff::Timestamp = time.parse().map_err(|_| {
                Failure::new(
                    exit::USAGE,
                    format!(
                        "--from {time:?}: write oldest, latest, an offset or a time (RFC 3339)"
                    ),
                )
            })?;
            Ok(Start::NotBefore(at.as_millisecond()))
        }
    }
}

/// Prints messages: as JSON with --json, else key, tab, value.
fn print(
    global: &Global,
    stream: &str,
    partition: PartitionId,
    read: &LogRead,
) -> Result<(), Failure> {
    let mut text = Vec::new();
    if global.json {
        let first = MessageName {
            stream,
            partition: partition.0,
            offset: read.first,
        };
        write_lines(first, &read.messages, &mut text);
        return output::raw(&shown::json(text));
    }
    for index in 0..read.messages.len() {
        let message = read.messages.get(index);
        if let Some(key) = message.key {
            text.extend_from_slice(key);
            text.push(b'\t');
        }
        text.extend_from_slice(message.value.unwrap_or(b"(deleted)"));
        text.push(b'\n');
    }
    // A program gets what the messages are, a person what is fit for a terminal.
    match std::io::stdout().is_terminal() {
        true => output::text(&String::from_utf8_lossy(&text)),
        false => output::raw(&text),
    }
}
