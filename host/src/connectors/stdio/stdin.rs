//! Standard input as a stream of one partition.
//!
//! A thread of its own reads, at most [`CHUNKS_MAX`] chunks ahead, so that a poll never waits. Records are cut,
//! decoded and numbered as those of files; the numbers go on from the recorded position. Invariant: there is one reader
//! at a time; what it has not given out when it is dropped, the next one gives.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::connectors::file::{
    Decoded, Decoder, FileFormat, Framing, Record, Records, Share, TimestampSpec,
};
use crate::connectors::{
    FetchBounds, Fetched, Input, OpenAt, Polled, Progress, Ready, Source, SourceError,
};
use crate::model::{Clock, Offset, PartitionId, Position, StartAt};

/// How many chunks are read ahead.
const CHUNKS_MAX: usize = 16;

/// The most bytes of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// What to read from standard input.
#[derive(Debug, Clone)]
pub struct StdinOptions {
    /// What a record is: lines or JSON Lines.
    pub format: FileFormat,
    /// Where the key is: a JSON pointer, or the name of a top-level member.
    pub key: Option<String>,
    /// Where the timestamp is. `None`: the time of reading.
    pub timestamp: Option<TimestampSpec>,
    /// A record longer than this, without its line end, is not a message.
    pub record_bytes: usize,
}

/// Standard input as a bounded input.
pub struct StdinInput {
    clock: Arc<dyn Clock>,
    record_bytes: usize,
    pipe: Arc<Mutex<Option<Pipe>>>,
}

/// The reading end, and what has been read.
struct Pipe {
    reader: Option<Box<dyn Read + Send>>,
    chunks: Option<mpsc::Receiver<io::Result<Vec<u8>>>>,
    records: Records,
    decoder: Decoder,
}

impl StdinInput {
    /// Standard input of the process; `clock` gives the time of reading. Reads nothing yet.
    ///
    /// # Errors
    /// The options do not fit together; a sentence that says why.
    pub fn new(options: &StdinOptions, clock: Arc<dyn Clock>) -> Result<StdinInput, String> {
        StdinInput::from_reader(options, clock, Box::new(io::stdin()))
    }

    /// Any other pipe.
    ///
    /// # Errors
    /// As [`StdinInput::new`].
    pub fn from_reader(
        options: &StdinOptions,
        clock: Arc<dyn Clock>,
        reader: Box<dyn Read + Send>,
    ) -> Result<StdinInput, String> {
        if options.format == FileFormat::Csv {
            return Err("standard input is read as `lines` or `jsonl`".to_owned());
        }
        if options.record_bytes == 0 {
            return Err("`record-bytes` is at least 1".to_owned());
        }
        let share = Share {
            partition: 0,
            partitions: 1,
        };
        let decoder = Decoder::new(
            options.format,
            options.key.as_deref(),
            options.timestamp.as_ref(),
            share,
        )?;
        let pipe = Pipe {
            reader: Some(reader),
            chunks: None,
            records: Records::new(Framing::Lines, options.record_bytes),
            decoder,
        };
        Ok(StdinInput {
            clock,
            record_bytes: options.record_bytes,
            pipe: Arc::new(Mutex::new(Some(pipe))),
        })
    }
}

impl Input for StdinInput {
    fn partitions(&self) -> u32 {
        1
    }

    fn bounded(&self) -> bool {
        true
    }

    fn rewindable(&self) -> bool {
        false
    }

    fn open(&self, _partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let next = match at {
            OpenAt::Position(position) => position.next,
            OpenAt::Start(StartAt::Oldest | StartAt::Latest) => 0,
            OpenAt::Start(StartAt::Group) => return Err(SourceError::no_group()),
            OpenAt::Start(StartAt::Offset(_) | StartAt::Time(_)) => {
                return Err(SourceError::Unsupported(
                    "standard input cannot start at an offset or at a time; leave `start` out"
                        .to_owned(),
                ));
            }
        };
        let taken = self.pipe.lock().take();
        let mut pipe = taken.ok_or_else(|| {
            SourceError::Unsupported("standard input is being read already".to_owned())
        })?;
        let begun = pipe.begin();
        let source = StdinSource {
            slot: Arc::clone(&self.pipe),
            clock: Arc::clone(&self.clock),
            record_bytes: self.record_bytes,
            pipe: Some(pipe),
            next,
            undecodable: None,
            chunk: None,
        };
        begun.map_err(unreadable)?;
        Ok(Box::new(source))
    }
}

