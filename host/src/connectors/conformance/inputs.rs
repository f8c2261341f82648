//! The inputs.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::check_input;
use crate::connectors::file::{
    FileFormat, FileInput, FileInputOptions, TimestampFormat, TimestampSpec,
};
use crate::connectors::generate::{Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT};
use crate::connectors::log::{LogInput, LogRead, LogReader, Unread};
use crate::connectors::stdio::{StdinInput, StdinOptions};
use crate::connectors::testing::{ALL, Folder, Item, Random, Reading, drain, gzip, oldest, read};
use crate::connectors::{FetchBounds, Input, OpenAt, Polled, Progress, Ready, Source, SourceError};
use crate::model::{ManualClock, MessageRef, Messages, Offset, PartitionId, StreamId, TimestampMs};

/// Files of a format with what is hard in it, and how many records they have.
fn records(format: FileFormat, random: &mut Random, count: u64, final_line_end: bool) -> Vec<u8> {
    let mut text = Vec::new();
    if random.below(2) == 0 {
        text.extend_from_slice(b"\xef\xbb\xbf");
    }
    if format == FileFormat::Csv {
        text.extend_from_slice(b"key,\"ti\"\"me\",text\r\n");
    }
    for number in 0..count {
        let (key, time) = (random.below(20), 1000 + random.below(1000));
        let record = match (format, random.below(8)) {
            (FileFormat::Lines, 0) => String::new(),
            (FileFormat::Lines, _) => {
                format!("line {number} {}", "x".repeat(random.below(40) as usize))
            }
            (FileFormat::Csv, 0) => format!("k{key},{time},\"a\"\"b\r\n,\n{number}\""),
            (FileFormat::Csv, 1) => format!("k{key},{time}"),
            (FileFormat::Csv, 2) => format!("k{key},late,{number}"),
            (FileFormat::Csv, 3) => format!("k{key},{time},{number}\n"),
            (FileFormat::Csv, _) => {
                format!("k{key},{time},{}", "y".repeat(random.below(40) as usize))
            }
            (FileFormat::Jsonl, 0) => format!("{{\"at\":{time},\"n\":{number}}}"),
            (FileFormat::Jsonl, 1) => format!("{{\"key\":\"k{key}\",\"at\":{time}"),
            (FileFormat::Jsonl, 2) => format!("\r\n{{\"key\":\"k{key}\",\"at\":\"late\"}}"),
            (FileFormat::Jsonl, _) => {
                format!("{{\"key\":\"k{key}\",\"at\":{time},\"n\":[{number}]}}")
            }
        };
        text.extend_from_slice(record.as_bytes());
        let line_end: &[u8] = match (number + 1 == count && !final_line_end, random.below(2)) {
            (true, _) => b"",
            (_, 0) => b"\n",
            _ => b"\r\n",
        };
        text.extend_from_slice(line_end);
    }
    text
}

fn options(folder: &Folder, name: &str, format: FileFormat, partitions: u32) -> FileInputOptions {
    let (key, field) = match format {
        FileFormat::Csv => ("key", "ti\"me"),
        FileFormat::Jsonl => ("/key", "at"),
        FileFormat::Lines => ("", ""),
    };
    let timed = format != FileFormat::Lines;
    FileInputOptions {
        path: folder.pattern(name),
        format,
        key: timed.then(|| key.to_owned()),
        timestamp: timed.then(|| TimestampSpec {
            field: field.to_owned(),
            format: TimestampFormat::UnixMs,
        }),
        partitions,
        follow: false,
        drop_unread: false,
        record_bytes: 200,
    }
}

fn input(options: FileInputOptions) -> FileInput {
    FileInput::new(options, Arc::new(ManualClock::new(77))).unwrap()
}

