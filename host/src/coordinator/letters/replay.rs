//! What is written for letters that are to be processed again, or given up.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Found, LetterFilter, LetterId, LetterState, Letters, LettersError, StageLetters};
use crate::checkpoint::{CommitError, Committer, LetterKey, QueuedLetter};
use crate::coordinator::view::LogError;
use crate::model::letter::{self, Letter};
use crate::model::{HeadersColumn, Messages, PartitionId, StreamId, TimestampMs};
use crate::records::StreamRecord;

/// What one write of a replay has at most.
const QUEUE_BYTES: usize = 16 << 20;

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

/// A write for letters.
pub enum LetterWrite {
    /// To a replay queue, with their marks.
    Queue(ForQueue),
    /// The marks of letters that are given up.
    Drop(Vec<LetterKey>),
}

impl LetterWrite {
    /// Makes it. Returns how many letters were not marked before.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn execute(&self, committer: &mut Committer, now: TimestampMs) -> Result<u64, CommitError> {
        match self {
            LetterWrite::Queue(ForQueue { queue, letters }) => {
                committer.queue_letters(*queue, letters, now)
            }
            LetterWrite::Drop(letters) => committer.drop_letters(letters),
        }
    }

    /// How many letters are in it.
    pub fn letters(&self) -> u64 {
        match self {
            LetterWrite::Queue(queue) => queue.letters.len() as u64,
            LetterWrite::Drop(letters) => letters.len() as u64,
        }
    }
}

impl Letters {
    /// The letters that are meant and open, in writes for a replay queue, which `write` takes. Returns what it came to.
    ///
    /// Where the order of keys is kept, all open letters of their keys go with them.
    ///
    /// # Errors
    /// As of [`Letters::each`], or of `write`.
    pub fn replay<E: From<LettersError>>(
        &self,
        filter: &LetterFilter,
        write: impl FnMut(LetterWrite) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        let mut writes = Writes::new(self.queues()?, write);
        for stage in self.stages(filter)? {
            let of_stage = LetterFilter {
                stage: Some(stage.stage.clone()),
                ..filter.clone()
            };
            match stage.in_order {
                false => self.writes(&of_stage, &mut writes, |_| true, Writes::replay)?,
                true => {
                    let meant = self.meant(&of_stage)?;
                    let all = LetterFilter {
                        stage: of_stage.stage,
                        ..LetterFilter::default()
                    };
                    let already = writes.outcome.already + meant.already;
                    self.writes(&all, &mut writes, |found| meant.has(found), Writes::replay)?;
                    // What is with them only because of its key was not asked for.
                    writes.outcome.already = already;
                }
            }
        }
        writes.end()
    }

    /// The letters that are meant and open, in writes that give them up, which `write` takes. Returns what it came to.
    ///
    /// # Errors
    /// As of [`Letters::each`], or of `write`.
    pub fn drop<E: From<LettersError>>(
        &self,
        filter: &LetterFilter,
        write: impl FnMut(LetterWrite) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        self.stages(filter)?;
        let mut writes = Writes::new(self.queues()?, write);
        self.writes(filter, &mut writes, |_| true, Writes::give_up)?;
        writes.end()
    }

