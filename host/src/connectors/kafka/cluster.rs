//! A cluster: its settings, what is known of its brokers, and the client that looks things up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::native::{Client, Health, Role};
use crate::connectors::{PlaceError, SinkError, SourceError, Standing};

/// How long an answer is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long brokers are waited for when a job starts.
const CONNECT: Duration = Duration::from_secs(30);
/// The least that is fetched ahead of a partition.
const FETCH_LEAST: u64 = 256 << 10;
/// What the client needs for a message beside its bytes.
const MESSAGE: u64 = 400;
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

/// A cluster that the job reads or writes.
pub struct Cluster {
    options: ClusterOptions,
    health: Arc<Health>,
    /// Who looks things up. It sees also what is not committed.
    looker: Mutex<Option<Arc<BaseConsumer<Looking>>>>,
}

/// Notes what the client of the looker is told.
pub(super) struct Looking {
    cluster: String,
    health: Arc<Health>,
}

impl ClientContext for Looking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.health.note_log(facility, line);
        tracing::debug!(cluster = %self.cluster, ?level, "{facility}: {line}");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        self.health.note_error(reason.to_owned());
    }
}

impl ConsumerContext for Looking {}

impl From<ClusterError> for PlaceError {
    fn from(error: ClusterError) -> PlaceError {
        let place = format!("Kafka cluster {:?}", error.cluster);
        PlaceError::new(place, error.what)
    }
}

impl From<ClusterError> for SourceError {
    fn from(error: ClusterError) -> SourceError {
        SourceError::Unavailable(error.into())
    }
}

impl From<ClusterError> for SinkError {
    fn from(error: ClusterError) -> SinkError {
        SinkError::Unavailable(error.into())
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

    /// How a partition is named in errors.
    pub(super) fn place_of(&self, topic: &str, partition: u32) -> String {
        let cluster = self.name();
        format!("Kafka cluster {cluster:?}, topic {topic:?}, partition {partition}")
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

    /// A client that reads what is committed, and fetches so many bytes ahead of each partition.
    pub(super) fn consumer(&self, share: u64) -> Result<Client, ClusterError> {
        let share = share.max(FETCH_LEAST);
        let mut config = self.settings();
        config
            .set("group.id", &self.options.group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            // More is fetched while less than half of the share waits, by bytes and by what the client needs for each message.
            .set("queued.min.messages", (share / 2 / MESSAGE).to_string())
            .set(
                "queued.max.messages.kbytes",
                (share >> 11).min(2_097_151).to_string(),
            )
            .set(
                "fetch.message.max.bytes",
                (share / 4).min(FETCH_MOST).to_string(),
            );
        set_unless_set(&mut config, "fetch.wait.max.ms", "100");
        // A queue that was full and is read is filled again soon.
        set_unless_set(&mut config, "fetch.queue.backoff.ms", "100");
        let made = Client::new(&config, Role::Consumer, &self.options.name, &self.health);
        made.map_err(|why| self.error(why))
    }
}

/// What the job file may say otherwise.
pub(super) fn set_unless_set(config: &mut ClientConfig, key: &str, value: &str) {
    if config.get(key).is_none() {
        config.set(key, value);
    }
}

/// Asks again while brokers are only busy with themselves: one takes over from another, or has just begun to serve.
pub(super) fn persist<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let until = Instant::now() + CONNECT;
    loop {
        let asked = ask();
        let code = asked.as_ref().err().and_then(|error| match error {
            KafkaError::AdminOp(code) => Some(*code),
            error => error.rdkafka_error_code(),
        });
        let passes = matches!(
            code,
            Some(
                RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::NotController
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
pub(super) fn is_final(error: &str) -> bool {
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

pub(super) fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