#[test]
fn files_of_every_format() {
    for seed in 0..6 {
        let mut random = Random(seed);
        for format in [FileFormat::Csv, FileFormat::Jsonl, FileFormat::Lines] {
            let folder = Folder::new();
            folder.write("b", records(format, &mut random, 15, false));
            folder.write("a", records(format, &mut random, 12, true));
            folder.write("c.gz", gzip(&records(format, &mut random, 9, false)));
            folder.write("d", "");
            folder.write(".e", "hidden\n");
            let counts: &[u32] = match format {
                FileFormat::Lines => &[1],
                _ => &[1, 3],
            };
            for partitions in counts {
                // A blank last line without line end is no record.
                let all = options(&folder, "*", format, *partitions);
                let expected =
                    36 - u64::from(format == FileFormat::Lines) * blanks(&input(all.clone()));
                check_input(&input(all), usize::try_from(expected).unwrap());
                let one = options(&folder, "a", format, *partitions);
                check_input(&input(one.clone()), 12);
                if seed == 0 {
                    check_input(
                        &input(FileInputOptions {
                            follow: true,
                            ..one
                        }),
                        12,
                    );
                }
            }
        }
    }
}

/// How many of three files end in an empty line without line end.
fn blanks(input: &FileInput) -> u64 {
    36 - read(input, 0, oldest(), ALL).unwrap().items.len() as u64
}

#[test]
fn synthetic_messages() {
    for distribution in [
        Distribution::Uniform,
        Distribution::Zipfian,
        Distribution::Sequential,
    ] {
        let generate = |partitions, count| {
            let options = GenerateOptions {
                count,
                rate: None,
                keys: 50,
                distribution,
                value_bytes: 13,
                seed: 5,
                partitions,
                start_ms: START_MS_DEFAULT,
            };
            GenerateInput::new(options).unwrap()
        };
        check_input(&generate(1, Some(100)), 100);
        check_input(&generate(4, Some(100)), 100);
        check_input(&generate(4, Some(0)), 0);
        let one = read(&generate(1, Some(100)), 0, oldest(), ALL)
            .unwrap()
            .items;
        let mut four: Vec<Item> = (0..4)
            .flat_map(|partition| {
                read(&generate(4, Some(100)), partition, oldest(), ALL)
                    .unwrap()
                    .items
            })
            .collect();
        four.sort_by_key(Item::offset);
        assert_eq!(
            one, four,
            "what a stream holds does not depend on its partitions"
        );
    }
}

/// A new pipe with the same bytes for each reader.
struct Piped(Vec<u8>, FileFormat);

impl Input for Piped {
    fn partitions(&self) -> u32 {
        1
    }

    fn bounded(&self) -> bool {
        true
    }

    fn rewindable(&self) -> bool {
        false
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let options = StdinOptions {
            format: self.1,
            key: (self.1 == FileFormat::Jsonl).then(|| "key".to_owned()),
            timestamp: None,
            record_bytes: 1000,
        };
        let pipe = Box::new(std::io::Cursor::new(self.0.clone()));
        let clock = Arc::new(ManualClock::new(9));
        let input = StdinInput::from_reader(&options, clock, pipe).unwrap();
        Ok(Box::new(Patient(input.open(partition, at)?)))
    }
}

/// Waits if there is nothing yet.
struct Patient(Box<dyn Source>);

impl Source for Patient {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        loop {
            match self.0.poll(bounds)? {
                Polled::Idle => tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap()
                    .block_on(self.0.ready()),
                polled => return Ok(polled),
            }
        }
    }

    fn ready(&mut self) -> Ready<'_> {
        self.0.ready()
    }

    fn progress(&self) -> Option<Progress> {
        self.0.progress()
    }
}

#[test]
fn standard_input() {
    let mut random = Random(5);
    for format in [FileFormat::Lines, FileFormat::Jsonl] {
        for count in [0, 1, 30, 2000] {
            for final_line_end in [true, false] {
                let bytes = records(format, &mut random, count, final_line_end);
                let whole = read(&Piped(bytes.clone(), format), 0, oldest(), ALL).unwrap();
                assert!(
                    whole.items.len() as u64 >= count / 2,
                    "{}",
                    whole.items.len()
                );
                check_input(&Piped(bytes, format), whole.items.len());
            }
        }
    }
}

/// A log in memory, in chunks of three messages.
#[derive(Default)]
struct MemoryLog {
    partitions: Mutex<Vec<(Offset, Messages)>>,
    grown: Notify,
}

