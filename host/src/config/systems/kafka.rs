//! `kafka`: a topic of Apache Kafka, which is read and written.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Kind, PARTITIONS, SystemName};
use crate::config::names;
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::words::words;

pub(super) const KIND: Kind = Kind {
    name: SystemName::Kafka,
    what: "a `kafka` stream",
    keys: &[
        "cluster",
        "topic",
        "partitions",
        "until",
        "create",
        "delivery",
        "max-rate",
    ],
    is_read: true,
    is_written: true,
};

/// A topic.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KafkaStream {
    /// The cluster that it lies in. Default: the only one that is declared.
    pub cluster: String,
    /// Default: the name of the stream.
    pub topic: Setting<String>,
    /// How many it must have. Default: as many as it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Where reading ends. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Setting<Until>>,
    /// How it is made if it is not there. Default: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateTopic>,
    /// How often a message is written that was sent once. Default: `exactly-once`.
    pub delivery: Setting<Delivery>,
}

/// `create`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CreateTopic {
    /// Required.
    pub partitions: u32,
    /// Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<u32>,
    /// Settings of the topic. Default: the brokers'.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Setting<String>>,
}

words! {
    /// Where reading of a topic ends.
    Until, "until", "an end" {
        /// Where each partition ended when the job started.
        End = "end",
    } later []
}

words! {
    /// How often a message is written that was sent once.
    Delivery, "delivery", "a delivery" {
        /// Once for readers of committed messages, whatever crashes.
        ExactlyOnce = "exactly-once",
        /// Once, or again after a crash. For brokers without transactions.
        AtLeastOnce = "at-least-once",
    } later []
}

/// Kafka's own bound on the name of a topic.
const TOPIC_MAX: usize = 249;
/// More copies than any cluster has brokers for.
pub(in crate::config) const REPLICATION_MAX: u32 = 100;

pub(super) fn decode(
    table: &mut Table<'_>,
    stream: &str,
    clusters: &[&str],
) -> Option<KafkaStream> {
    let cluster = cluster(table, clusters);
    let topic = table.text::<String>("topic");
    let topic = topic.unwrap_or_else(|| stream.to_owned().into());
    if let Some(problem) = wrong_topic(&topic) {
        table.cx.error(&table.span_of("topic"), problem);
    }
    let partitions = table.integer_u32("partitions", PARTITIONS);
    let create = create(table);
    if let (Some(wanted), Some(create)) = (partitions, &create)
        && wanted != create.partitions
    {
        let problem = Problem::new(format!(
            "`create` makes {}, and the stream must have {wanted}",
            names::counted(create.partitions, "partition")
        ));
        let span = table.span_of("partitions");
        table
            .cx
            .error(&span, problem.help("leave `partitions` out"));
    }
    Some(KafkaStream {
        cluster: cluster?,
        topic,
        partitions,
        until: table.text("until"),
        create,
        delivery: table
            .text("delivery")
            .unwrap_or(Delivery::ExactlyOnce.into()),
    })
}

fn cluster(table: &mut Table<'_>, clusters: &[&str]) -> Option<String> {
    let declare = "declare it: [clusters.NAME] with brokers = [\"host:port\"]";
    let Some(entry) = table.entry("cluster") else {
        match clusters {
            [only] => return Some((*only).to_owned()),
            [] => table.missing("cluster", declare),
            several => table.missing("cluster", &format!("one of {}", names::quoted(several))),
        }
        return None;
    };
    let name = entry.name("cluster")?;
    if clusters.contains(&name) {
        return Some(name.to_owned());
    }
    let problem = Problem::new(format!("no cluster is named \"{name}\""));
    entry.error(match names::nearest(name, clusters) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem.help(declare),
    });
    None
}

fn create(table: &mut Table<'_>) -> Option<CreateTopic> {
    let mut create = table.table(
        "create",
        "{ partitions = …, replication = …, config = { … } }",
    )?;
    let partitions = create.integer_u32("partitions", PARTITIONS);
    if create.peek("partitions").is_none() {
        create.missing("partitions", "a topic cannot have fewer later");
    }
    let replication = create.integer_u32("replication", 1..=REPLICATION_MAX);
    let config = create.table("config", "{ \"retention.ms\" = \"…\" }");
    let config = config.map(texts).unwrap_or_default();
    create.finish(|_| None);
    Some(CreateTopic {
        partitions: partitions?,
        replication,
        config,
    })
}

/// A table of which every value is text.
fn texts(table: Table<'_>) -> BTreeMap<String, Setting<String>> {
    let entries = table.into_entries().into_iter();
    let texts = entries.filter_map(|entry| Some((entry.key.to_owned(), entry.text::<String>()?)));
    texts.collect()
}

/// Why a name cannot be that of a topic.
fn wrong_topic(topic: &Setting<String>) -> Option<Problem> {
    let is_valid = !topic.is_empty()
        && topic.len() <= TOPIC_MAX
        && !matches!(topic.as_str(), "." | "..")
        && topic
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let problem = Problem::new(format!(
        "{:?} cannot be the name of a topic",
        topic.to_string()
    ));
    (!is_valid).then(|| {
        problem.help(format!(
            "Kafka allows letters, digits, `.`, `_` and `-`, at most {TOPIC_MAX}"
        ))
    })
}
