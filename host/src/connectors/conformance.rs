//! What every system must do, checked the same way for each.
//!
//! Inputs: chunks of any size give the same sequence; a reader opened at any position that was given goes on exactly
//! there; the partitions have every message once, in order, by key; the end is the end each time. Outputs: whatever step
//! the process ends at, each delivered byte stands there once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::file::{
    FileFormat, FileInput, FileInputOptions, FileOutput, FileOutputOptions, TimestampFormat,
    TimestampSpec,
};
use super::generate::{Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT};
use super::log::{LogInput, LogRead, LogReader, Unread};
use super::stdio::{StdinInput, StdinOptions, StdoutOptions, StdoutOutput};
use super::testing::{ALL, Folder, Item, Random, Reading, drain, gzip, oldest, read};
use super::{
    FetchBounds, Input, OpenAt, Output, OutputFormat, Polled, Progress, Ready, Source, SourceError,
};
use crate::model::{
    Detail, ManualClock, MessageRef, Messages, Offset, PartitionId, StartAt, Steps, StreamId,
    TimestampMs, partition_of_key,
};

/// What every input must do, with so many messages in it.
pub(crate) fn check_input(input: &dyn Input, expected: usize) {
    let partitions = input.partitions();
    let readings: Vec<Reading> = (0..partitions)
        .map(|partition| check_partition(input, partition))
        .collect();
    let mut offsets: Vec<u64> = readings
        .iter()
        .flat_map(|reading| &reading.items)
        .map(Item::offset)
        .collect();
    assert_eq!(offsets.len(), expected, "each message is in one partition");
    offsets.sort_unstable();
    offsets.dedup();
    for (partition, reading) in (0..).zip(&readings) {
        for item in &reading.items {
            if let Item::Message { key: Some(key), .. } = item {
                let owner = partition_of_key(key.as_bytes(), partitions);
                assert!(
                    partitions == 1 || owner == partition,
                    "{key} in partition {partition}"
                );
            }
        }
    }
}

