//! What a stream of Kafka lies in: offsets mean nothing in another cluster, or in another topic of the same name.

use serde::{Deserialize, Serialize};

use super::{Kind, Record};

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// The id of the cluster, as its brokers say it.
    pub cluster: String,
    /// The name of the topic.
    pub topic: String,
    /// The id of the topic.
    pub id: String,
}

impl TopicRecord {
    /// Why a stream cannot be in another topic than it was, if it is.
    pub fn misfit(&self, stream: &str, now: &TopicRecord) -> Option<String> {
        let TopicRecord { cluster, topic, id } = self;
        if *cluster != now.cluster {
            return Some(format!(
                "stream {stream:?} was in the Kafka cluster with id {cluster:?} and is now in the one with id {:?} (offsets do not carry over, not to a mirror either: give the new stream another name)",
                now.cluster
            ));
        }
        if *topic != now.topic {
            return Some(format!(
                "stream {stream:?} was topic {topic:?} and is now topic {:?} (offsets do not carry over: give the new stream another name)",
                now.topic
            ));
        }
        (*id != now.id).then(|| {
            format!(
                "topic {topic:?} of stream {stream:?} was deleted and made anew: its id was {id} and is now {} (offsets do not carry over: give the new stream another name, or run `wasm-host reset` to begin again)",
                now.id
            )
        })
    }
}

impl Record for TopicRecord {
    type Key = String;
    const KIND: Kind = Kind::Topic;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::testing::assert_stored_as;

    fn record() -> TopicRecord {
        TopicRecord {
            cluster: "c".to_owned(),
            topic: "words".to_owned(),
            id: "i".to_owned(),
        }
    }

    #[test]
    fn its_bytes_are_frozen() {
        assert_stored_as(
            &"w".to_owned(),
            &record(),
            ("746f7069632f77", "01016305776f7264730169"),
        );
    }

    #[test]
    fn another_cluster_topic_or_id_is_another_topic() {
        assert_eq!(record().misfit("w", &record()), None);
        let others = [
            ("d", "words", "i"),
            ("c", "lines", "i"),
            ("c", "words", "j"),
        ];
        for (cluster, topic, id) in others {
            let other = TopicRecord {
                cluster: cluster.to_owned(),
                topic: topic.to_owned(),
                id: id.to_owned(),
            };
            assert!(record().misfit("w", &other).is_some(), "{other:?}");
        }
    }
}
