//! Clusters of Kafka: from the job file to connectors, and what the job file leaves to the brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Missing, OfTopic};
use crate::admin::json;
use crate::cli::{Failure, exit};
use crate::config::{self, Delivery, Job, KafkaStream, Mechanism, Security, Setting, System};
use crate::connectors::kafka::{
    CarrierOptions, Cluster, ClusterError, ClusterOptions, Figures, Guarantee, InputEnd,
    KafkaCarrier, KafkaInput, KafkaInputOptions, KafkaOutput, NewTopic, Readers, Topic,
    WrittenTopic,
};
use crate::connectors::{Input, Lost, Remote, Standing};
use crate::coordinator::{Reads, TopicRecord, Writes};
use crate::disk::Disk;
use crate::model::{Clock, MessageBounds, SystemClock};

/// The clusters of a job that it makes use of.
pub(in crate::cli) struct Clusters {
    clusters: BTreeMap<String, Arc<Cluster>>,
    /// Who reads each of them.
    readers: BTreeMap<String, Arc<Readers>>,
    /// Who delivers to a cluster, by its name and how.
    carriers: Mutex<BTreeMap<(String, Delivery), Arc<KafkaCarrier>>>,
    /// The ids of clusters by name, as far as brokers were asked.
    ids: Mutex<BTreeMap<String, String>>,
    lost: Lost,
    disk: Disk,
    /// The topics that streams are, by the names of the streams, as far as brokers were asked.
    topics: Mutex<BTreeMap<String, TopicRecord>>,
    /// What is refused of what is written to streams, by their names.
    bounds: Mutex<BTreeMap<String, MessageBounds>>,
}

impl Clusters {
    /// The clusters as the job file declares them. Nobody is asked yet. `lost`: what the operator says of marks of deliveries.
    pub(in crate::cli) fn new(job: &Job, lost: Lost, disk: &Disk) -> Clusters {
        let used = job.clusters.iter().filter(|(_, declared)| declared.used);
        let clusters = used.map(|(name, declared)| {
            let cluster = Cluster::new(options(job, name, declared));
            (name.clone(), Arc::new(cluster))
        });
        let clusters: BTreeMap<_, _> = clusters.collect();
        let readers = clusters
            .iter()
            .map(|(name, cluster)| (name.clone(), Arc::new(Readers::new(cluster))));
        Clusters {
            readers: readers.collect(),
            clusters,
            carriers: Mutex::default(),
            ids: Mutex::default(),
            lost,
            disk: disk.clone(),
            topics: Mutex::default(),
            bounds: Mutex::default(),
        }
    }

    /// Asks the brokers for the topics of the job, and fills in how many partitions streams and stages have.
    pub(in crate::cli) fn resolve(&self, job: &mut Job, missing: Missing) -> Result<(), Failure> {
        for (name, cluster) in &self.clusters {
            let wanted: Vec<(String, KafkaStream)> = kafka_streams(job)
                .filter(|(_, kafka)| kafka.cluster == *name)
                .map(|(stream, kafka)| (stream.clone(), kafka.clone()))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let id = cluster.id(&wanted[0].1.topic).map_err(failed)?;
            self.ids.lock().insert(name.clone(), id.clone());
            let topics = find(cluster, &wanted, missing)?;
            self.look_up_bounds(cluster, job, &wanted, &topics)?;
            for ((stream, kafka), topic) in wanted.iter().zip(topics) {
                let partitions = match topic {
                    Some(topic) => {
                        let partitions = topic.partitions;
                        let record = TopicRecord {
                            cluster: id.clone(),
                            topic: (*kafka.topic).clone(),
                            id: topic.id,
                        };
                        self.topics.lock().insert(stream.clone(), record);
                        Some(partitions)
                    }
                    None => kafka.create.as_ref().map(|create| create.partitions),
                };
                fill_in(job, stream, partitions)?;
            }
        }
        fill_in_stages(job)
    }

