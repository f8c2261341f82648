//! Dead letters: which there are, what became of each, and which are to be replayed.
//!
//! They are read from the log in which they are, of a running job and of a stopped one alike. Nothing is kept of them but what a caller
//! keeps, however many they are. [`look`] finds them, [`replay`] decides what is written for a replay or a drop.

mod look;
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use look::Look;
pub use replay::{ForQueue, LetterWrite, Outcome, RefusedLetter, TypedLetter};

use super::view::{LogError, View};
use crate::checkpoint::LetterKey;
use crate::model::letter::Letter;
use crate::model::{MessageRef, Offset, PartitionId, TimestampMs};
use crate::records::{StageRecord, StreamRecord};

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
    /// Whether the order of keys is kept.
    pub in_order: bool,
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

/// The name of the store with the keys that wait for a letter.
pub fn parked_store() -> String {
    StageRecord::PARKED.to_owned()
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
            named: BTreeSet::new(),
            each,
        };
        let after = filter.after.as_ref().map(|after| &*after.stream);
        let left = streams.into_iter();
        for (stream, stages) in
            left.filter(|(stream, _)| after.is_none_or(|after| *stream >= after))
        {
            if look.stream(stream, &stages)?.is_break() {
                return Ok(());
            }
        }
        match filter.ids.iter().find(|id| !look.named.contains(*id)) {
            Some(id) => {
                let why = format!("there is no letter {}", String::from(id.clone()));
                Err(LettersError::Refused(why))
            }
            None => Ok(()),
        }
    }
}
