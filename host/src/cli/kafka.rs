//! `kafka`: what a job needs of its clusters, for those who make it.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::{Failure, Global, job, output};
use crate::config::{Cluster, Job, KafkaStream, System};
use crate::model::MARKS_SETTINGS;

#[derive(Subcommand)]
pub(super) enum KafkaCommand {
    /// Print the topics and the rights that the job needs, as commands of Kafka's own tools. Asks nobody
    Topics,
}

pub(super) fn kafka(global: &Global, command: &KafkaCommand) -> Result<(), Failure> {
    let KafkaCommand::Topics = command;
    let job = job::load(&global.job)?;
    let used = job.clusters.iter().filter(|(_, cluster)| cluster.used);
    let text: String = used
        .map(|(name, cluster)| of(&job, name, cluster))
        .collect();
    match text.is_empty() {
        true => output::text("# the job uses no cluster of Kafka\n"),
        false => output::text(&text),
    }
}

/// What it needs of a cluster.
fn of(job: &Job, name: &str, cluster: &Cluster) -> String {
    let brokers: Vec<String> = cluster.brokers.iter().map(ToString::to_string).collect();
    let server = format!("--bootstrap-server {}", quoted(&brokers.join(",")));
    let user = cluster
        .sasl
        .as_ref()
        .and_then(|sasl| sasl.username.as_ref());
    let user = user.map_or("USER".to_owned(), ToString::to_string);
    let allow = format!(
        "kafka-acls.sh {server} --add --allow-principal {}",
        quoted(&format!("User:{user}"))
    );
    let group = cluster.group_id.to_string();
    let streams = || {
        let all = job.streams.values();
        all.filter_map(|stream| match &stream.system {
            System::Kafka(kafka) if kafka.cluster == name => Some((stream, kafka)),
            _ => None,
        })
    };
    let mut text = format!("# cluster {name}: topics\n");
    for (_, kafka) in streams() {
        text += &create(&server, kafka, cluster);
    }
    let writes = streams().any(|(stream, _)| stream.written);
    let marks = quoted(&format!("{group}.delivered"));
    if writes {
        let replication = replication(cluster.replication);
        let setting = |(key, value)| format!(" --config {key}={value}");
        let settings: String = MARKS_SETTINGS.map(setting).concat();
        text += &format!(
            "kafka-topics.sh {server} --create --if-not-exists --topic {marks} --partitions 1{replication}{settings}\n"
        );
    }
    text += &format!("# cluster {name}: rights\n");
    let mut rights = BTreeSet::new();
    for (stream, kafka) in streams() {
        let topic = quoted(&kafka.topic.to_string());
        if stream.read {
            rights.insert(format!(
                "{allow} --operation Read --operation Describe --topic {topic}\n"
            ));
        }
        if stream.written {
            rights.insert(format!(
                "{allow} --operation Write --operation Describe --operation DescribeConfigs --topic {topic}\n"
            ));
        }
    }
    rights.insert(format!(
        "{allow} --operation Read --operation Describe --group {}\n",
        quoted(&group)
    ));
    if writes {
        rights.insert(format!(
            "{allow} --operation Read --operation Write --operation Describe --topic {marks}\n"
        ));
        rights.insert(format!(
            "{allow} --operation Write --operation Describe --transactional-id {}\n",
            quoted(&format!("{group}.outbox"))
        ));
    }
    text.extend(rights);
    text
}

/// The command that makes a topic.
fn create(server: &str, kafka: &KafkaStream, cluster: &Cluster) -> String {
    let create = kafka.create.as_ref();
    let partitions = create.map(|create| create.partitions).or(kafka.partitions);
    let partitions =
        partitions.map_or("PARTITIONS".to_owned(), |partitions| partitions.to_string());
    let copies = create
        .and_then(|create| create.replication)
        .or(cluster.replication);
    let config = create.into_iter().flat_map(|create| &create.config);
    let config: String = config
        .map(|(key, value)| format!(" --config {}", quoted(&format!("{key}={value}"))))
        .collect();
    let (topic, copies) = (quoted(&kafka.topic.to_string()), replication(copies));
    format!(
        "kafka-topics.sh {server} --create --if-not-exists --topic {topic} --partitions {partitions}{copies}{config}\n"
    )
}

fn replication(copies: Option<u32>) -> String {
    copies.map_or_else(String::new, |copies| {
        format!(" --replication-factor {copies}")
    })
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:,=/".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