    /// Hands the letters that are meant to writes.
    fn writes<E: From<LettersError>, W: FnMut(LetterWrite) -> Result<u64, E>>(
        &self,
        filter: &LetterFilter,
        writes: &mut Writes<E, W>,
        is_meant: impl Fn(&Found<'_>) -> bool,
        take: impl Fn(&mut Writes<E, W>, Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failed = None;
        let (all, mut left) = without_limit(filter);
        self.each(&all, &mut |found| {
            if found.state != LetterState::Open {
                writes.outcome.already += 1;
                return ControlFlow::Continue(());
            }
            if left == 0 {
                return ControlFlow::Break(());
            }
            if is_meant(&found) {
                left -= 1;
                if let Err(error) = take(writes, found) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The keys of the open letters that are meant, and those without a key.
    fn meant(&self, filter: &LetterFilter) -> Result<Meant, LettersError> {
        let mut meant = Meant::default();
        let (all, mut left) = without_limit(filter);
        self.each(&all, &mut |found| {
            if found.state != LetterState::Open {
                meant.already += 1;
            } else {
                if left == 0 {
                    return ControlFlow::Break(());
                }
                left -= 1;
                match (found.message.key, found.letter.origin()) {
                    (Some(key), Ok(origin)) => {
                        meant.keys.insert((origin.partition, key.to_vec()));
                    }
                    _ => _ = meant.letters.insert(found.key),
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(meant)
    }

    /// Letters that were typed in, or come from a file, in writes for a replay queue. A letter of a log is marked.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn replay_lines<E: From<LettersError>>(
        &self,
        lines: &[TypedLetter],
        write: impl FnMut(LetterWrite) -> Result<u64, E>,
    ) -> Result<Outcome, E> {
        let mut writes = Writes::new(self.queues()?, write);
        let mut seen = HashSet::new();
        for line in lines {
            match self.placed(line, &writes.queues) {
                Err(why) => writes.outcome.refuse(format!("line {}", line.number), why),
                Ok(placed) if !placed.is_open => writes.outcome.already += 1,
                Ok(Placed { queue, letter, .. }) => match letter.mark {
                    Some(mark) if !seen.insert(mark) => writes.outcome.already += 1,
                    _ => writes.push(queue, letter)?,
                },
            }
        }
        writes.end()
    }

    /// The queue of a typed letter, and what is queued.
    fn placed(
        &self,
        line: &TypedLetter,
        queues: &BTreeMap<String, StreamId>,
    ) -> Result<Placed, String> {
        let letter = Letter::of(line.message.get(0));
        let letter = letter.ok_or("it has no headers of a dead letter (`wasm-host.…`)")?;
        let name = letter.text(letter::STAGE).unwrap_or_default();
        let stage = self.stages.iter().find(|stage| stage.stage == name);
        let stage = stage.ok_or_else(|| format!("no stage {name:?} declares `dead-letters`"))?;
        let partition = replayable(&letter, stage)?;
        let queue = queues.get(name).copied();
        let queue = queue.ok_or(NO_QUEUE)?;
        let id = line.id.as_ref();
        let id = id.filter(|id| stage.in_log && id.stream == stage.stream);
        let (mark, is_open) = match id {
            Some(id) => {
                let (mark, state) = self.same_letter(id, line, stage)?;
                (Some(mark), state == LetterState::Open)
            }
            None if stage.in_order => return Err("with `dead-letter-order = \"key\"` a letter names its place (`stream`, `partition`, `offset`), so that its key waits no more".to_owned()),
            None => (None, true),
        };
        let letter = QueuedLetter {
            mark,
            partition,
            message: line.message.clone(),
            drops: false,
        };
        Ok(Placed {
            queue,
            letter,
            is_open,
        })
    }

    /// The place in the log of a typed letter, which must be the same that is there, but for what may be edited.
    fn same_letter(
        &self,
        id: &LetterId,
        line: &TypedLetter,
        stage: &StageLetters,
    ) -> Result<(LetterKey, LetterState), String> {
        let filter = LetterFilter {
            ids: vec![id.clone()],
            ..LetterFilter::default()
        };
        let typed = Letter::of(line.message.get(0));
        let origin = typed.as_ref().map(Letter::origin);
        let mut same = Err("the log has another letter in its place: remove `stream`, `partition` and `offset`, or take the line from this job".to_owned());
        let found = self.each(&filter, &mut |found| {
            if Some(found.letter.origin()) == origin {
                same = match !stage.in_order || found.message.key == line.message.key(0) {
                    true => Ok((found.key, found.state)),
                    false => Err("its key is another than the letter has, and with `dead-letter-order = \"key\"` that key waits".to_owned()),
                };
            }
            ControlFlow::Continue(())
        });
        found.map_err(|error| error.to_string())?;
        same
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

/// A filter without its limit, which is about letters that are open, and that limit.
fn without_limit(filter: &LetterFilter) -> (LetterFilter, u64) {
    let all = LetterFilter {
        limit: None,
        ..filter.clone()
    };
    (all, filter.limit.unwrap_or(u64::MAX))
}

/// What is to be queued of a typed letter.
struct Placed {
    queue: StreamId,
    letter: QueuedLetter,
    /// It was not queued or dropped before.
    is_open: bool,
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

/// The letters that a replay takes along.
#[derive(Default)]
struct Meant {
    /// How many that are meant are not open any more.
    already: u64,
    keys: HashSet<(PartitionId, Vec<u8>)>,
    /// Those without a key.
    letters: HashSet<LetterKey>,
}

impl Meant {
    fn has(&self, found: &Found<'_>) -> bool {
        match (found.message.key, found.letter.origin()) {
            (Some(key), Ok(origin)) => self.keys.contains(&(origin.partition, key.to_vec())),
            _ => self.letters.contains(&found.key),
        }
    }
}

const NO_QUEUE: &str = "the job has not run since `dead-letters` was declared";

/// Letters that wait for a write, and what came of those before.
struct Writes<E, W: FnMut(LetterWrite) -> Result<u64, E>> {
    write: W,
    /// The replay queue of each stage.
    queues: BTreeMap<String, StreamId>,
    queued: BTreeMap<StreamId, Vec<QueuedLetter>>,
    dropped: Vec<LetterKey>,
    bytes: usize,
    outcome: Outcome,
}

impl<E, W: FnMut(LetterWrite) -> Result<u64, E>> Writes<E, W> {
    fn new(queues: BTreeMap<String, StreamId>, write: W) -> Writes<E, W> {
        Writes {
            write,
            queues,
            queued: BTreeMap::new(),
            dropped: Vec::new(),
            bytes: 0,
            outcome: Outcome::default(),
        }
    }

    fn replay(&mut self, found: Found<'_>) -> Result<(), E> {
        match replayable(&found.letter, found.stage) {
            Ok(partition) => self.queue(&found, partition, false),
            Err(why) => {
                self.outcome.refuse(found.id, why);
                Ok(())
            }
        }
    }

    fn give_up(&mut self, found: Found<'_>) -> Result<(), E> {
        let origin = found.letter.origin();
        match origin.ok().filter(|_| found.stage.in_order) {
            // Its key waits for it.
            Some(origin) => self.queue(&found, origin.partition, true),
            None => {
                self.dropped.push(found.key);
                self.bytes += size_of::<LetterKey>();
                self.flush_if_full()
            }
        }
    }

    fn queue(&mut self, found: &Found<'_>, partition: PartitionId, drops: bool) -> Result<(), E> {
        let Some(queue) = self.queues.get(&found.stage.stage).copied() else {
            self.outcome.refuse(found.id.clone(), NO_QUEUE.to_owned());
            return Ok(());
        };
        let mut message = Messages::default();
        match drops {
            false => message.push(found.message),
            true => {
                let mut headers = HeadersColumn::default();
                let dropped = (letter::DROPPED.as_bytes(), Some(&b"true"[..]));
                headers.push(found.message.headers().chain([dropped]));
                message.push(found.message.with_headers(&headers, 0));
            }
        }
        let letter = QueuedLetter {
            mark: Some(found.key),
            partition,
            message,
            drops,
        };
        self.push(queue, letter)
    }

    fn push(&mut self, queue: StreamId, letter: QueuedLetter) -> Result<(), E> {
        self.bytes += letter.message.data_len() + size_of::<QueuedLetter>();
        self.queued.entry(queue).or_default().push(letter);
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<(), E> {
        match self.bytes >= QUEUE_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), E> {
        self.bytes = 0;
        for (queue, mut letters) in std::mem::take(&mut self.queued) {
            // As they were read first: letters of a task may be in several partitions.
            letters.sort_by_cached_key(|letter| {
                let found = Letter::of(letter.message.get(0));
                let origin = found.as_ref().and_then(|letter| letter.origin().ok());
                origin.map(|origin| (origin.stream.to_owned(), origin.partition, origin.offset))
            });
            self.hand_over(LetterWrite::Queue(ForQueue { queue, letters }))?;
        }
        let dropped = std::mem::take(&mut self.dropped);
        match dropped.is_empty() {
            true => Ok(()),
            false => self.hand_over(LetterWrite::Drop(dropped)),
        }
    }

    fn hand_over(&mut self, write: LetterWrite) -> Result<(), E> {
        let letters = write.letters();
        let done = (self.write)(write)?;
        self.outcome.done += done;
        self.outcome.already += letters - done;
        Ok(())
    }

    fn end(mut self) -> Result<Outcome, E> {
        self.flush()?;
        Ok(self.outcome)
    }
}
