//! `log list`, `produce`, `consume`.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;

use super::client::Client;
use super::{Failure, Global, exit, output, stderr, stopped};
use crate::admin::json;
use crate::checkpoint::directory::Inspected;
use crate::checkpoint::logs::{LogStream, Retention};
use crate::checkpoint::{Committer, CommitterOptions, Holder};
use crate::config::{Job, System};
use crate::connectors::{JsonMessage, MessageName, write_message};
use crate::coordinator::{Produce, View, place};
use crate::disk::Disk;
use crate::model::{Clock, MessageRef, Messages, PartitionId, SystemClock, shown};
use crate::state::Durability;

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Log streams and what they hold
    List,
    /// Append messages from standard input, a line each; durable when it returns
    Produce(ProduceArgs),
    /// Read messages
    Consume(ConsumeArgs),
}

#[derive(Args)]
pub(super) struct ProduceArgs {
    /// The stream
    stream: String,
    /// The key is what lies before the first of these in a line
    #[arg(long, value_name = "TEXT", conflicts_with = "jsonl")]
    key_separator: Option<String>,
    /// Lines are messages as JSON
    #[arg(long)]
    jsonl: bool,
    /// Append so many lines at a time, all or nothing
    #[arg(long, value_name = "LINES", default_value_t = 10_000)]
    batch: usize,
}

#[derive(Args)]
pub(super) struct ConsumeArgs {
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

pub(super) fn log(global: &Global, command: LogCommand, disk: Disk) -> Result<(), Failure> {
    let job = stopped::load(&global.job)?;
    match command {
        LogCommand::List => list(global, &job),
        LogCommand::Produce(args) => produce(&job, &args, disk),
        LogCommand::Consume(args) => consume(global, &job, &args),
    }
}

fn list(global: &Global, job: &Job) -> Result<(), Failure> {
    let asked = |holder: Holder| Client::new(&holder)?.get("/logs");
    let found: Vec<json::LogPartition> = stopped::either(job, asked, || {
        let (_looking, view) = stopped::view(job)?;
        json::logs(&view).map_err(|error| Failure::of(exit::STATE, &error))
    })?;
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

/// Appends to the log of a job, whether it runs or not.
enum Appender {
    Running(Client),
    Stopped {
        committer: Box<Committer>,
        stream: LogStream,
        round_robin: u64,
    },
}

fn produce(job: &Job, args: &ProduceArgs, disk: Disk) -> Result<(), Failure> {
    if args.batch == 0 {
        return Err(Failure::new(exit::USAGE, "--batch 0: give at least 1"));
    }
    let mut appender = appender(job, &args.stream, disk)?;
    let mut input = std::io::stdin().lock();
    let (mut number, mut appended) = (0, 0);
    loop {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < args.batch && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|error| {
                Failure::new(exit::HOST, format!("read standard input: {error}"))
            })?;
            if read == 0 {
                break;
            }
            number += 1;
            bytes += line.len();
            let message = match line.pop_if(|last| *last == b'\n') {
                None if read as u64 == MAX_LINE => Err(format!("it has {MAX_LINE} bytes or more")),
                _ => parse(args, &line),
            };
            batch.push(message.map_err(|why| {
                Failure::new(
                    exit::USAGE,
                    format!("line {number}: {why}; {appended} messages were appended before it"),
                )
            })?);
        }
        if batch.is_empty() {
            stderr::say(format_args!("{appended} messages appended"));
            return Ok(());
        }
        let count = batch.len();
        append(&mut appender, args, batch).map_err(|failure| {
            Failure::new(
                failure.code,
                format!("{}; {appended} messages were appended before", failure.text),
            )
        })?;
        appended += count;
    }
}

/// A batch is appended at so many bytes, however few lines it has.
const BATCH_BYTES: usize = 16 << 20;
/// A line must be shorter.
const MAX_LINE: u64 = 32 << 20;

fn parse(args: &ProduceArgs, line: &[u8]) -> Result<JsonMessage, String> {
    if args.jsonl {
        return JsonMessage::parse(line).map_err(|error| exit::chain(&error));
    }
    let (key, value) = match &args.key_separator {
        None => (None, line),
        Some(separator) => {
            let separator = separator.as_bytes();
            let at = line
                .windows(separator.len().max(1))
                .position(|window| window == separator)
                .ok_or("it has no key separator")?;
            (Some(line[..at].to_vec()), &line[at + separator.len()..])
        }
    };
    Ok(JsonMessage {
        stream: None,
        partition: None,
        offset: None,
        timestamp: None,
        key,
        value: Some(value.to_vec()),
        headers: Vec::new(),
    })
}

