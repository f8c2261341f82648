//! The replay queue of a stage: a log of dead letters, read as the messages that they were.

use super::LogInput;
use crate::connectors::{
    FetchBounds, Fetched, Input, MessageName, OpenAt, Polled, Progress, Ready, Source, SourceError,
    write_lines,
};
use crate::model::letter::{self, Letter};
use crate::model::{HeadersColumn, InputIndex, Messages, Origin, PartitionId, Position};

/// A replay queue as an input. Its messages come in runs that were read from one input in order.
pub struct ReplayInput {
    queue: LogInput,
    /// The streams of the stage's inputs.
    streams: Vec<String>,
}

impl ReplayInput {
    /// The queue of a stage that reads these streams.
    pub fn new(queue: LogInput, streams: Vec<String>) -> ReplayInput {
        ReplayInput { queue, streams }
    }
}

impl Input for ReplayInput {
    fn partitions(&self) -> u32 {
        self.queue.partitions()
    }

    fn may_lull(&self) -> bool {
        true
    }

    fn bounded(&self) -> bool {
        self.queue.bounded()
    }

    fn polls_may_block(&self) -> bool {
        self.queue.polls_may_block()
    }

    fn rewindable(&self) -> bool {
        true
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(ReplaySource {
            queue: self.queue.open(partition, at)?,
            partition,
            streams: self.streams.clone(),
            rest: None,
        }))
    }
}

struct ReplaySource {
    queue: Box<dyn Source>,
    partition: PartitionId,
    streams: Vec<String>,
    /// What was read and not given out.
    rest: Option<Fetched>,
}

impl Source for ReplaySource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        let mut fetched = match self.rest.take() {
            Some(rest) => rest,
            None => match self.queue.poll(bounds)? {
                Polled::Messages(fetched) => fetched,
                other => return Ok(other),
            },
        };
        let run = self.run(&fetched.messages);
        let taken = match &run {
            Ok(run) => run.origin.offsets.len(),
            Err(_) => 1,
        };
        if taken < fetched.offsets.len() {
            self.rest = Some(fetched.split_off(taken));
        }
        Ok(match run {
            Ok(run) => Polled::Messages(Fetched {
                messages: run.messages,
                origin: Some(Box::new(run.origin)),
                ..fetched
            }),
            Err(reason) => {
                // Nothing of it is lost.
                let name = MessageName {
                    stream: "",
                    partition: self.partition.0,
                    offset: fetched.offsets[0],
                };
                let mut raw = Vec::new();
                write_lines(name, &fetched.messages, &mut raw);
                Polled::Undecodable {
                    offset: fetched.offsets[0],
                    length: raw.len() as u64,
                    raw,
                    reason,
                    start_detail: None,
                    end_detail: None,
                }
            }
        })
    }

    fn ready(&mut self) -> Ready<'_> {
        self.queue.ready()
    }

    fn progress(&self) -> Option<Progress> {
        self.queue.progress()
    }

    fn begins_at(&self) -> Option<Position> {
        self.queue.begins_at()
    }
}

/// Messages that were read from one input, in order.
struct Run {
    messages: Messages,
    origin: Origin,
}

impl ReplaySource {
    /// The run that letters begin with, or why the first of them is none.
    fn run(&self, letters: &Messages) -> Result<Run, String> {
        let mut run: Option<Run> = None;
        for index in 0..letters.len() {
            let message = letters.get(index);
            let found = Letter::of(message).ok_or_else(|| "it is no dead letter".to_owned());
            let placed = found.and_then(|letter| self.place(&letter).map(|place| (letter, place)));
            let (found, (input, offset, replays)) = match (placed, &run) {
                (Ok(placed), _) => placed,
                (Err(why), None) => return Err(why),
                (Err(_), Some(_)) => break,
            };
            let drops = found.bytes(letter::DROPPED).is_some();
            let run = run.get_or_insert_with(|| Run {
                messages: Messages::default(),
                origin: Origin {
                    input,
                    drops,
                    ..Origin::default()
                },
            });
            let origin = &mut run.origin;
            if origin.drops != drops
                || origin.input != input
                || origin.offsets.last().is_some_and(|last| *last >= offset)
            {
                break;
            }
            origin.offsets.push(offset);
            origin.replays.push(replays);
            let mut headers = HeadersColumn::default();
            headers.push(found.own_headers());
            run.messages.push(message.with_headers(&headers, 0));
        }
        run.ok_or_else(|| "there is no letter".to_owned())
    }

    /// The input, offset and replays of a letter.
    fn place(&self, letter: &Letter<'_>) -> Result<(InputIndex, u64, u32), String> {
        let origin = letter.origin()?;
        if origin.partition != self.partition {
            return Err(format!("it is of partition {}", origin.partition));
        }
        let at = self.streams.iter().position(|name| name == origin.stream);
        let input = at.and_then(|at| u16::try_from(at).ok()).map(InputIndex);
        let none = || format!("the stage reads no stream {:?} any more", origin.stream);
        let replays = origin.replays.saturating_add(1);
        Ok((input.ok_or_else(none)?, origin.offset, replays))
    }
}
