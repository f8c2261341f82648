//! Topics of a cluster: what they are, what they refuse, and how they are made.

use std::time::{Duration, Instant};

use rdkafka::admin::{self, AdminClient, AdminOptions, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::cluster::{ANSWER, Cluster, ClusterError, is_final, millis, persist};
use super::native::{DescribedTopic, describe_topics};
use crate::model::MessageBounds;

/// How long an answer is waited for that is only for information.
const LOOK: Duration = Duration::from_secs(1);

/// A topic that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id: another topic of the same name has another.
    pub id: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// What brokers have as default where a topic's settings may not be looked at: their bound on a batch of records.
const RECORD_MAX: u64 = 1_048_588;

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: u32,
    /// How many copies. `None`: as the cluster's options say, or the brokers.
    pub replication: Option<u32>,
    /// Its settings, by Kafka's names.
    pub config: Vec<(String, String)>,
}

impl Cluster {
    /// What the brokers say of topics; `None`: there is none of that name.
    ///
    /// # Errors
    /// They do not answer, or do not show one.
    pub fn topics(&self, names: &[&str]) -> Result<Vec<Option<Topic>>, ClusterError> {
        let looker = self.looker()?;
        let until = Instant::now() + ANSWER;
        let described = loop {
            match describe_topics(looker.client(), names, millis(ANSWER)) {
                Ok(described) => break described,
                Err(why) if is_final(&why) || Instant::now() >= until => {
                    return Err(self.error(format!("look up topics: {why}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let topics = described.into_iter().zip(names);
        topics
            .map(|(described, name)| match described {
                DescribedTopic::Known { id, partitions } => Ok(Some(Topic { id, partitions })),
                DescribedTopic::Missing => Ok(None),
                DescribedTopic::Refused(why) => Err(self.error(format!("topic {name:?}: {why}"))),
            })
            .collect()
    }

    /// What topics refuse. Where their settings may not be looked at, the brokers' default is taken for them, and that is said.
    ///
    /// # Errors
    /// The brokers do not answer.
    pub fn bounds(&self, names: &[&str]) -> Result<Vec<MessageBounds>, ClusterError> {
        let failed = |why: String| self.error(format!("look up settings of topics: {why}"));
        let admin = self.admin()?;
        let topics: Vec<_> = names
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let found = persist(|| waited_for(admin.describe_configs(&topics, &options)));
        let found = found.map_err(|error| failed(error.to_string()))?;
        let bounds = names.iter().zip(found).map(|(name, found)| match found {
            Ok(found) => bounds_of(&|key| found.get(key)?.value.clone()),
            Err(code) => {
                tracing::warn!(
                    "{}",
                    self.error(format!(
                        "the settings of topic {name:?} cannot be looked at ({code:?}: {code}): it is taken to have those of a new topic"
                    ))
                );
                bounds_of(&|_| None)
            }
        });
        Ok(bounds.collect())
    }

    /// The first partition of a topic of which not all copies are in sync, in words. Says nothing while brokers are away.
    pub(super) fn short_of_copies(&self, topic: &str) -> Option<String> {
        if self.health().now().away_since.is_some() {
            return None;
        }
        let looker = self.looker().ok()?;
        let asked = looker.client().fetch_metadata(Some(topic), LOOK).ok()?;
        let mut partitions = asked.topics().first()?.partitions().iter();
        let short = partitions.find(|partition| partition.isr().len() < partition.replicas().len());
        short.map(|partition| {
            format!(
                "topic {topic:?}, partition {}: {} of {} replicas are in sync, and with fewer than `min.insync.replicas` brokers take nothing",
                partition.id(),
                partition.isr().len(),
                partition.replicas().len()
            )
        })
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, ClusterError> {
        let made = self.settings().create();
        made.map_err(|error| self.error(error.to_string()))
    }

    /// Makes a topic, and waits until it is seen.
    ///
    /// # Errors
    /// It may not be made, or the brokers do not answer.
    pub fn create(&self, new: &NewTopic) -> Result<Topic, ClusterError> {
        let failed = |why: String| self.error(format!("make topic {:?}: {why}", new.name));
        let admin = self.admin()?;
        let replication = new.replication.or(self.options().replication);
        let replication = replication.map_or(-1, |copies| i32::try_from(copies).unwrap_or(-1));
        let partitions = i32::try_from(new.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(replication);
        let mut topic = admin::NewTopic::new(&new.name, partitions, replication);
        for (key, value) in &new.config {
            topic = topic.set(key, value);
        }
        let timeout = Some(ANSWER);
        let options = AdminOptions::new()
            .operation_timeout(timeout)
            .request_timeout(timeout);
        let made = persist(|| {
            let made = waited_for(admin.create_topics([&topic], &options))?;
            match made.into_iter().next() {
                Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                    Err(KafkaError::AdminOp(code))
                }
                _ => Ok(()),
            }
        });
        made.map_err(|error| match error {
            KafkaError::AdminOp(code) => failed(format!("{code:?}: {code}")),
            error => failed(error.to_string()),
        })?;
        let until = Instant::now() + ANSWER;
        loop {
            // Not every broker knows it at once.
            match self.topics(&[&new.name])?.pop().flatten() {
                Some(topic) if topic.partitions == new.partitions => return Ok(topic),
                Some(topic) => {
                    let partitions = topic.partitions;
                    return Err(failed(format!("it has {partitions} partitions already")));
                }
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
                None => return Err(failed("no broker shows it".to_owned())),
            }
        }
    }
}

/// What follows from the settings of a topic.
fn bounds_of(setting: &dyn Fn(&str) -> Option<String>) -> MessageBounds {
    let number = |key: &str| setting(key)?.parse::<i64>().ok();
    let policy = setting("cleanup.policy").unwrap_or_default();
    // With the time of appending, the brokers set the timestamps.
    let sets_times = setting("message.timestamp.type").as_deref() == Some("LogAppendTime");
    let time = |key: &str| number(key).filter(|_| !sets_times).unwrap_or(i64::MAX);
    MessageBounds {
        bytes: number("max.message.bytes")
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or(RECORD_MAX),
        needs_key: policy.split(',').any(|word| word.trim() == "compact"),
        older_ms: time("message.timestamp.before.max.ms"),
        later_ms: time("message.timestamp.after.max.ms"),
    }
}

/// Waits for what is asked of an admin client.
fn waited_for<T>(asked: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    let waiting = tokio::runtime::Builder::new_current_thread().build();
    let waiting = waiting.map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
    waiting.block_on(asked)
}