fn appender(job: &Job, stream: &str, disk: Disk) -> Result<Appender, Failure> {
    let Some(System::Log(declared)) = job.streams.get(stream).map(|stream| &stream.system) else {
        let known: Vec<&String> = job
            .streams
            .iter()
            .filter(|(_, stream)| matches!(stream.system, System::Log(_)))
            .map(|(name, _)| name)
            .collect();
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} declares no log stream {stream:?}; its log streams are {known:?}",
                job.general.name
            ),
        ));
    };
    let running = |holder: Holder| {
        let client = Client::new(&holder)?;
        client.answers()?;
        Ok(Appender::Running(client))
    };
    let partitions = declared.partitions;
    stopped::either(job, running, || {
        appender_of_stopped(job, stream, partitions, disk.clone())
    })
}

fn appender_of_stopped(
    job: &Job,
    stream: &str,
    partitions: u32,
    disk: Disk,
) -> Result<Appender, Failure> {
    let path = job.general.state_dir.to_path_buf();
    let directory = match stopped::has_state(job) {
        true => stopped::open(job, disk.clone())?,
        false => stopped::create(job, disk.clone())?,
    };
    let catalog = stopped::stream_catalog(&path, &directory, stream, partitions)?;
    let log = LogStream {
        id: catalog.streams[stream].id,
        partitions,
        retention: Retention::default(),
    };
    let options = CommitterOptions {
        logs: vec![log.clone()],
        external: Vec::new(),
        reads: Vec::new(),
        durability: Durability::Sync,
        disk,
    };
    let mut committer = Committer::open(directory, &options)?;
    committer.register(&catalog, &[])?;
    Ok(Appender::Stopped {
        committer: Box::new(committer),
        stream: log,
        round_robin: 0,
    })
}

fn append(
    appender: &mut Appender,
    args: &ProduceArgs,
    batch: Vec<JsonMessage>,
) -> Result<(), Failure> {
    let now = SystemClock.now_ms();
    match appender {
        Appender::Running(client) => {
            let mut body = Vec::new();
            for message in &batch {
                let mut one = Messages::default();
                message.push_to(&mut one, now);
                write_produced(message.partition, one.get(0), &mut body);
            }
            client
                .ask(Method::POST, &format!("/logs/{}", args.stream), body)
                .map(|_| ())
        }
        Appender::Stopped {
            committer,
            stream,
            round_robin,
        } => {
            let messages = batch.iter().map(|message| {
                let mut one = Messages::default();
                message.push_to(&mut one, now);
                Produce {
                    partition: message.partition.map(PartitionId),
                    message: one,
                }
            });
            let placed = place(messages.collect(), stream.partitions, round_robin)
                .map_err(|why| Failure::new(exit::USAGE, why))?;
            committer.append(stream.id, &placed.by_partition, now)?;
            Ok(())
        }
    }
}

/// The JSON of a message without a place, or with its partition only.
fn write_produced(partition: Option<u32>, message: MessageRef<'_>, into: &mut Vec<u8>) {
    let start = into.len();
    let name = MessageName {
        stream: "",
        partition: partition.unwrap_or(0),
        offset: 0,
    };
    write_message(name, message, into);
    if partition.is_none() {
        // `"partition":0,` is what is not given.
        let given = b"\"partition\":0,";
        if let Some(at) = into[start..]
            .windows(given.len())
            .position(|window| window == given)
        {
            into.drain(start + at..start + at + given.len());
        }
    }
    into.push(b'\n');
}

/// Where messages come from: a job that runs, or the state of one that does not.
enum Reader {
    Running(Client),
    Stopped(Box<(Inspected, View)>),
}

#[derive(Clone, Copy)]
struct Bounds {
    oldest: u64,
    end: u64,
}

impl Reader {
    fn bounds(&self, stream: &str) -> Result<BTreeMap<u32, Bounds>, Failure> {
        let found: Vec<json::LogPartition> = match self {
            Reader::Running(client) => client.get("/logs")?,
            Reader::Stopped(held) => {
                json::logs(&held.1).map_err(|error| Failure::of(exit::STATE, &error))?
            }
        };
        Ok(found
            .into_iter()
            .filter(|log| log.stream == stream)
            .map(|log| {
                (
                    log.partition,
                    Bounds {
                        oldest: log.oldest,
                        end: log.end,
                    },
                )
            })
            .collect())
    }