    /// Asks what the topics that are written refuse.
    fn look_up_bounds(
        &self,
        cluster: &Cluster,
        job: &Job,
        wanted: &[(String, KafkaStream)],
        topics: &[Option<Topic>],
    ) -> Result<(), Failure> {
        let written = wanted.iter().zip(topics);
        let written =
            written.filter(|((stream, _), topic)| topic.is_some() && job.streams[stream].written);
        let written: Vec<_> = written.map(|(wanted, _)| wanted).collect();
        if written.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = written
            .iter()
            .map(|(_, kafka)| kafka.topic.as_str())
            .collect();
        let bounds = cluster.bounds(&names).map_err(failed)?;
        let named = written.iter().map(|(stream, _)| stream.clone()).zip(bounds);
        self.bounds.lock().extend(named);
        Ok(())
    }

    /// What reads a stream of a job, if that is a topic.
    pub(in crate::cli) fn input(
        &self,
        job: &Job,
        name: &str,
    ) -> Result<Option<Arc<dyn Input>>, Failure> {
        let declared = &job.streams[name];
        let System::Kafka(kafka) = &declared.system else {
            return Ok(None);
        };
        let partitions = kafka.partitions.unwrap_or_default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let made = self.stream(name, declared, (kafka, partitions, None), &clock);
        let (reads, ..) = made.map_err(|why| Failure::new(exit::USAGE, why))?;
        Ok(match reads {
            Some(Reads::External(input)) => Some(input),
            Some(Reads::Log(_)) | None => None,
        })
    }

    /// Fills in what brokers know of positions.
    pub(in crate::cli) fn complete(
        &self,
        job: &Job,
        offsets: &mut [json::Offset],
    ) -> Result<(), Failure> {
        for (name, kafka) in kafka_streams(job) {
            let Some(cluster) = self.clusters.get(&kafka.cluster) else {
                continue;
            };
            let partitions = kafka.partitions.unwrap_or_default();
            let ends = cluster.ends(&kafka.topic, partitions).map_err(failed)?;
            for offset in offsets.iter_mut().filter(|offset| offset.stream == *name) {
                if let Some((end, committed)) = ends.get(offset.partition as usize) {
                    offset.end = Some(*end);
                    offset.lag = Some(end.saturating_sub(offset.position));
                    offset.committed = *committed;
                }
            }
        }
        Ok(())
    }

    /// The clusters, for those who ask how they are.
    pub(super) fn remotes(&self) -> Vec<Arc<dyn Remote>> {
        let carriers = self.carriers.lock();
        let remote = |(name, cluster): (&String, &Arc<Cluster>)| {
            let own = carriers.iter().filter(|((of, _), _)| of == name);
            Arc::new(OfCluster {
                cluster: Arc::clone(cluster),
                carriers: own.map(|(_, carrier)| Arc::clone(carrier)).collect(),
            }) as Arc<dyn Remote>
        };
        self.clusters.iter().map(remote).collect()
    }

    /// A stream of Kafka.
    pub(super) fn stream(
        &self,
        name: &str,
        declared: &config::Stream,
        (kafka, partitions, group): (&KafkaStream, u32, Option<&str>),
        clock: &Arc<dyn Clock>,
    ) -> Result<OfTopic, String> {
        let cluster = self.clusters.get(&kafka.cluster).ok_or_else(|| {
            format!(
                "cluster {:?} is new, which needs a restart of the job",
                kafka.cluster
            )
        })?;
        let topic = self.topics.lock().get(name).cloned();
        let reads = declared.read.then(|| {
            let options = KafkaInputOptions {
                topic: (*kafka.topic).clone(),
                partitions,
                end: match kafka.until {
                    Some(_) => InputEnd::AtOpen,
                    None => InputEnd::Never,
                },
                group: group.map(str::to_owned),
                lost: self.lost,
                topic_id: topic.as_ref().map(|topic| topic.id.clone()),
            };
            let readers = Arc::clone(&self.readers[&kafka.cluster]);
            let input = KafkaInput::new(readers, options, Arc::clone(clock));
            Reads::External(Arc::new(input))
        });
        let bounds = self.bounds.lock().get(name).copied();
        let writes = declared.written.then(|| {
            let carrier = self.carrier(cluster, *kafka.delivery);
            let written = WrittenTopic {
                name: (*kafka.topic).clone(),
                partitions,
                bounds: bounds.unwrap_or(MessageBounds::NONE),
            };
            let output = KafkaOutput::new(&carrier, name, written);
            Writes::Outbox(Arc::new(output))
        });
        Ok((reads, writes, topic))
    }

