//! Standard output as a stream.
//!
//! The state of a sink is one byte, its version (1): a pipe keeps no account. What was delivered and not yet recorded
//! when the process ended is delivered again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::connectors::encode::{OutputFormat, encode};
use crate::connectors::{Output, Sink, SinkError, Sinks, Writers};
use crate::disk::DiskError;
use crate::model::{Messages, Offset, PartitionId};

const STATE: [u8; 1] = [1];

/// What to write to standard output.
#[derive(Debug, Clone)]
pub struct StdoutOptions {
    /// The stream, by its name in the job file.
    pub stream: String,
    /// How many partitions it has; their lines are mixed, whole deliveries at a time.
    pub partitions: u32,
    /// What a message becomes.
    pub format: OutputFormat,
}

/// Standard output as an output.
pub struct StdoutOutput {
    options: Arc<StdoutOptions>,
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl StdoutOutput {
    /// Standard output of the process.
    pub fn new(options: StdoutOptions) -> StdoutOutput {
        StdoutOutput::to_writer(options, Box::new(io::stdout()))
    }

    /// Any other pipe.
    pub fn to_writer(options: StdoutOptions, writer: Box<dyn Write + Send>) -> StdoutOutput {
        StdoutOutput {
            options: Arc::new(options),
            writer: Arc::new(Mutex::new(writer)),
        }
    }
}

impl Output for StdoutOutput {
    fn partitions(&self) -> u32 {
        self.options.partitions
    }

    fn may_repeat(&self) -> bool {
        true
    }

    fn writers(&self) -> Writers<'_> {
        Writers::Apart(self)
    }
}

impl Sinks for StdoutOutput {
    fn sink(&self, partition: PartitionId) -> Box<dyn Sink> {
        Box::new(StdoutSink {
            options: Arc::clone(&self.options),
            partition: partition.0,
            writer: Arc::clone(&self.writer),
        })
    }
}

struct StdoutSink {
    options: Arc<StdoutOptions>,
    partition: u32,
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Sink for StdoutSink {
    fn check(&self, recorded: Option<&[u8]>, _undelivered: u64) -> Result<(), SinkError> {
        match recorded {
            None | Some([1]) => Ok(()),
            Some(other) => Err(SinkError::Refused {
                path: path(),
                what: format!(
                    "its recorded state has version {}, and this program knows 1",
                    other.first().copied().unwrap_or(0)
                ),
            }),
        }
    }

    fn recover(&mut self, recorded: Option<&[u8]>, undelivered: u64) -> Result<Vec<u8>, SinkError> {
        self.check(recorded, undelivered)?;
        Ok(STATE.to_vec())
    }

    fn encode(&self, first: Offset, messages: &Messages, into: &mut Vec<u8>) {
        let options = &self.options;
        encode(
            options.format,
            &options.stream,
            self.partition,
            first,
            messages,
            into,
        );
    }

    fn deliver(&mut self, encoded: &[u8]) -> Result<Vec<u8>, SinkError> {
        let mut writer = self.writer.lock();
        let written = writer.write_all(encoded).and_then(|()| writer.flush());
        written.map_err(DiskError::of("write to", &path()))?;
        Ok(STATE.to_vec())
    }
}

fn path() -> PathBuf {
    PathBuf::from("standard output")
}
