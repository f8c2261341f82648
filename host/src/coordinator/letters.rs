//! Dead letters: which there are, what became of each, and which are to be replayed.
//!
//! They are read from the log in which they are, of a running job and of a stopped one alike. Nothing is kept of them but what a caller
//! keeps, however many they are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::view::{Deleted, LogError, View};
use crate::checkpoint::{LetterKey, QueuedLetter};
use crate::model::letter::{self, Letter};
use crate::model::{
    MessageRef, Messages, Offset, PartitionId, StageId, StreamId, TaskId, TimestampMs,
};
use crate::records::{LetterRecord, StreamRecord};

/// What one write of a replay has at most.
const QUEUE_BYTES: usize = 16 << 20;

/// What one write drops at most.
const DROPPED_LETTERS: usize = 10_000;

/// A stage that has dead letters.
#[derive(Debug, Clone)]
pub struct StageLetters {
    /// The stage.
    pub stage: String,
    /// The streams that it reads.
    pub inputs: Vec<String>,
    /// How many tasks it has.
    pub partitions: u32,
    /// The stream of its dead letters.
    pub stream: String,
    /// Whether they are in the embedded log, where they can be read.
    pub in_log: bool,
}

/// The place of a letter: stream, partition, offset, with slashes between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LetterId {
    /// The stream of dead letters.
    pub stream: String,
    /// Its partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
}

impl From<LetterId> for String {
    fn from(id: LetterId) -> String {
        format!("{}/{}/{}", id.stream, id.partition, id.offset)
    }
}

impl TryFrom<String> for LetterId {
    type Error = String;

    fn try_from(text: String) -> Result<LetterId, String> {
        text.parse()
    }
}

impl std::str::FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<LetterId, String> {
        let wrong = || format!("{text:?} is no letter: write STREAM/PARTITION/OFFSET");
        let (place, offset) = text.rsplit_once('/').ok_or_else(wrong)?;
        let (stream, partition) = place.rsplit_once('/').ok_or_else(wrong)?;
        Ok(LetterId {
            stream: stream.to_owned(),
            partition: PartitionId(partition.parse().map_err(|_| wrong())?),
            offset: offset.parse().map_err(|_| wrong())?,
        })
    }
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LetterState {
    /// Nothing yet.
    Open,
    /// It waits in the replay queue.
    Queued,
    /// It was replayed.
    Done,
    /// It was given up.
    Dropped,
}

/// The name of the replay queue of a stage.
pub fn replay_queue(stage: &str) -> String {
    StreamRecord::replay_queue(stage)
}

/// Which letters are meant. Without a condition all are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct LetterFilter {
    /// These, if there are any here.
    pub ids: Vec<LetterId>,
    /// Of this stage.
    pub stage: Option<String>,
    /// Of this group.
    pub group: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of the component whose hash begins like this.
    pub component: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// That became letters then or later.
    pub since: Option<TimestampMs>,
    /// That became letters before then.
    pub until: Option<TimestampMs>,
    /// Of which this became.
    pub state: Option<LetterState>,
    /// After this one.
    pub after: Option<LetterId>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// A letter, as it is found.
pub struct Found<'a> {
    /// The stage of it.
    pub stage: &'a StageLetters,
    /// Its place.
    pub id: LetterId,
    /// The same in the log.
    pub key: LetterKey,
    /// What became of it.
    pub state: LetterState,
    /// The message with all its headers.
    pub message: MessageRef<'a>,
    /// The headers of the letter.
    pub letter: Letter<'a>,
}

/// What goes wrong with a look at letters.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    /// What is asked for does not exist.
    #[error("{0}")]
    Refused(String),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Letters of a job.
#[derive(Clone)]
pub struct Letters {
    view: View,
    job: String,
    stages: Arc<[StageLetters]>,
}

/// What a replay or drop came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// Letters that are queued or dropped by it.
    pub done: u64,
    /// Letters that were before.
    pub already: u64,
    /// Letters that cannot be, and why: the first hundred.
    pub refused: Vec<RefusedLetter>,
    /// How many cannot be.
    pub refused_count: u64,
}

/// A letter that cannot be replayed or dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedLetter {
    /// The letter, or the line that it was read from.
    pub id: String,
    /// Why.
    pub why: String,
}