    /// Who delivers to a cluster.
    fn carrier(&self, cluster: &Arc<Cluster>, delivery: Delivery) -> Arc<KafkaCarrier> {
        let name = cluster.name().to_owned();
        let mut carriers = self.carriers.lock();
        let make = || {
            let options = CarrierOptions {
                cluster_id: self.ids.lock().get(&name).cloned().unwrap_or_default(),
                guarantee: match delivery {
                    Delivery::ExactlyOnce => Guarantee::ExactlyOnce,
                    Delivery::AtLeastOnce => Guarantee::AtLeastOnce,
                },
                lost: self.lost,
                disk: self.disk.clone(),
            };
            Arc::new(KafkaCarrier::new(Arc::clone(cluster), options))
        };
        let carrier = carriers
            .entry((name.clone(), delivery))
            .or_insert_with(make);
        Arc::clone(carrier)
    }
}

/// A cluster and who delivers to it.
struct OfCluster {
    cluster: Arc<Cluster>,
    carriers: Vec<Arc<KafkaCarrier>>,
}

impl Remote for OfCluster {
    fn standing(&self) -> Standing {
        let figures = || self.carriers.iter().map(|carrier| carrier.figures());
        let sum = |of: fn(&Figures) -> &AtomicU64| {
            let counts = figures().map(|figures| of(figures).load(Ordering::Relaxed));
            counts.sum::<u64>()
        };
        let waiting = figures().find_map(Figures::waiting);
        Standing {
            undelivered: waiting.map(|waiting| (waiting.since_ms, waiting.why)),
            transactions: sum(|figures| &figures.transactions),
            last_transaction: figures().find_map(Figures::took),
            producers_stale: sum(|figures| &figures.stale),
            producers_broken: sum(|figures| &figures.broken),
            ..self.cluster.standing()
        }
    }
}

/// The streams of Kafka that stages use.
fn kafka_streams(job: &Job) -> impl Iterator<Item = (&String, &KafkaStream)> {
    let streams = job.streams.iter();
    streams.filter_map(|(name, stream)| match &stream.system {
        System::Kafka(kafka) if stream.read || stream.written => Some((name, kafka)),
        _ => None,
    })
}

/// The topics of streams, in their order.
fn find(
    cluster: &Cluster,
    wanted: &[(String, KafkaStream)],
    missing: Missing,
) -> Result<Vec<Option<Topic>>, Failure> {
    let names: Vec<&str> = wanted
        .iter()
        .map(|(_, kafka)| kafka.topic.as_str())
        .collect();
    let mut topics = cluster.topics(&names).map_err(failed)?;
    for ((stream, kafka), topic) in wanted.iter().zip(&mut topics) {
        if topic.is_some() {
            continue;
        }
        let (name, place) = (&*kafka.topic, cluster.name());
        match (&kafka.create, missing) {
            (Some(create), Missing::Make) => {
                let new = NewTopic {
                    name: name.clone(),
                    partitions: create.partitions,
                    replication: create.replication,
                    config: plain(&create.config),
                };
                *topic = Some(cluster.create(&new).map_err(failed)?);
                tracing::info!("Kafka cluster {place:?}: made topic {name:?} of stream {stream:?}");
            }
            (Some(_), Missing::Leave) => {}
            (Some(_), Missing::Refuse) | (None, _) => {
                let what = format!(
                    "stream {stream:?}: Kafka cluster {place:?} has no topic {name:?}: make it, or let the job make it with create = {{ partitions = … }} in [streams.{stream}]"
                );
                return Err(Failure::new(exit::USAGE, what));
            }
        }
    }
    Ok(topics)
}