fn check_partition(input: &dyn Input, partition: u32) -> Reading {
    let whole = read(input, partition, oldest(), ALL).unwrap();
    assert!(whole.items.is_sorted_by(|a, b| a.offset() < b.offset()));
    assert_eq!(whole.end.is_some(), input.bounded());
    let mut positions = whole.positions.clone();
    for (messages, bytes) in [
        (1, usize::MAX),
        (2, usize::MAX),
        (7, usize::MAX),
        (1000, 1),
        (1000, 100),
    ] {
        let parts = read(input, partition, oldest(), FetchBounds { messages, bytes }).unwrap();
        assert_eq!(
            parts.items, whole.items,
            "in parts of {messages} messages, {bytes} bytes"
        );
        assert_eq!(parts.end, whole.end);
        positions.extend(parts.positions);
    }
    let mut source = input.open(PartitionId(partition), oldest()).unwrap();
    drain(source.as_mut(), ALL).unwrap();
    let again = drain(source.as_mut(), ALL).unwrap();
    assert_eq!(again.items, [], "nothing comes twice");
    assert_eq!(again.end, whole.end);
    if let Some(progress) = source.progress() {
        assert_eq!(progress.done, progress.total);
    }
    if !input.rewindable() {
        return whole;
    }
    positions.sort_by_key(|at| (at.next, at.detail.as_ref().map(Detail::to_vec)));
    positions.dedup();
    let after = |next| whole.items.iter().filter(move |item| item.offset() >= next);
    for position in positions {
        let next = position.next;
        let rest = read(input, partition, OpenAt::Position(position), ALL).unwrap();
        assert!(after(next).eq(&rest.items), "from {next}: {:?}", rest.items);
        assert_eq!(rest.end, whole.end);
    }
    if let Some(end) = &whole.end {
        let again = read(input, partition, OpenAt::Position(end.clone()), ALL).unwrap();
        assert_eq!(again.items, []);
        assert_eq!(again.end, whole.end);
    }
    let end = match (&whole.end, whole.items.last()) {
        (Some(end), _) => end.next,
        (None, Some(last)) => last.offset() + 1,
        (None, None) => 0,
    };
    for offset in [0, end.min(1), end / 2, end] {
        let rest = read(
            input,
            partition,
            OpenAt::Start(StartAt::Offset(offset)),
            ALL,
        )
        .unwrap();
        assert!(after(offset).eq(&rest.items), "start at {offset}");
    }
    let beyond = read(
        input,
        partition,
        OpenAt::Start(StartAt::Offset(end + 1000)),
        ALL,
    );
    assert!(
        matches!(beyond, Err(SourceError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    let latest = read(input, partition, OpenAt::Start(StartAt::Latest), ALL).unwrap();
    assert_eq!(latest.items, []);
    assert_eq!(latest.end, whole.end);
    whole
}

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

/// Waits where there is nothing yet.
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

/// Ends the process, as it were, before a step.
struct EndBefore {
    left: AtomicI64,
    /// Cuts this file at a random place behind the recorded length, as when a write was under way.
    torn: Mutex<Option<(PathBuf, Random)>>,
    recorded: AtomicI64,
}

impl Steps for EndBefore {
    fn before(&self, step: &'static str) {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return;
        }
        if let (Some((path, random)), "sink.sync") = (&mut *self.torn.lock(), step) {
            let length = std::fs::metadata(&*path).map_or(0, |metadata| metadata.len());
            let recorded = self.recorded.load(Ordering::SeqCst) as u64;
            if length > recorded {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(recorded + random.below(length - recorded))
                    .unwrap();
            }
        }
        resume_unwind(Box::new(step));
    }
}

/// What a checkpoint holds of a sink.
#[derive(Default)]
struct Checkpoint {
    state: Option<Vec<u8>>,
    outbox: Vec<u8>,
    epochs: usize,
}

/// The length in the state of a file sink.
fn recorded_length(state: &[u8]) -> i64 {
    state
        .get(17..25)
        .map_or(0, |bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
}

/// Runs the epochs that are left, as the commit protocol does, until done or unwound.
fn run_epochs(
    output: &dyn Output,
    epochs: &[Messages],
    checkpoint: &mut Checkpoint,
    steps: &EndBefore,
) {
    let mut sink = output.sink(PartitionId(0));
    let undelivered = checkpoint.outbox.len() as u64;
    let recorded = checkpoint.state.as_deref().map_or(0, recorded_length);
    steps.recorded.store(recorded, Ordering::SeqCst);
    let mut state = sink
        .recover(checkpoint.state.as_deref(), undelivered)
        .unwrap();
    if checkpoint.epochs > 0 {
        state = sink.deliver(&checkpoint.outbox).unwrap();
    }
    while checkpoint.epochs <= epochs.len() {
        // The decision point: all of it or nothing is durable.
        checkpoint.outbox.clear();
        if let Some(messages) = epochs.get(checkpoint.epochs) {
            sink.encode(0, messages, &mut checkpoint.outbox);
        }
        steps
            .recorded
            .store(recorded_length(&state), Ordering::SeqCst);
        checkpoint.state = Some(state);
        checkpoint.epochs += 1;
        state = sink.deliver(&checkpoint.outbox).unwrap();
    }
}

fn epochs() -> (Vec<Messages>, String) {
    let mut random = Random(3);
    let (mut epochs, mut expected) = (Vec::new(), String::new());
    for epoch in 0..4 {
        let mut messages = Messages::default();
        for number in 0..epoch % 3 * 2 {
            let value = format!("{epoch}/{number} {}", "z".repeat(random.below(9) as usize));
            messages.push(MessageRef::new(None, Some(value.as_bytes()), 0));
            expected += &format!("{value}\n");
        }
        epochs.push(messages);
    }
    (epochs, expected)
}

#[test]
fn a_file_has_every_byte_once_wherever_the_process_ends() {
    let (epochs, expected) = epochs();
    let mut ends = 0;
    for torn in [false, true] {
        for first in 0.. {
            let mut second = 0;
            loop {
                let folder = Folder::new();
                let options = FileOutputOptions {
                    folder: folder.path().join("deep/out"),
                    stream: "results".to_owned(),
                    partitions: 1,
                    format: OutputFormat::Lines,
                };
                let path = options.folder.join("results-0-0");
                let mut checkpoint = Checkpoint::default();
                let mut unwound = Vec::new();
                for left in [first, second, i64::MAX] {
                    let steps = Arc::new(EndBefore {
                        left: AtomicI64::new(left),
                        torn: Mutex::new(torn.then(|| (path.clone(), Random(first as u64)))),
                        recorded: AtomicI64::new(0),
                    });
                    let output = FileOutput::new(options.clone(), steps.clone());
                    let run = || run_epochs(&output, &epochs, &mut checkpoint, &steps);
                    unwound.push(catch_unwind(AssertUnwindSafe(run)).is_err());
                }
                assert!(!unwound[2]);
                let content = std::fs::read_to_string(&path).unwrap();
                assert_eq!(
                    content, expected,
                    "ended before step {first}, then before step {second}"
                );
                ends += 1;
                second += 1;
                if !unwound[1] {
                    break;
                }
            }
            if first > 12 {
                break;
            }
        }
    }
    assert!(ends > 100, "{ends}");
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn standard_output_has_every_message_and_may_have_it_again() {
    let (epochs, expected) = epochs();
    let steps = EndBefore {
        left: AtomicI64::new(i64::MAX),
        torn: Mutex::new(None),
        recorded: AtomicI64::new(0),
    };
    let shared = Shared::default();
    let options = StdoutOptions {
        stream: "results".to_owned(),
        partitions: 1,
        format: OutputFormat::Lines,
    };
    let output = StdoutOutput::to_writer(options, Box::new(shared.clone()));
    assert!(output.may_repeat());
    let mut checkpoint = Checkpoint::default();
    run_epochs(&output, &epochs[..3], &mut checkpoint, &steps);
    checkpoint.epochs = 3;
    run_epochs(&output, &epochs, &mut checkpoint, &steps);
    assert_eq!(
        String::from_utf8(shared.0.lock().clone()).unwrap(),
        expected
    );
    let mut sink = output.sink(PartitionId(0));
    assert_eq!(sink.recover(Some(&[1]), 2).unwrap(), [1]);
    sink.deliver(b"x\n").unwrap();
    sink.recover(Some(&[1]), 2).unwrap();
    sink.deliver(b"x\n").unwrap();
    assert_eq!(
        String::from_utf8(shared.0.lock().clone()).unwrap(),
        expected + "x\nx\n"
    );
    assert!(sink.recover(Some(&[2]), 0).is_err());
}
