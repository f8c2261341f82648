//! Offsets of a cluster's topics: where partitions begin and end, what times are at, and what groups have committed.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::cluster::{ANSWER, Cluster, ClusterError, persist};
use super::native::{Committed, committed};
use crate::model::Offset;

impl Cluster {
    /// The first offset of a partition, and the one after the last: committed or not.
    pub(super) fn watermarks(
        &self,
        topic: &str,
        partition: u32,
    ) -> Result<(Offset, Offset), ClusterError> {
        let of = |offset: i64| u64::try_from(offset).unwrap_or_default();
        let looker = self.looker()?;
        let asked = persist(|| looker.fetch_watermarks(topic, partition.cast_signed(), ANSWER));
        let (low, high) = asked.map_err(|error| {
            self.error(format!(
                "ends of topic {topic:?}, partition {partition}: {error}"
            ))
        })?;
        Ok((of(low), of(high)))
    }

    /// Of each partition of a topic the offset after the last record, and what is committed for the job's group.
    ///
    /// # Errors
    /// The brokers do not answer, or do not show it.
    pub fn ends(
        &self,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<(Offset, Option<Offset>)>, ClusterError> {
        let committed = self.committed(None, topic, partitions)?;
        let end = |partition| {
            let end = self.watermarks(topic, partition)?.1;
            Ok((end, offset_of(&committed, partition)))
        };
        (0..partitions).map(end).collect()
    }

    /// The first offset of a message that is not older. `None`: there is none yet.
    pub(super) fn offset_at(
        &self,
        topic: &str,
        partition: u32,
        time: i64,
    ) -> Result<Option<Offset>, ClusterError> {
        let failed = |error: KafkaError| {
            self.error(format!(
                "look up a time in topic {topic:?}, partition {partition}: {error}"
            ))
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.cast_signed(), KafkaOffset::Offset(time))
            .map_err(failed)?;
        let looker = self.looker()?;
        let found = persist(|| looker.offsets_for_times(list.clone(), ANSWER)).map_err(failed)?;
        let elements = found.elements();
        let Some(element) = elements.first() else {
            return Ok(None);
        };
        element.error().map_err(failed)?;
        Ok(match element.offset() {
            KafkaOffset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        })
    }

    /// What a consumer group has committed of a topic's partitions. `None`: the job's own group.
    ///
    /// # Errors
    /// The brokers do not answer, or do not show it.
    pub(super) fn committed(
        &self,
        group: Option<&str>,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<Committed>, ClusterError> {
        let named = group.unwrap_or(&self.options().group_id);
        let failed = |why: String| self.error(format!("offsets of group {named:?}: {why}"));
        let lone = group.map(|group| {
            let mut config = self.settings();
            config
                .set("group.id", group)
                .set("enable.auto.commit", "false");
            config.create::<BaseConsumer>()
        });
        let lone = lone
            .transpose()
            .map_err(|error| failed(error.to_string()))?;
        let looker = self.looker()?;
        let list = persist(|| {
            let mut list = TopicPartitionList::new();
            list.add_partition_range(topic, 0, partitions.cast_signed() - 1);
            match &lone {
                None => looker.committed_offsets(list, ANSWER),
                Some(lone) => lone.committed_offsets(list, ANSWER),
            }
        });
        let list = list.map_err(|error| failed(error.to_string()))?;
        committed(&list).map_err(failed)
    }
}

/// What is committed of a partition.
pub(super) fn offset_of(committed: &[Committed], partition: u32) -> Option<Offset> {
    let mut committed = committed.iter();
    let of = committed.find(|committed| committed.partition == partition);
    of.map(|committed| committed.offset)
}