    /// JSON lines from an offset on, and the offset after them.
    fn read(
        &self,
        stream: &str,
        partition: u32,
        from: u64,
        limit: u64,
    ) -> Result<(Vec<u8>, u64), Failure> {
        match self {
            Reader::Running(client) => {
                let path =
                    format!("/logs/{stream}?partition={partition}&from={from}&limit={limit}");
                let answer = client.ask(Method::GET, &path, Vec::new())?;
                Ok((answer.body.to_vec(), answer.next.unwrap_or(from)))
            }
            Reader::Stopped(held) => {
                let view = &held.1;
                let record = view
                    .log_stream(stream)
                    .map_err(|error| Failure::of(exit::STATE, &error))?;
                let Some(record) = record else {
                    return Ok((Vec::new(), from));
                };
                let read = view.log_read(record.id, PartitionId(partition), from, 1 << 20)?;
                let count = (read.messages.len() as u64).min(limit);
                let mut lines = Vec::new();
                for index in 0..count {
                    let name = MessageName {
                        stream,
                        partition,
                        offset: read.first + index,
                    };
                    write_message(
                        name,
                        read.messages.get(usize::try_from(index).unwrap_or(0)),
                        &mut lines,
                    );
                    lines.push(b'\n');
                }
                Ok((lines, read.first + count))
            }
        }
    }
}

fn consume(global: &Global, job: &Job, args: &ConsumeArgs) -> Result<(), Failure> {
    let running = |holder: Holder| {
        let reader = Reader::Running(Client::new(&holder)?);
        Ok((reader.bounds(&args.stream)?, reader))
    };
    let (bounds, reader) = stopped::either(job, running, || {
        if args.follow {
            return Err(Failure::new(
                exit::USAGE,
                "--follow: the job does not run, so nothing more will come",
            ));
        }
        let reader = Reader::Stopped(Box::new(stopped::view(job)?));
        Ok((reader.bounds(&args.stream)?, reader))
    })?;
    if bounds.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} has no log stream {:?} yet",
                job.general.name, args.stream
            ),
        ));
    }
    let mut places = BTreeMap::new();
    for (partition, bounds) in bounds {
        if args.partition.is_none_or(|only| only == partition) {
            places.insert(partition, start(&reader, args, partition, bounds)?);
        }
    }
    if places.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            format!("stream {:?} has no such partition", args.stream),
        ));
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    loop {
        let now = reader.bounds(&args.stream)?;
        for (partition, next) in &mut places {
            let end = now.get(partition).map_or(0, |bounds| bounds.end);
            while *next < end && left > 0 {
                let (lines, after) =
                    reader.read(&args.stream, *partition, *next, left.min(end - *next))?;
                left -= after - *next;
                if after == *next {
                    break;
                }
                *next = after;
                print(global, &lines)?;
            }
        }
        if left == 0 || !args.follow {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(
    reader: &Reader,
    args: &ConsumeArgs,
    partition: u32,
    bounds: Bounds,
) -> Result<u64, Failure> {
    match args.from.as_str() {
        "oldest" => Ok(bounds.oldest),
        "latest" => Ok(bounds.end),
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
            Ok(offset.min(bounds.end))
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
            first_not_before(reader, args, partition, bounds, at.as_millisecond())
        }
    }
}

#[derive(Deserialize)]
struct Timed {
    offset: u64,
    timestamp: i64,
}

fn first_not_before(
    reader: &Reader,
    args: &ConsumeArgs,
    partition: u32,
    bounds: Bounds,
    time: i64,
) -> Result<u64, Failure> {
    let mut next = bounds.oldest;
    while next < bounds.end {
        let (lines, after) = reader.read(&args.stream, partition, next, bounds.end - next)?;
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if let Ok(message) = serde_json::from_slice::<Timed>(line)
                && message.timestamp >= time
            {
                return Ok(message.offset);
            }
        }
        if after == next {
            break;
        }
        next = after;
    }
    Ok(bounds.end)
}

/// Prints messages: as they are with --json, else key, tab, value.
fn print(global: &Global, lines: &[u8]) -> Result<(), Failure> {
    if global.json {
        return output::raw(&shown::json(lines.to_vec()));
    }
    let mut text = Vec::new();
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let Ok(message) = JsonMessage::parse(line) else {
            text.extend_from_slice(line);
            text.push(b'\n');
            continue;
        };
        if let Some(key) = &message.key {
            text.extend_from_slice(key);
            text.push(b'\t');
        }
        text.extend_from_slice(message.value.as_deref().unwrap_or(b"(deleted)"));
        text.push(b'\n');
    }
    // A program gets what the messages are, a person what is fit for a terminal.
    match std::io::stdout().is_terminal() {
        true => output::text(&String::from_utf8_lossy(&text)),
        false => output::raw(&text),
    }
}