impl MemoryLog {
    fn append(&self, partition: usize, value: &str) {
        let message = MessageRef::new(None, Some(value.as_bytes()), 0);
        self.partitions.lock()[partition].1.push(message);
        self.grown.notify_waiters();
    }
}

impl LogReader for MemoryLog {
    fn read(
        &self,
        _: StreamId,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, SourceError> {
        let partitions = self.partitions.lock();
        let (oldest, messages) = &partitions[partition.index()];
        let from_index = usize::try_from(from - oldest).unwrap();
        let mut read = LogRead {
            first: from,
            ..LogRead::default()
        };
        let mut to = from_index;
        while to < messages.len() && (to == from_index || read.messages.data_len() < bytes_max) {
            let next = (to / 3 * 3 + 3).min(messages.len());
            read.messages.extend_from(messages, to..next);
            to = next;
        }
        Ok(read)
    }

    fn bounds(&self, _: StreamId, partition: PartitionId) -> (Offset, Offset) {
        let partitions = self.partitions.lock();
        let (oldest, messages) = &partitions[partition.index()];
        (*oldest, oldest + messages.len() as u64)
    }

    fn offset_at(
        &self,
        _: StreamId,
        _: PartitionId,
        _: TimestampMs,
    ) -> Result<Offset, SourceError> {
        Ok(0)
    }

    fn past(&self, stream: StreamId, partition: PartitionId, end: Offset) -> Ready<'_> {
        Box::pin(async move {
            loop {
                let grown = self.grown.notified();
                if self.bounds(stream, partition).1 > end {
                    return;
                }
                grown.await;
            }
        })
    }
}

fn memory_log(counts: &[u64]) -> Arc<MemoryLog> {
    let log = MemoryLog::default();
    for (partition, count) in counts.iter().enumerate() {
        log.partitions.lock().push((0, Messages::default()));
        (0..*count).for_each(|number| log.append(partition, &format!("{partition}/{number}")));
    }
    Arc::new(log)
}

#[test]
fn the_log() {
    for count in [0, 1, 3, 20] {
        let log = memory_log(&[count]);
        check_input(
            &LogInput::new(log, StreamId(0), 1, Unread::Kept),
            count as usize,
        );
    }
}

/// A wait that ends because there is more.
async fn wakes(input: &dyn Input, append: impl FnOnce()) -> Reading {
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    drain(source.as_mut(), ALL).unwrap();
    // A wait may end early, but must come to rest.
    let rest = std::time::Duration::from_millis(100);
    while tokio::time::timeout(rest, source.ready()).await.is_ok() {
        assert_eq!(drain(source.as_mut(), ALL).unwrap().items, []);
    }
    append();
    let began = std::time::Instant::now();
    loop {
        source.ready().await;
        let reading = drain(source.as_mut(), ALL).unwrap();
        if !reading.items.is_empty() {
            // Well below the second after which a follower looks without having been told.
            assert!(began.elapsed().as_millis() < 500, "{:?}", began.elapsed());
            return reading;
        }
    }
}

#[tokio::test]
async fn waiting_ends_when_there_is_more() {
    let log = memory_log(&[3]);
    let reading = wakes(
        &LogInput::new(log.clone(), StreamId(0), 1, Unread::Kept),
        || log.append(0, "new"),
    )
    .await;
    assert_eq!(reading.texts(), ["new"]);
    let folder = Folder::new();
    folder.write("a.log", "one\n");
    let follow = |name| {
        let options = options(&folder, name, FileFormat::Lines, 1);
        input(FileInputOptions {
            follow: true,
            ..options
        })
    };
    let reading = wakes(&follow("*.log"), || folder.append("a.log", "two\n")).await;
    assert_eq!(reading.texts(), ["two"]);
    let reading = wakes(&follow("*.log"), || folder.write("b.log", "three\n")).await;
    assert_eq!(reading.texts(), ["three"]);
    let reading = wakes(&follow("c.log"), || folder.write("c.log", "four\n")).await;
    assert_eq!(reading.texts(), ["four"]);
}
