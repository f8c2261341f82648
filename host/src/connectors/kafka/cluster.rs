//! A cluster: what is asked of it, and the clients that read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::admin::{self, AdminClient, AdminOptions, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::mirror::Mirrored;
use super::native::{Client, Committed, DescribedTopic, Health, Role, committed, describe_topics};
use crate::connectors::Standing;
use crate::model::{MessageBounds, Offset};

/// How long an answer is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long brokers are waited for when a job starts.
const CONNECT: Duration = Duration::from_secs(30);
/// The least that is fetched ahead of a partition.
const FETCH_LEAST: u64 = 256 << 10;
/// The most that is fetched of a partition at a time.
const FETCH_MOST: u64 = 64 << 20;

/// A cluster, as the job file declares it.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its name in the job file.
    pub name: String,
    /// Settings of librdkafka: brokers, security, and what is passed through.
    pub settings: Vec<(String, String)>,
    /// Names the job to the cluster: its consumer group, its transactional id and the topic of its marks begin with it.
    pub group_id: String,
    /// How long the brokers keep a transaction open.
    pub transaction_timeout: Duration,
    /// What may be fetched ahead of all partitions together, bytes.
    pub fetch_memory: u64,
    /// Of topics that are made.
    pub replication: Option<u32>,
    /// What an epoch may send at most, bytes.
    pub epoch_bytes: u64,
}

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

/// A cluster that the job reads or writes.
pub struct Cluster {
    options: ClusterOptions,
    health: Arc<Health>,
    /// Who looks things up. It sees also what is not committed.
    looker: Mutex<Option<Arc<BaseConsumer<Looking>>>>,
    readers: Mutex<Vec<Reading>>,
    /// How many partitions the job reads.
    partitions: AtomicU32,
    pub(super) mirrored: Mirrored,
}

/// A client that reads, and what it reads. It can read a partition once at a time.
struct Reading {
    client: Arc<Client>,
    partitions: BTreeSet<(String, u32)>,
}

/// Notes what the client of the looker is told.
pub(super) struct Looking {
    cluster: String,
    health: Arc<Health>,
    /// How many commits of offsets it was asked for, and how many have come to an end.
    pub(super) asked: AtomicU64,
    pub(super) answered: AtomicU64,
}

impl ClientContext for Looking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(cluster = %self.cluster, ?level, "{facility}: {line}");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.health.note_error(reason.to_owned());
    }
}

impl ConsumerContext for Looking {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(cluster = %self.cluster, "commit offsets: {error}");
        }
        self.answered.fetch_add(1, Ordering::AcqRel);
    }
}

/// A cluster could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Kafka cluster {cluster:?}: {what}")]
pub struct ClusterError {
    /// Its name in the job file.
    pub cluster: String,
    /// What was asked, and what came of it.
    pub what: String,
}

impl Cluster {
    /// A cluster. Nobody is asked yet.
    pub fn new(options: ClusterOptions) -> Cluster {
        Cluster {
            options,
            health: Arc::default(),
            looker: Mutex::default(),
            readers: Mutex::default(),
            partitions: AtomicU32::new(0),
            mirrored: Mirrored::default(),
        }
    }

    /// Its name in the job file.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// How it is, but for deliveries.
    pub fn standing(&self) -> Standing {
        let now = self.health.now();
        Standing {
            name: self.options.name.clone(),
            away_since: now.away_since,
            error: now.error,
            ..Standing::default()
        }
    }

    pub(super) fn options(&self) -> &ClusterOptions {
        &self.options
    }

    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// An error of this cluster, with what its brokers have said last.
    pub(super) fn error(&self, what: impl Into<String>) -> ClusterError {
        let mut what = what.into();
        if let Some(said) = self.health.last_error()
            && !what.contains(&said)
        {
            what = format!("{what}; the client's last error: {said}");
        }
        ClusterError {
            cluster: self.options.name.clone(),
            what,
        }
    }