impl Pipe {
    /// Starts the thread that reads.
    fn begin(&mut self) -> io::Result<()> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(());
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        self.chunks = Some(chunks);
        let read = move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(read) => {
                        chunk.truncate(read);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let last = read.is_err();
                if sender.blocking_send(read).is_err() || last {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(read)?;
        Ok(())
    }

    fn push(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let spare = self.records.spare();
            let bytes = spare.len().min(chunk.len());
            spare[..bytes].copy_from_slice(&chunk[..bytes]);
            self.records.filled(bytes);
            chunk = &chunk[bytes..];
        }
    }
}

/// What the channel had.
enum Chunk {
    Bytes(io::Result<Vec<u8>>),
    Ended,
}

struct StdinSource {
    slot: Arc<Mutex<Option<Pipe>>>,
    clock: Arc<dyn Clock>,
    record_bytes: usize,
    /// There until the source is dropped.
    pipe: Option<Pipe>,
    next: Offset,
    /// A bad record, found after messages that had to be returned first: the record and the reason.
    undecodable: Option<(Vec<u8>, u64, String)>,
    /// A chunk that came during a wait.
    chunk: Option<Chunk>,
}

impl Drop for StdinSource {
    fn drop(&mut self) {
        if let (Some(pipe), Some(Chunk::Bytes(Ok(chunk)))) = (&mut self.pipe, &self.chunk) {
            pipe.push(chunk);
        }
        *self.slot.lock() = self.pipe.take();
    }
}

impl StdinSource {
    /// The next record, of what has come. Once the pipe has ended, `chunk` says so.
    fn next_record(&mut self) -> Result<Option<Record>, SourceError> {
        loop {
            let record = self.pipe.as_mut().and_then(|pipe| pipe.records.next());
            if record.is_some() {
                return Ok(record);
            }
            match self.next_chunk() {
                None => return Ok(None),
                Some(Chunk::Ended) => {
                    self.chunk = Some(Chunk::Ended);
                    return Ok(self.pipe.as_mut().and_then(|pipe| pipe.records.rest()));
                }
                Some(Chunk::Bytes(chunk)) => {
                    let chunk = chunk.map_err(unreadable)?;
                    if let Some(pipe) = &mut self.pipe {
                        pipe.push(&chunk);
                    }
                }
            }
        }
    }

    fn next_chunk(&mut self) -> Option<Chunk> {
        let chunks = self.pipe.as_mut().and_then(|pipe| pipe.chunks.as_mut());
        match (self.chunk.take(), chunks) {
            (Some(chunk), _) => Some(chunk),
            (None, None) => Some(Chunk::Ended),
            (None, Some(chunks)) => match chunks.try_recv() {
                Ok(chunk) => Some(Chunk::Bytes(chunk)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Chunk::Ended),
            },
        }
    }
}

impl Source for StdinSource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        let now = self.clock.now_ms();
        let mut fetched = Fetched::default();
        while self.undecodable.is_none()
            && fetched.offsets.len() < bounds.messages.max(1)
            && (fetched.offsets.is_empty() || fetched.messages.data_len() < bounds.bytes)
        {
            let found = self.next_record()?;
            let (
                Some(found),
                Some(Pipe {
                    records, decoder, ..
                }),
            ) = (found, &mut self.pipe)
            else {
                break;
            };
            let bytes = records.bytes(&found);
            let decoded = match found.oversize {
                None if decoder.is_blank(bytes) => continue,
                None => decoder.decode(bytes, now),
                Some(bytes) => Decoded::Undecodable(format!(
                    "{bytes} bytes, more than `record-bytes` = {}",
                    self.record_bytes
                )),
            };
            match decoded {
                Decoded::Message(message) => {
                    fetched.messages.push(message);
                    fetched.offsets.push(self.next);
                    self.next += 1;
                }
                Decoded::Other => {}
                Decoded::Undecodable(reason) => {
                    let reason = format!("standard input, line {}: {reason}", found.line);
                    let length = found.oversize.unwrap_or(bytes.len() as u64);
                    self.undecodable = Some((bytes.to_vec(), length, reason));
                }
            }
        }
        if !fetched.offsets.is_empty() {
            return Ok(Polled::Messages(fetched));
        }
        if let Some((raw, length, reason)) = self.undecodable.take() {
            let offset = self.next;
            self.next += 1;
            return Ok(Polled::Undecodable {
                offset,
                raw,
                length,
                reason,
                start_detail: None,
                end_detail: None,
            });
        }
        Ok(match self.chunk {
            Some(Chunk::Bytes(_)) | None => Polled::Idle,
            Some(Chunk::Ended) => Polled::End {
                at: Position {
                    next: self.next,
                    detail: None,
                },
            },
        })
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(async move {
            let chunks = self.pipe.as_mut().and_then(|pipe| pipe.chunks.as_mut());
            if let (None, None, Some(chunks)) = (&self.chunk, &self.undecodable, chunks) {
                self.chunk = Some(match chunks.recv().await {
                    Some(chunk) => Chunk::Bytes(chunk),
                    None => Chunk::Ended,
                });
            }
        })
    }

    fn progress(&self) -> Option<Progress> {
        None
    }
}

