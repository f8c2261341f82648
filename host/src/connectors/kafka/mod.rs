//! Streams of Apache Kafka: topics that are read by offsets of the job's own, and written in transactions.
//!
//! [`Cluster`] is one cluster, for all streams in it: what is known of its brokers, and who looks things up. [`Readers`] has the
//! clients that read it. [`KafkaInput`] reads a topic; [`KafkaOutput`] is a topic that is written, and [`outbox`] delivers what all of them have in an
//! epoch as one transaction. librdkafka does the protocol; [`native`] has the calls for which its crate has no safe form.
//!
//! Positions are the job's: they are in its state directory, not in Kafka, where a mirror of them is kept for tools that show the
//! lag of consumer groups.

mod cluster;
#[cfg(test)]
mod conformance;
mod input;
mod marker;
mod marks;
mod mirror;
mod native;
mod offsets;
mod outbox;
mod parcel;
mod readers;
mod topics;
mod transaction;
mod vanished;

pub use cluster::{Cluster, ClusterError, ClusterOptions};
pub use input::{InputEnd, KafkaInput, KafkaInputOptions};
pub use outbox::{CarrierOptions, Figures, Guarantee, KafkaCarrier, KafkaOutput, WrittenTopic};
pub use readers::Readers;
pub use topics::{NewTopic, Topic};
