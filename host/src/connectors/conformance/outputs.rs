//! The outputs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::connectors::file::{FileOutput, FileOutputOptions};
use crate::connectors::stdio::{StdoutOptions, StdoutOutput};
use crate::connectors::testing::{Folder, Random};
use crate::connectors::{Output as _, OutputFormat, Sinks};
use crate::disk::{Disk, Steps};
use crate::model::{MessageRef, Messages, PartitionId};

/// Ends the process, as it were, before a step.
struct EndBefore {
    left: AtomicI64,
    /// Cuts this file at a random place behind the recorded length, as when a write was under way.
    torn: Mutex<Option<(PathBuf, Random)>>,
    recorded: AtomicI64,
}

impl Steps for EndBefore {
    fn before(&self, step: &'static str) -> std::io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(());
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
    output: &dyn Sinks,
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
                    let output = FileOutput::new(options.clone(), Disk::new(steps.clone()));
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