impl Outcome {
    /// Notes a letter that cannot be.
    pub fn refuse(&mut self, id: impl Into<String>, why: String) {
        const NAMED: usize = 100;
        self.refused_count += 1;
        if self.refused.len() < NAMED {
            let id = id.into();
            self.refused.push(RefusedLetter { id, why });
        }
    }
}

/// Letters for one replay queue.
pub struct ForQueue {
    /// The queue.
    pub queue: StreamId,
    /// The letters in their order.
    pub letters: Vec<QueuedLetter>,
}

impl Letters {
    /// Those of the stages of a job.
    pub fn new(view: View, job: String, stages: Vec<StageLetters>) -> Letters {
        Letters {
            view,
            job,
            stages: stages.into(),
        }
    }

    /// The stages whose letters a filter means.
    fn stages<'a>(&'a self, filter: &LetterFilter) -> Result<Vec<&'a StageLetters>, LettersError> {
        let refused = |why: String| Err(LettersError::Refused(why));
        let all = self.stages.iter();
        let of: Vec<_> = match &filter.stage {
            None => all.collect(),
            Some(name) => {
                let found: Vec<_> = all.filter(|stage| stage.stage == *name).collect();
                if found.is_empty() {
                    return refused(format!("no stage {name:?} declares `dead-letters`"));
                }
                found
            }
        };
        if of.is_empty() {
            return refused("no stage of the job declares `dead-letters`".to_owned());
        }
        if let Some(stage) = of.iter().find(|stage| !stage.in_log) {
            return refused(format!(
                "the dead letters of stage {:?} go to stream {:?}, which is no log and cannot be read back; `dlq replay --jsonl FILE` takes them from a file with `format = \"message\"`",
                stage.stage, stage.stream
            ));
        }
        for id in &filter.ids {
            if !of.iter().any(|stage| stage.stream == id.stream) {
                let id = String::from(id.clone());
                return refused(format!("letter {id}: no stage has its dead letters there"));
            }
        }
        Ok(of)
    }

    /// Calls `each` with the letters that are meant, in the order of streams, partitions and offsets.
    ///
    /// # Errors
    /// A log cannot be read, or what is meant does not exist.
    pub fn each(
        &self,
        filter: &LetterFilter,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), LettersError> {
        let stages = self.stages(filter)?;
        let mut streams: BTreeMap<&str, Vec<&StageLetters>> = BTreeMap::new();
        for stage in stages {
            streams.entry(&stage.stream).or_default().push(stage);
        }
        let mut look = Look {
            letters: self,
            filter,
            left: filter.limit.unwrap_or(u64::MAX),
            each,
        };
        let after = filter.after.as_ref().map(|after| &*after.stream);
        let left = streams.into_iter();
        for (stream, stages) in
            left.filter(|(stream, _)| after.is_none_or(|after| *stream >= after))
        {
            if look.stream(stream, &stages)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The letters that are meant and open, in writes for a replay queue, which `write` takes. Returns what it came to.
    ///
    /// # Errors
    /// As of [`Letters::each`], or of `write`.
    pub fn replay<E: From<LettersError>>(
        &self,
        filter: &LetterFilter,
        mut write: impl FnMut(ForQueue) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        let mut outcome = Outcome::default();
        let mut pending = Pending::default();
        let mut failed = None;
        let queues = self.queues().map_err(E::from)?;
        self.each(filter, &mut |found| {
            if found.state != LetterState::Open {
                outcome.already += 1;
                return ControlFlow::Continue(());
            }
            match replayable(&found.letter, found.stage) {
                Err(why) => outcome.refuse(found.id, why),
                Ok(partition) => {
                    let queue = queues.get(&found.stage.stage).copied();
                    let Some(queue) = queue else {
                        let why = "the job has not run since `dead-letters` was declared";
                        outcome.refuse(found.id, why.to_owned());
                        return ControlFlow::Continue(());
                    };
                    pending.push(queue, Some(found.key), partition, found.message);
                    if pending.bytes >= QUEUE_BYTES
                        && let Err(error) = pending.flush(&mut write, &mut outcome)
                    {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })
        .map_err(E::from)?;
        match failed {
            Some(error) => Err(error),
            None => {
                pending.flush(&mut write, &mut outcome)?;
                Ok(outcome)
            }
        }
    }

    /// The letters that are meant and open, in writes that drop them, which `write` takes. Returns what it came to.
    ///
    /// # Errors
    /// As of [`Letters::each`], or of `write`.
    pub fn drop<E: From<LettersError>>(
        &self,
        filter: &LetterFilter,
        mut write: impl FnMut(Vec<LetterKey>) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        let mut outcome = Outcome::default();
        let mut open = Vec::new();
        self.each(filter, &mut |found| {
            match found.state {
                LetterState::Open => open.push(found.key),
                _ => outcome.already += 1,
            }
            ControlFlow::Continue(())
        })
        .map_err(E::from)?;
        for letters in open.chunks(DROPPED_LETTERS) {
            let dropped = write(letters.to_vec())?;
            outcome.done += dropped;
            outcome.already += letters.len() as u64 - dropped;
        }
        Ok(outcome)
    }

    /// Letters that were typed in, or come from a file, in writes for a replay queue. A letter of a log is marked.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn replay_lines<E: From<LettersError>>(
        &self,
        lines: &[TypedLetter],
        mut write: impl FnMut(ForQueue) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        let mut outcome = Outcome::default();
        let mut pending = Pending::default();
        let queues = self.queues().map_err(E::from)?;
        for line in lines {
            match self.placed(line, &queues) {
                Err(why) => outcome.refuse(format!("line {}", line.number), why),
                Ok((queue, mark, partition)) => {
                    pending.push(queue, mark, partition, line.message.get(0));
                    if pending.bytes >= QUEUE_BYTES {
                        pending.flush(&mut write, &mut outcome)?;
                    }
                }
            }
        }
        pending.flush(&mut write, &mut outcome)?;
        Ok(outcome)
    }

    /// The queue of a typed letter, its place in the log, if it is one of it, and its task's partition.
    fn placed(
        &self,
        line: &TypedLetter,
        queues: &BTreeMap<String, StreamId>,
    ) -> Result<(StreamId, Option<LetterKey>, PartitionId), String> {
        let letter = Letter::of(line.message.get(0));
        let letter = letter.ok_or("it has no headers of a dead letter (`wasm-host.…`)")?;
        let name = letter.text(letter::STAGE).unwrap_or_default();
        let stage = self.stages.iter().find(|stage| stage.stage == name);
        let stage = stage.ok_or_else(|| format!("no stage {name:?} declares `dead-letters`"))?;
        let partition = replayable(&letter, stage)?;
        let queue = queues.get(name).copied();
        let queue = queue.ok_or("the job has not run since `dead-letters` was declared")?;
        let mark = match &line.id {
            Some(id) if stage.in_log && id.stream == stage.stream => {
                let catalog = self.view.catalog().map_err(|error| error.to_string())?;
                let stream = catalog.streams.get(&id.stream).map(|stream| stream.id);
                stream.map(|stream| (stream, id.partition, id.offset))
            }
            _ => None,
        };
        Ok((queue, mark, partition))
    }

    /// The replay queue of each stage.
    fn queues(&self) -> Result<BTreeMap<String, StreamId>, LettersError> {
        let catalog = self.view.catalog().map_err(LogError::from)?;
        let queue = |stage: &StageLetters| {
            let queue = catalog
                .streams
                .get(&StreamRecord::replay_queue(&stage.stage));
            Some((stage.stage.clone(), queue?.id))
        };
        Ok(self.stages.iter().filter_map(queue).collect())
    }
}

/// A letter that was typed in.
#[derive(Debug, Clone)]
pub struct TypedLetter {
    /// The number of its line, from 1 on.
    pub number: usize,
    /// Where it says that it is.
    pub id: Option<LetterId>,
    /// One message.
    pub message: Messages,
}

/// The partition of the task that a letter goes back to, or why it cannot.
fn replayable(letter: &Letter<'_>, stage: &StageLetters) -> Result<PartitionId, String> {
    let origin = letter.origin()?;
    if letter.bytes(letter::CUT).is_some() {
        return Err("it has the beginning of the value only (`wasm-host.cut`): complete it, remove that header, and use `dlq replay --jsonl`".to_owned());
    }
    if letter.text(letter::KIND) == Some("undecodable") {
        return Err("it is no message but what could not be decoded: mend it, and append it to the input, or change `wasm-host.kind` and use `dlq replay --jsonl`".to_owned());
    }
    if !stage.inputs.iter().any(|stream| stream == origin.stream) {
        return Err(format!(
            "stage {:?} reads no stream {:?} any more",
            stage.stage, origin.stream
        ));
    }
    if origin.partition.0 >= stage.partitions {
        return Err(format!(
            "stage {:?} has no partition {}",
            stage.stage, origin.partition
        ));
    }
    Ok(origin.partition)
}

/// Letters that wait for one write, by queue.
#[derive(Default)]
struct Pending {
    queues: BTreeMap<StreamId, Vec<QueuedLetter>>,
    bytes: usize,
}

impl Pending {
    fn push(
        &mut self,
        queue: StreamId,
        mark: Option<LetterKey>,
        partition: PartitionId,
        message: MessageRef<'_>,
    ) {
        let mut one = Messages::default();
        one.push(message);
        self.bytes += one.data_len() + size_of::<QueuedLetter>();
        let letters = self.queues.entry(queue).or_default();
        letters.push(QueuedLetter {
            mark,
            partition,
            message: one,
        });
    }

    fn flush<E>(
        &mut self,
        write: &mut impl FnMut(ForQueue) -> Result<u64, E>,
        outcome: &mut Outcome,
    ) -> Result<(), E> {
        self.bytes = 0;
        for (queue, mut letters) in std::mem::take(&mut self.queues) {
            // As they were read first: letters of a task may be in several partitions.
            letters.sort_by_cached_key(|letter| {
                let found = Letter::of(letter.message.get(0));
                let origin = found.as_ref().and_then(|letter| letter.origin().ok());
                origin.map(|origin| (origin.stream.to_owned(), origin.partition, origin.offset))
            });
            let count = letters.len() as u64;
            let queued = write(ForQueue { queue, letters })?;
            outcome.done += queued;
            outcome.already += count - queued;
        }
        Ok(())
    }
}

/// A look through letters.
struct Look<'a> {
    letters: &'a Letters,
    filter: &'a LetterFilter,
    left: u64,
    each: &'a mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
}

impl Look<'_> {
    fn stream(
        &mut self,
        name: &str,
        stages: &[&StageLetters],
    ) -> Result<ControlFlow<()>, LettersError> {
        let view = &self.letters.view;
        let catalog = view.catalog().map_err(LogError::from)?;
        let Some(stream) = catalog.streams.get(name) else {
            // Nothing has run yet.
            return Ok(ControlFlow::Continue(()));
        };
        let queues = QueuePositions::new(view, &catalog, stages)?;
        let after = self.filter.after.as_ref();
        let after = after.filter(|after| after.stream == name);
        let first = after.map_or(0, |after| after.partition.0);
        for partition in (first..stream.partitions).map(PartitionId) {
            let (oldest, end) = view.log_bounds(stream.id, partition);
            let after = after.filter(|after| after.partition == partition);
            let oldest = after.map_or(oldest, |after| oldest.max(after.offset + 1));
            let ids = self.filter.ids.iter();
            let ids = ids.filter(|id| id.stream == name && id.partition == partition);
            let ranges: Vec<_> = match self.filter.ids.is_empty() {
                true => vec![(oldest, end, Deleted::PassedOver)],
                false => ids
                    .map(|id| (id.offset, id.offset + 1, Deleted::Refused))
                    .collect(),
            };
            for (first, end, deleted) in ranges {
                let part = LettersOf {
                    name,
                    stages,
                    stream: stream.id,
                    partition,
                    queues: &queues,
                };
                if self.range(&part, (first, end), deleted)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn range(
        &mut self,
        of: &LettersOf<'_>,
        (first, end): (Offset, Offset),
        deleted: Deleted,
    ) -> Result<ControlFlow<()>, LettersError> {
        let view = &self.letters.view;
        let mut next = first;
        while next < end {
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            let read = view.log_read(of.name, of.partition, next, deleted)?;
            let count = read.messages.len() as u64;
            if count == 0 && deleted == Deleted::Refused {
                let why = format!("there is no letter {}/{}/{next}", of.name, of.partition);
                return Err(LettersError::Refused(why));
            }
            let marks = view
                .letter_marks(of.stream, of.partition, read.first..read.first + count)
                .map_err(LogError::from)?;
            for index in 0..read.messages.len() {
                let offset = read.first + index as u64;
                if offset >= end || self.left == 0 {
                    break;
                }
                let message = read.messages.get(index);
                if let Some(found) = self.found(of, offset, message, marks.get(&offset)) {
                    self.left -= 1;
                    if (self.each)(found).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            next = read.first + count;
            if count == 0 {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The letter that a message is, if it is meant.
    fn found<'a>(
        &self,
        of: &LettersOf<'a>,
        offset: Offset,
        message: MessageRef<'a>,
        mark: Option<&LetterRecord>,
    ) -> Option<Found<'a>> {
        let letter = Letter::of(message)?;
        if letter.text(letter::JOB) != Some(&self.letters.job) {
            return None;
        }
        let name = letter.text(letter::STAGE)?;
        let stage = of.stages.iter().find(|stage| stage.stage == name)?;
        let filter = self.filter;
        let is = |wanted: &Option<String>, name| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| letter.text(name) == Some(wanted))
        };
        let time = || letter.text(letter::TIME)?.parse::<TimestampMs>().ok();
        let after = |since| time().is_some_and(|time| time >= since);
        let before = |until| time().is_some_and(|time| time < until);
        let component = |wanted: &String| {
            let component = letter.text(letter::COMPONENT);
            component.is_some_and(|component| component.starts_with(wanted))
        };
        let key = |key: &String| message.key == Some(key.as_bytes());
        let state = of.queues.state(mark);
        let is_meant = is(&filter.group, letter::GROUP)
            && is(&filter.kind, letter::KIND)
            && filter.component.as_ref().is_none_or(component)
            && filter.key.as_ref().is_none_or(key)
            && filter.since.is_none_or(after)
            && filter.until.is_none_or(before)
            && filter.state.is_none_or(|wanted| wanted == state);
        is_meant.then(|| Found {
            stage,
            id: LetterId {
                stream: of.name.to_owned(),
                partition: of.partition,
                offset,
            },
            key: (of.stream, of.partition, offset),
            state,
            message,
            letter,
        })
    }
}

/// A partition of a stream of letters.
struct LettersOf<'a> {
    name: &'a str,
    stages: &'a [&'a StageLetters],
    stream: StreamId,
    partition: PartitionId,
    queues: &'a QueuePositions,
}

/// How far tasks have come in the replay queues.
struct QueuePositions(BTreeMap<(StreamId, PartitionId), Offset>);

impl QueuePositions {
    fn new(
        view: &View,
        catalog: &crate::checkpoint::catalog::Catalog,
        stages: &[&StageLetters],
    ) -> Result<QueuePositions, LettersError> {
        let mut positions = BTreeMap::new();
        for stage in stages {
            let queue = catalog
                .streams
                .get(&StreamRecord::replay_queue(&stage.stage));
            let known = catalog.stages.get(&stage.stage);
            let (Some(queue), Some(known)) = (queue, known) else {
                continue;
            };
            let id: StageId = known.id;
            for partition in (0..known.partitions).map(PartitionId) {
                let task = TaskId {
                    stage: id,
                    partition,
                };
                let record = view.task(task).map_err(LogError::from)?;
                let position = record.and_then(|record| record.positions.get(&queue.id).cloned());
                if let Some(position) = position {
                    positions.insert((queue.id, partition), position.next);
                }
            }
        }
        Ok(QueuePositions(positions))
    }

    fn state(&self, mark: Option<&LetterRecord>) -> LetterState {
        match mark {
            None => LetterState::Open,
            Some(LetterRecord::Dropped) => LetterState::Dropped,
            Some(LetterRecord::Queued {
                queue,
                partition,
                offset,
            }) => match self.0.get(&(*queue, *partition)) {
                Some(next) if next > offset => LetterState::Done,
                _ => LetterState::Queued,
            },
        }
    }
}