    /// The settings that all clients have.
    pub(super) fn settings(&self) -> ClientConfig {
        let mut config: ClientConfig = self.options.settings.iter().cloned().collect();
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    pub(super) fn looker(&self) -> Result<Arc<BaseConsumer<Looking>>, ClusterError> {
        let mut looker = self.looker.lock();
        if let Some(looker) = &*looker {
            return Ok(Arc::clone(looker));
        }
        let mut config = self.settings();
        config
            .set("group.id", &self.options.group_id)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted");
        let context = Looking {
            cluster: self.options.name.clone(),
            health: Arc::clone(&self.health),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        };
        let made: Result<BaseConsumer<Looking>, _> = config.create_with_context(context);
        let made = Arc::new(made.map_err(|error| self.error(error.to_string()))?);
        *looker = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The id of the cluster, by which it is known wherever its brokers are. Waits for them; asks for a topic, because a client connects
    /// only to ask for something.
    ///
    /// # Errors
    /// No broker has answered.
    pub fn id(&self, topic: &str) -> Result<String, ClusterError> {
        let looker = self.looker()?;
        let until = Instant::now() + CONNECT;
        loop {
            let slice = Duration::from_secs(1);
            let asked = looker.client().fetch_metadata(Some(topic), slice);
            let id = asked
                .ok()
                .and_then(|_| looker.client().fetch_cluster_id(slice));
            // Serves the callbacks, which say why.
            let _ = looker.poll(Duration::ZERO);
            if let Some(id) = id {
                return Ok(id);
            }
            let is_refused = self
                .health
                .last_error()
                .is_some_and(|error| is_final(&error));
            if is_refused || Instant::now() >= until {
                return Err(self.error(format!(
                    "no broker of {:?} answers",
                    self.setting("bootstrap.servers")
                )));
            }
        }
    }

    fn setting(&self, name: &str) -> &str {
        let settings = self.options.settings.iter();
        let mut found = settings.filter(|(key, _)| key == name);
        found.next().map_or("", |(_, value)| value)
    }

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
        let found = waited_for(admin.describe_configs(&topics, &options)).map_err(failed)?;
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
        let replication = new.replication.or(self.options.replication);
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
        let made = waited_for(admin.create_topics([&topic], &options));
        match made.map_err(failed)?.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                return Err(failed(format!("{code:?}: {code}")));
            }
            _ => {}
        }
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
            let mut committed = committed.iter();
            let of = committed.find(|committed| committed.partition == partition);
            let end = self.watermarks(topic, partition)?.1;
            Ok((end, of.map(|committed| committed.offset)))
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
        let found = self
            .looker()?
            .offsets_for_times(list, ANSWER)
            .map_err(failed)?;
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
        let named = group.unwrap_or(&self.options.group_id);
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

    /// The job reads so many more partitions, which share what may be fetched ahead.
    pub(super) fn add_partitions(&self, partitions: u32) {
        self.partitions.fetch_add(partitions, Ordering::AcqRel);
    }

    /// A client that does not read a partition yet, which it reads from now on.
    pub(super) fn reader(&self, topic: &str, partition: u32) -> Result<Arc<Client>, ClusterError> {
        let place = (topic.to_owned(), partition);
        let mut readers = self.readers.lock();
        for reading in readers.iter_mut() {
            if reading.partitions.insert(place.clone()) {
                return Ok(Arc::clone(&reading.client));
            }
        }
        let client = self.make_reader().map_err(|why| self.error(why))?;
        let client = Arc::new(client);
        readers.push(Reading {
            client: Arc::clone(&client),
            partitions: BTreeSet::from([place]),
        });
        Ok(client)
    }

    /// A client reads a partition no more.
    pub(super) fn leave(&self, client: &Arc<Client>, topic: &str, partition: u32) {
        let mut readers = self.readers.lock();
        let reading = readers
            .iter_mut()
            .find(|reading| Arc::ptr_eq(&reading.client, client));
        if let Some(reading) = reading {
            reading.partitions.remove(&(topic.to_owned(), partition));
        }
        // The first stays: others come back to it.
        let mut at = 0;
        readers.retain(|reading| {
            at += 1;
            at == 1 || !reading.partitions.is_empty()
        });
    }

    /// A client that reads one partition for a moment.
    pub(super) fn lone_reader(&self) -> Result<Client, ClusterError> {
        let made = self.make_client(FETCH_LEAST);
        made.map_err(|why| self.error(why))
    }

    fn make_reader(&self) -> Result<Client, String> {
        let partitions = u64::from(self.partitions.load(Ordering::Acquire).max(1));
        self.make_client((self.options.fetch_memory / partitions).max(FETCH_LEAST))
    }

    /// A client that fetches so much ahead of each partition.
    fn make_client(&self, share: u64) -> Result<Client, String> {
        let mut config = self.settings();
        config
            .set("group.id", &self.options.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            // The bytes are the bound.
            .set("queued.min.messages", "10000000")
            .set(
                "queued.max.messages.kbytes",
                (share >> 10).min(2_097_151).to_string(),
            )
            .set("fetch.message.max.bytes", share.min(FETCH_MOST).to_string());
        Client::new(&config, Role::Consumer, &self.options.name, &self.health)
    }
}

/// Asks again while brokers are only busy with themselves: one takes over from another, or has just begun to serve.
fn persist<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let until = Instant::now() + CONNECT;
    loop {
        let asked = ask();
        let code = asked
            .as_ref()
            .err()
            .and_then(KafkaError::rdkafka_error_code);
        let passes = matches!(
            code,
            Some(
                RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
                    | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::ReplicaNotAvailable
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnstableOffsetCommit
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::NetworkException
            )
        );
        if !passes || Instant::now() >= until {
            return asked;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether an error will not pass by itself: what the client was told to be is refused.
fn is_final(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    [
        "authentication fail",
        "sasl authentication",
        "certificate verify failed",
        "certificate required",
        "bad certificate",
        "authorization failed",
    ]
    .iter()
    .any(|sign| error.contains(sign))
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
fn waited_for<T>(asked: impl Future<Output = Result<T, KafkaError>>) -> Result<T, String> {
    let waiting = tokio::runtime::Builder::new_current_thread().build();
    let waiting = waiting.map_err(|error| error.to_string())?;
    waiting.block_on(asked).map_err(|error| error.to_string())
}

pub(super) fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
