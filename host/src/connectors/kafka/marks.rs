//! The topic of the marks, and how the last one in it is found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::marker::Marker;
use super::native::{Found, Partition};
use super::topics::NewTopic;
use crate::connectors::{PlaceError, SinkError};
use crate::model::{MARKS_SETTINGS, Messages, Offset};

/// How far back the last mark is looked for first: a transaction takes two offsets.
const NEAR: u64 = 64;
/// How long the records of a mark's topic are waited for.
const READ: Duration = Duration::from_secs(15);

/// The marks of a job in a cluster.
pub(super) struct Marks {
    cluster: Arc<Cluster>,
}

impl Marks {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Marks {
        Marks {
            cluster: Arc::clone(cluster),
        }
    }

    /// Their topic.
    pub(super) fn topic(&self) -> String {
        format!("{}.delivered", self.cluster.options().group_id)
    }

    fn place(&self) -> String {
        format!(
            "Kafka cluster {:?}, topic {:?}",
            self.cluster.name(),
            self.topic()
        )
    }

    fn unavailable(&self, what: String) -> SinkError {
        let what = self.cluster.error(what).what;
        SinkError::Unavailable(PlaceError::new(self.place(), what))
    }

    /// The marks are not this job's, or not this directory's.
    pub(super) fn foreign(&self, what: String) -> SinkError {
        SinkError::Foreign(PlaceError::new(self.place(), what))
    }

    /// Makes the topic, unless it is there.
    pub(super) fn make_topic(&self) -> Result<(), SinkError> {
        let name = self.topic();
        if self.cluster.topics(&[&name])?[0].is_some() {
            return Ok(());
        }
        let setting = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        self.cluster.create(&NewTopic {
            name,
            partitions: 1,
            replication: None,
            config: MARKS_SETTINGS.map(setting).to_vec(),
        })?;
        Ok(())
    }

    /// The last mark that is committed. `until_all`: not before every transaction has ended that was open when this began.
    pub(super) fn last(&self, until_all: bool) -> Result<Option<Marker>, SinkError> {
        let name = self.topic();
        if self.cluster.topics(&[&name])?[0].is_none() {
            return Ok(None);
        }
        let (low, high) = self.cluster.watermarks(&name, 0)?;
        let mut near = NEAR;
        loop {
            let from = high.saturating_sub(near).max(low);
            let found = self.last_from(&name, from, high, until_all)?;
            if found.is_some() || from == low {
                return Ok(found);
            }
            near = near.saturating_mul(16);
        }
    }

    fn last_from(
        &self,
        topic: &str,
        from: Offset,
        high: Offset,
        until_all: bool,
    ) -> Result<Option<Marker>, SinkError> {
        if from == high {
            return Ok(None);
        }
        let client = self.cluster.consumer(0)?;
        let offset = from.cast_signed();
        let mut partition = Partition::open(Arc::new(client), topic, 0, offset)
            .map_err(|why| self.unavailable(why))?;
        let until = Instant::now() + READ;
        let (mut offsets, mut messages, mut last) = (Vec::new(), Messages::default(), None);
        loop {
            offsets.clear();
            messages.clear();
            match partition.read((1000, 1 << 20), 0, &mut offsets, &mut messages) {
                Found::Messages => {
                    last = messages
                        .values
                        .iter()
                        .flatten()
                        .last()
                        .map(<[u8]>::to_vec)
                        .or(last);
                }
                Found::End(at) if at >= high || !until_all => break,
                Found::Failed { why, .. } => {
                    return Err(self.unavailable(format!("read it: {why}")));
                }
                Found::Undecodable { .. } | Found::End(_) | Found::Nothing | Found::Gone => {
                    if Instant::now() >= until {
                        return Err(self.unavailable(format!(
                            "it cannot be read to its end at offset {high}: a transaction that is open there, or was never completed, holds its readers up (`kafka-transactions.sh find-hanging` finds it)"
                        )));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        let decoded = last.map(|last| Marker::decode(&last)).transpose();
        decoded.map_err(|why| self.foreign(why))
    }
}