/// A stream has as many partitions as its topic, if it says nothing else.
fn fill_in(job: &mut Job, stream: &str, found: Option<u32>) -> Result<(), Failure> {
    let declared = job.streams.get_mut(stream).map(|stream| &mut stream.system);
    let (Some(System::Kafka(kafka)), Some(found)) = (declared, found) else {
        return Ok(());
    };
    match kafka.partitions {
        Some(wanted) if wanted != found => Err(Failure::new(
            exit::USAGE,
            format!(
                "stream {stream:?}: topic {:?} has {found} partitions, and the job file says {wanted}: leave `partitions` out to take what the topic has",
                *kafka.topic
            ),
        )),
        _ => {
            kafka.partitions = Some(found);
            Ok(())
        }
    }
}

/// Every stage has as many tasks as each of its inputs has partitions.
fn fill_in_stages(job: &mut Job) -> Result<(), Failure> {
    for stage in &mut job.stages {
        for input in &stage.inputs {
            let Some(found) = job.streams[&input.stream].partitions() else {
                continue;
            };
            if *stage.partitions.get_or_insert(found) != found {
                let what = format!(
                    "stage {:?}: input {:?} has {found} partitions, and another input has {}: partition p of every input goes to task p",
                    stage.name,
                    input.stream,
                    stage.partitions.unwrap_or_default()
                );
                return Err(Failure::new(exit::USAGE, what));
            }
        }
    }
    Ok(())
}

fn failed(error: ClusterError) -> Failure {
    Failure::of(exit::HOST, &error)
}

fn options(job: &Job, name: &str, declared: &config::Cluster) -> ClusterOptions {
    ClusterOptions {
        name: name.to_owned(),
        settings: settings(job, declared),
        group_id: (*declared.group_id).clone(),
        transaction_timeout: *declared.transaction_timeout,
        fetch_memory: declared.fetch_memory.bytes(),
        replication: declared.replication,
        epoch_bytes: job.checkpoint.bytes.bytes(),
    }
}

/// What librdkafka is told, by its own names.
fn settings(job: &Job, declared: &config::Cluster) -> Vec<(String, String)> {
    let brokers: Vec<&str> = declared
        .brokers
        .iter()
        .map(|broker| broker.as_str())
        .collect();
    let mut settings = plain(&declared.client);
    let mut set = |key: &str, value: &str| settings.push((key.to_owned(), value.to_owned()));
    set("bootstrap.servers", &brokers.join(","));
    if !declared.client.contains_key("client.id") {
        set("client.id", &format!("wasm-host-{}", job.general.name));
    }
    let security = match *declared.security {
        Security::Plaintext => "plaintext",
        Security::Tls => "ssl",
        Security::SaslPlaintext => "sasl_plaintext",
        Security::SaslTls => "sasl_ssl",
    };
    set("security.protocol", security);
    if let Some(sasl) = &declared.sasl {
        let mechanism = match *sasl.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::OauthBearer => "OAUTHBEARER",
        };
        set("sasl.mechanism", mechanism);
        if *sasl.mechanism == Mechanism::OauthBearer {
            set("sasl.oauthbearer.method", "oidc");
        }
        let texts = [
            ("sasl.username", &sasl.username),
            ("sasl.password", &sasl.password),
            ("sasl.oauthbearer.token.endpoint.url", &sasl.token_url),
            ("sasl.oauthbearer.client.id", &sasl.client_id),
            ("sasl.oauthbearer.client.secret", &sasl.client_secret),
            ("sasl.oauthbearer.scope", &sasl.scope),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                set(key, text);
            }
        }
    }
    if let Some(tls) = &declared.tls {
        let files = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.certificate),
            ("ssl.key.location", &tls.key),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                set(key, &file.to_string_lossy());
            }
        }
        if let Some(password) = &tls.key_password {
            set("ssl.key.password", password);
        }
    }
    settings
}

fn plain(texts: &BTreeMap<String, Setting<String>>) -> Vec<(String, String)> {
    let texts = texts.iter();
    texts
        .map(|(key, text)| (key.clone(), (**text).clone()))
        .collect()
}
