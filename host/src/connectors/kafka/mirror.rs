//! Positions as the committed offsets of a consumer group, where Kafka's own tools show them and the lag. The job goes by its state
//! directory alone; but offsets that somebody else has set are not passed over without a word.
//!
//! The metadata of each offset is `wasm-host`, the id of the state directory in hexadecimal, and the epoch, with blanks between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::cluster::{Cluster, ClusterError, Looking, millis};
use super::native::Commits;
use crate::model::Offset;

/// How often offsets are committed at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long the last commit is waited for.
const LAST: Duration = Duration::from_secs(2);
const WORD: &str = "wasm-host";

/// What is to be committed for a cluster.
pub(super) struct Mirrored {
    cluster: Arc<Cluster>,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    noted: BTreeMap<(String, u32), Offset>,
    metadata: String,
    committed: Option<Instant>,
    commits: Option<Commits<Looking>>,
}

/// The metadata of offsets that a state directory has noted.
pub(super) fn metadata(state: &[u8; 16], epoch: u64) -> String {
    let state: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{WORD} {state} {epoch}")
}

/// Who has committed an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// This state directory.
    Own,
    /// Another one.
    Another,
    /// Something else.
    Stranger,
}

/// Who has written this metadata.
pub(super) fn author(metadata: &[u8], state: Option<&[u8; 16]>) -> Author {
    let text = String::from_utf8_lossy(metadata);
    let mut words = text.split(' ');
    let (Some(WORD), Some(found)) = (words.next(), words.next()) else {
        return Author::Stranger;
    };
    let own = state.map(|state| self::metadata(state, 0));
    match own.is_some_and(|own| own.split(' ').nth(1) == Some(found)) {
        true => Author::Own,
        false => Author::Another,
    }
}

impl Mirrored {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Mirrored {
        Mirrored {
            cluster: Arc::clone(cluster),
            now: Mutex::default(),
        }
    }

    pub(super) fn note(&self, topic: &str, partition: u32, next: Offset) {
        let mut now = self.now.lock();
        now.noted.insert((topic.to_owned(), partition), next);
    }

    /// Commits what was noted, unless that was done a moment ago.
    pub(super) fn settle(&self, metadata: String) {
        let mut now = self.now.lock();
        now.metadata = metadata;
        let is_due = now.committed.is_none_or(|at| at.elapsed() >= EVERY);
        if !now.noted.is_empty() && is_due {
            now.committed = Some(Instant::now());
            self.commit(&mut now);
        }
    }

    /// Commits what is left, and waits for a moment that it is done. Returns whether it is.
    pub(super) fn finish(&self) -> bool {
        let mut now = self.now.lock();
        if !now.noted.is_empty() {
            self.commit(&mut now);
        }
        let until = Instant::now() + LAST;
        while let Some(commits) = now.commits.as_mut().filter(|commits| commits.open > 0) {
            let left = until.saturating_duration_since(Instant::now());
            match commits.answer(millis(left)) {
                Some(answer) => self.note_answer(answer),
                None => return false,
            }
        }
        true
    }

    fn commit(&self, now: &mut Now) {
        let mut commit = || -> Result<(), ClusterError> {
            if now.commits.is_none() {
                now.commits = Commits::new(self.cluster.looker()?);
            }
            let Some(commits) = &mut now.commits else {
                return Err(self.cluster.error("commit offsets: no queue can be made"));
            };
            while let Some(answer) = commits.answer(0) {
                self.note_answer(answer);
            }
            let failed = |why: String| self.cluster.error(format!("commit offsets: {why}"));
            let list = offsets(&now.noted, &now.metadata);
            let list = list.map_err(|error| failed(error.to_string()))?;
            commits.ask(&list).map_err(failed)
        };
        match commit() {
            Ok(()) => now.noted.clear(),
            // It is for others, and comes again.
            Err(error) => tracing::debug!("{error}"),
        }
    }

    fn note_answer(&self, answer: Result<(), String>) {
        if let Err(why) = answer {
            tracing::debug!("{}", self.cluster.error(format!("commit offsets: {why}")));
        }
    }
}

fn offsets(
    noted: &BTreeMap<(String, u32), Offset>,
    metadata: &str,
) -> Result<TopicPartitionList, rdkafka::error::KafkaError> {
    let mut list = TopicPartitionList::with_capacity(noted.len());
    for ((topic, partition), next) in noted {
        let mut element = list.add_partition(topic, partition.cast_signed());
        element.set_offset(KafkaOffset::Offset(next.cast_signed()))?;
        element.set_metadata(metadata);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_says_whose_it_is() {
        let (mine, other) = ([1; 16], [2; 16]);
        let noted = metadata(&mine, 7);
        assert_eq!(noted, "wasm-host 01010101010101010101010101010101 7");
        let author = |state| author(noted.as_bytes(), state);
        assert_eq!(author(Some(&mine)), Author::Own);
        assert_eq!(author(Some(&other)), Author::Another);
        assert_eq!(author(None), Author::Another);
        for stranger in [&b""[..], b"\xff", b"wasm-host", b"flink 1 2"] {
            assert_eq!(super::author(stranger, Some(&mine)), Author::Stranger);
        }
    }
}
