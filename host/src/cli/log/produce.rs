//! `log produce`.

use std::io::{BufRead, Read};

use clap::Args;

use crate::admin::{BATCH_BYTES, LINE_BYTES};
use crate::cli::{Failure, access, exit, stderr};
use crate::config::{Job, System};
use crate::connectors::JsonMessage;
use crate::disk::Disk;
use crate::model::TimestampMs;

#[derive(Args)]
pub(in crate::cli) struct ProduceArgs {
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

pub(super) fn produce(job: &Job, args: &ProduceArgs, disk: Disk) -> Result<(), Failure> {
    if args.batch == 0 {
        return Err(Failure::new(exit::USAGE, "--batch 0: give at least 1"));
    }
    let partitions = partitions(job, &args.stream)?;
    let mut log = access::appender(job, &args.stream, partitions, disk);
    log.ask(|log| log.ready())?;
    let mut lines = Lines {
        args,
        input: std::io::stdin().lock(),
        number: 0,
    };
    let mut appended = 0;
    loop {
        let before = |failure: Failure, before: &str| {
            let text = format!(
                "{}; {appended} messages were appended before{before}",
                failure.text
            );
            Failure::new(failure.code, text)
        };
        let batch = lines.batch()?.map_err(|failure| before(failure, " it"))?;
        if batch.is_empty() {
            stderr::say(format_args!("{appended} messages appended"));
            return Ok(());
        }
        log.ask(|log| log.append(&batch))
            .map_err(|failure| before(failure, ""))?;
        appended += batch.len();
    }
}

/// How many partitions the job file gives a log stream.
fn partitions(job: &Job, stream: &str) -> Result<u32, Failure> {
    if let Some(System::Log(log)) = job.streams.get(stream).map(|stream| &stream.system) {
        return Ok(log.partitions);
    }
    let known: Vec<&String> = job
        .streams
        .iter()
        .filter(|(_, stream)| matches!(stream.system, System::Log(_)))
        .map(|(name, _)| name)
        .collect();
    Err(Failure::new(
        exit::USAGE,
        format!(
            "job {:?} declares no log stream {stream:?}; its log streams are {known:?}",
            job.general.name
        ),
    ))
}

/// Standard input, line by line.
struct Lines<'a, R> {
    args: &'a ProduceArgs,
    input: R,
    /// Lines read so far.
    number: u64,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next lines as messages, none at the end; inside, what is wrong with one of them.
    fn batch(&mut self) -> Result<Result<Vec<JsonMessage>, Failure>, Failure> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        // A running job is sent the JSON; the batches for a stopped one are the same.
        let mut json = Vec::new();
        while batch.len() < self.args.batch && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let read = self
                .input
                .by_ref()
                .take(LINE_BYTES as u64)
                .read_until(b'\n', &mut line);
            let read = read.map_err(|error| {
                Failure::new(exit::HOST, format!("read standard input: {error}"))
            })?;
            if read == 0 {
                break;
            }
            self.number += 1;
            let message = match line.pop_if(|last| *last == b'\n') {
                None if read == LINE_BYTES => Err(format!("it has {LINE_BYTES} bytes or more")),
                _ => parse(self.args, &line),
            };
            match message {
                Ok(message) => {
                    json.clear();
                    message.write_line(TimestampMs::MIN, &mut json);
                    bytes += json.len();
                    batch.push(message);
                }
                Err(why) => {
                    let text = format!("line {}: {why}", self.number);
                    return Ok(Err(Failure::new(exit::USAGE, text)));
                }
            }
        }
        Ok(Ok(batch))
    }
}

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