fn unreadable(source: io::Error) -> SourceError {
    SourceError::Read {
        path: PathBuf::from("standard input"),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;
    use std::sync::mpsc as blocking;

    use super::*;
    use crate::connectors::testing::{ALL, Item, Reading, drain, oldest};
    use crate::model::ManualClock;

    /// A pipe whose writer is a channel.
    struct Channel(StdMutex<blocking::Receiver<Vec<u8>>>);

    impl Read for Channel {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Ok(bytes) = self.0.lock().unwrap().recv() else {
                return Ok(0);
            };
            into[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    fn pipe(format: FileFormat, key: Option<&str>) -> (blocking::Sender<Vec<u8>>, StdinInput) {
        let (sender, receiver) = blocking::channel();
        let options = StdinOptions {
            format,
            key: key.map(str::to_owned),
            timestamp: None,
            record_bytes: 100,
        };
        let reader = Box::new(Channel(StdMutex::new(receiver)));
        let clock = Arc::new(ManualClock::new(5));
        (
            sender,
            StdinInput::from_reader(&options, clock, reader).unwrap(),
        )
    }

    /// Reads until `count` items came, or the end.
    async fn read(source: &mut dyn Source, count: usize) -> Reading {
        let mut reading = Reading::default();
        loop {
            let more = drain(source, ALL).unwrap();
            reading.items.extend(more.items);
            reading.end = more.end;
            if reading.items.len() >= count || reading.end.is_some() {
                return reading;
            }
            source.ready().await;
        }
    }

    #[tokio::test]
    async fn lines_come_as_they_are_written_and_end_with_the_pipe() {
        let (sender, input) = pipe(FileFormat::Lines, None);
        assert!(input.bounded() && !input.rewindable());
        let mut source = input.open(PartitionId(0), oldest()).unwrap();
        assert!(matches!(source.poll(ALL).unwrap(), Polled::Idle));
        sender.send(b"one\r\n\ntw".to_vec()).unwrap();
        assert_eq!(read(source.as_mut(), 2).await.texts(), ["one", ""]);
        sender.send(b"o\n".to_vec()).unwrap();
        assert_eq!(read(source.as_mut(), 1).await.texts(), ["two"]);
        sender.send(b"x".repeat(200)).unwrap();
        sender.send(b"\nlast".to_vec()).unwrap();
        drop(sender);
        let reading = read(source.as_mut(), 9).await;
        assert_eq!(
            reading.texts(),
            [
                "standard input, line 4: 200 bytes, more than `record-bytes` = 100",
                "last"
            ]
        );
        assert_eq!(reading.end.map(|end| end.next), Some(5));
        assert!(matches!(source.poll(ALL).unwrap(), Polled::End { .. }));
    }

    #[tokio::test]
    async fn the_next_reader_goes_on_with_what_comes_next() {
        let (sender, input) = pipe(FileFormat::Jsonl, Some("k"));
        let mut first = input.open(PartitionId(0), oldest()).unwrap();
        assert!(
            input.open(PartitionId(0), oldest()).is_err(),
            "there is one reader at a time"
        );
        sender.send(b"{\"k\":1}\n{}\n{\"k\":2}\n".to_vec()).unwrap();
        first.ready().await;
        drop(first);
        let at = OpenAt::Position(Position {
            next: 40,
            detail: None,
        });
        let mut second = input.open(PartitionId(0), at).unwrap();
        drop(sender);
        let reading = read(second.as_mut(), 9).await;
        let key = |item: &Item| match item {
            Item::Message { key, offset, .. } => (*offset, key.clone()),
            Item::Undecodable { offset, .. } => (*offset, None),
        };
        let keys: Vec<_> = reading.items.iter().map(key).collect();
        assert_eq!(
            keys,
            [
                (40, Some("1".to_owned())),
                (41, None),
                (42, Some("2".to_owned()))
            ]
        );
        assert_eq!(
            reading.items[1].text(),
            "standard input, line 2: key: missing"
        );
    }

    #[test]
    fn what_a_pipe_cannot_do_is_refused() {
        let (_sender, input) = pipe(FileFormat::Lines, None);
        for start in [StartAt::Offset(3), StartAt::Time(0)] {
            assert!(input.open(PartitionId(0), OpenAt::Start(start)).is_err());
        }
        let options = StdinOptions {
            format: FileFormat::Csv,
            key: None,
            timestamp: None,
            record_bytes: 1,
        };
        assert!(StdinInput::new(&options, Arc::new(ManualClock::new(0))).is_err());
    }
}
