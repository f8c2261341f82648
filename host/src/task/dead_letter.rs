//! Dead letters: the original message, with headers that say where it came from and why it is here.

use std::cell::OnceCell;

use super::groups::Group;
use super::{DeadLetters, Task};
use crate::model::letter;
use crate::model::{
    Batch, HeadersColumn, InputIndex, MessageBounds, MessageRef, Offset, PartitionId,
};
use crate::runtime::{Fault, sha256};

/// Why a message goes to the dead letters.
pub(super) struct Reason<'a> {
    /// A word: `rejected`, or that of a fault.
    pub(super) kind: &'a str,
    /// For a person.
    pub(super) reason: &'a str,
    /// The guest's own detail.
    pub(super) detail: Option<&'a [u8]>,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// How many bytes the value has, if it may have been cut before.
    pub(super) length: Option<u64>,
    /// The fault that condemned it.
    pub(super) fault: Option<&'a Fault>,
    /// To find it takes a hash, and the names of functions.
    pub(super) group: OnceCell<Group>,
}

impl<'a> Reason<'a> {
    /// One that says no more than this.
    pub(super) fn new(kind: &'a str, reason: &'a str) -> Reason<'a> {
        Reason {
            kind,
            reason,
            detail: None,
            attempts: 0,
            length: None,
            fault: None,
            group: OnceCell::new(),
        }
    }

    /// The group of equal errors that it belongs to.
    pub(super) fn group(&self) -> Group {
        *self.group.get_or_init(|| match self.fault {
            Some(fault) => Group::of_fault(fault),
            None => Group::of(self.kind, self.reason, &[]),
        })
    }
}

/// Where a message was read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The input of its stream.
    pub(super) input: InputIndex,
    pub(super) offset: Offset,
    /// How often it was a dead letter before.
    pub(super) replays: u32,
}

impl Place {
    /// That of a message of a batch.
    pub(super) fn of(batch: &Batch, index: usize) -> Place {
        let (input, offsets) = batch.shown();
        let replays = batch.origin.as_ref().map(|origin| origin.replays[index]);
        Place {
            input,
            offset: offsets[index],
            replays: replays.unwrap_or(0),
        }
    }
}

impl Task {
    /// Stages a message as a dead letter. It belongs to the batch like everything that the guest sends.
    pub(super) fn stage_dead_letter(
        &mut self,
        to: &DeadLetters,
        place: Place,
        message: MessageRef<'_>,
        why: &Reason<'_>,
    ) {
        let group = why.group();
        let details = why
            .fault
            .and_then(|fault| self.groups.details(group, fault));
        let partition = self.options.info.id.partition;
        let now = self.options.clock.now_ms();
        let component = self.guest.component();
        let text = self.says(place, why, now);
        let mut limit = component.limits().value_bytes;
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = message.headers().collect();
        let own = headers.len();
        headers.extend(
            text.iter()
                .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))),
        );
        if let Some(detail) = why.detail {
            headers.push((letter::DETAIL.as_bytes(), Some(detail)));
        }
        if let Some(details) = &details {
            let texts = [
                (letter::BACKTRACE, &*details.backtrace),
                (letter::STDERR, &details.stderr),
            ];
            let said = texts.into_iter().filter(|(_, text)| !text.is_empty());
            headers.extend(said.map(|(name, text)| (name.as_bytes(), Some(text.as_bytes()))));
        }
        let mut key = message.key;
        if let Some(bounds) = &to.bounds {
            let fitting = Fitting { bounds, own };
            (key, limit) = fitting.make_room(message, &mut headers, limit);
        }
        let cut = message
            .value
            .and_then(|value| cut(value, limit, why.length));
        if let Some((_, note)) = &cut {
            headers.push((letter::CUT.as_bytes(), Some(note.as_bytes())));
        }
        let mut column = HeadersColumn::default();
        column.push(headers.into_iter());
        let value = cut.as_ref().map_or(message.value, |(value, _)| Some(value));
        let bounds = to.bounds.as_ref();
        let timestamp = bounds.map_or(message.timestamp, |bounds| {
            bounds.fitting_time(message.timestamp, now)
        });
        let sent = MessageRef::new(key, value, timestamp).with_headers(&column, 0);
        let partition = match message.key {
            Some(key) => crate::model::partition_of_key(key, to.partitions),
            None => partition.0 % to.partitions,
        };
        let port = to.port;
        self.guest
            .context_mut()
            .send(port, PartitionId(partition), sent);
    }
}

impl Task {
    /// The headers that every letter has.
    fn says(&self, place: Place, why: &Reason<'_>, now: i64) -> [(&'static str, String); 13] {
        let info = &self.options.info;
        [
            (letter::JOB, info.job.clone()),
            (letter::STAGE, info.stage.clone()),
            (letter::TASK, info.name()),
            (letter::STREAM, self.stream_of(place.input).0.clone()),
            (letter::PARTITION, info.id.partition.to_string()),
            (letter::OFFSET, place.offset.to_string()),
            (letter::KIND, why.kind.to_owned()),
            (letter::REASON, why.reason.to_owned()),
            (letter::ATTEMPTS, why.attempts.to_string()),
            (letter::TIME, now.to_string()),
            (letter::GROUP, why.group().to_string()),
            (
                letter::COMPONENT,
                self.guest.component().sha256().to_owned(),
            ),
            (letter::REPLAYS, place.replays.to_string()),
        ]
    }
}

/// A letter that has to fit a place.
struct Fitting<'a> {
    bounds: &'a MessageBounds,
    /// How many headers are the message's own.
    own: usize,
}

/// More than the note has that a value was cut.
const NOTE_BYTES: usize = 128;

impl Fitting<'_> {
    /// Leaves out what would not fit with any value: first what explains, then the message's own headers, then its key. Returns the
    /// key, and how many bytes the value may have.
    fn make_room<'m>(
        &self,
        message: MessageRef<'m>,
        headers: &mut Vec<(&[u8], Option<&[u8]>)>,
        limit: usize,
    ) -> (Option<&'m [u8]>, usize) {
        let explains = [letter::BACKTRACE, letter::STDERR, letter::DETAIL];
        let mut key = message.key;
        for left_out in 0..4 {
            match left_out {
                0 => {}
                1 => headers.retain(|(name, _)| !explains.iter().any(|of| of.as_bytes() == *name)),
                2 => drop(headers.drain(..self.own.min(headers.len()))),
                _ => key = None,
            }
            let mut column = HeadersColumn::default();
            column.push(headers.iter().copied());
            let rest = MessageRef::new(key, None, 0).with_headers(&column, 0);
            if let Some(room) = self.bounds.room(&rest)
                && room >= NOTE_BYTES
            {
                return (key, limit.min(room - NOTE_BYTES));
            }
        }
        (key, 0)
    }
}

/// The beginning of a value that is longer than a letter's may be, or than was read, and a note of what is missing.
fn cut(value: &[u8], limit: usize, length: Option<u64>) -> Option<(&[u8], String)> {
    let short = &value[..value.len().min(limit)];
    match length {
        // What follows has not been read together with it, so its hash is not known.
        Some(length) if length > value.len() as u64 => Some((short, format!("{length};"))),
        _ if short.len() < value.len() => {
            Some((short, format!("{};{}", value.len(), sha256(value))))
        }
        _ => None,
    }
}
