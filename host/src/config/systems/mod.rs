//! The systems that hold streams, one file each: its name, its keys, its rules and defaults, and whether it is read or written.
//!
//! A system is added with a file here, and with its name, its kinds and its variant in this file.

mod file;
mod generate;
mod kafka;
mod log;
mod record;
mod stdin;
mod stdout;

use std::ops::RangeInclusive;

use serde::Serialize;

pub use file::{FileInput, FileOutput};
pub use generate::{Distribution, Generate};
pub(super) use kafka::REPLICATION_MAX;
pub use kafka::{CreateTopic, Delivery, KafkaStream, Until};
pub use log::{LogStream, Retention};
pub use record::{InputFormat, OutputFormat, TimestampField, TimestampFormat};
pub use stdin::Stdin;
pub use stdout::Stdout;

use super::table::Table;
use super::words::words;

/// A stream with tens of thousands of partitions is a mistake: each is a task or a file.
const PARTITIONS: RangeInclusive<u32> = 1..=65_536;

words! {
    /// The name of a system.
    SystemName, "system", "a system" {
        /// The embedded durable log.
        Log = "log",
        /// Files.
        File = "file",
        /// Standard input.
        Stdin = "stdin",
        /// Standard output.
        Stdout = "stdout",
        /// Made-up messages.
        Generate = "generate",
        /// Topics of Apache Kafka.
        Kafka = "kafka",
    } later []
}

/// One kind of stream: of one system, and of one direction where that decides its keys.
pub(super) struct Kind {
    name: SystemName,
    /// Such a stream, in a sentence.
    pub(super) what: &'static str,
    /// The keys that it may have in addition to `system`.
    pub(super) keys: &'static [&'static str],
    /// Whether stages can read it.
    is_read: bool,
    /// Whether stages can write to it.
    is_written: bool,
}

/// All kinds, in the order in which they are documented.
pub(super) const KINDS: [&Kind; 7] = [
    &log::KIND,
    &file::READ,
    &file::WRITTEN,
    &stdin::KIND,
    &stdout::KIND,
    &generate::KIND,
    &kafka::KIND,
];

impl SystemName {
    /// The systems that can be read.
    pub(super) fn readable() -> Vec<&'static str> {
        let read = KINDS.iter().filter(|kind| kind.is_read);
        read.map(|kind| kind.name.as_str()).collect()
    }

    /// The systems that can be written.
    pub(super) fn writable() -> Vec<&'static str> {
        let written = KINDS.iter().filter(|kind| kind.is_written);
        written.map(|kind| kind.name.as_str()).collect()
    }

    /// Whether a stage can read a stream of it.
    pub fn can_be_read(self) -> bool {
        KINDS.iter().any(|kind| kind.name == self && kind.is_read)
    }

    /// Whether a stage can write to a stream of it.
    pub fn can_be_written(self) -> bool {
        KINDS
            .iter()
            .any(|kind| kind.name == self && kind.is_written)
    }
}

/// A system, and a stream's options in it. A `file` stream is read or written, never both.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "system", rename_all = "kebab-case")]
pub enum System {
    /// The embedded durable log.
    Log(LogStream),
    /// Files that are read.
    #[serde(rename = "file")]
    FileInput(FileInput),
    /// A folder of files that are written.
    #[serde(rename = "file")]
    FileOutput(FileOutput),
    /// Standard input.
    Stdin(Stdin),
    /// Standard output.
    Stdout(Stdout),
    /// Made-up messages.
    Generate(Generate),
    /// A topic of Kafka.
    Kafka(KafkaStream),
}

impl System {
    /// Reads what a stream of a system is told: its kind, and its options, if they could be read.
    pub(super) fn decode(
        name: SystemName,
        table: &mut Table<'_>,
        (stream, clusters): (&str, &[&str]),
        (read, written): (bool, bool),
    ) -> (&'static Kind, Option<System>) {
        match name {
            SystemName::Log => (&log::KIND, Some(System::Log(log::decode(table)))),
            SystemName::File if read || !written && !file::is_message(table) => {
                (&file::READ, file::decode_read(table).map(System::FileInput))
            }
            SystemName::File => {
                let output = file::decode_written(table);
                (&file::WRITTEN, output.map(System::FileOutput))
            }
            SystemName::Stdin => (&stdin::KIND, Some(System::Stdin(stdin::decode(table)))),
            SystemName::Stdout => (&stdout::KIND, Some(System::Stdout(stdout::decode(table)))),
            SystemName::Generate => {
                let generate = generate::decode(table);
                (&generate::KIND, Some(System::Generate(generate)))
            }
            SystemName::Kafka => {
                let kafka = kafka::decode(table, stream, clusters);
                (&kafka::KIND, kafka.map(System::Kafka))
            }
        }
    }

    /// Its name, as it is written in the job file and recorded in the state directory.
    pub fn name(&self) -> &'static str {
        let kind = match self {
            System::Log(_) => &log::KIND,
            System::FileInput(_) => &file::READ,
            System::FileOutput(_) => &file::WRITTEN,
            System::Stdin(_) => &stdin::KIND,
            System::Stdout(_) => &stdout::KIND,
            System::Generate(_) => &generate::KIND,
            System::Kafka(_) => &kafka::KIND,
        };
        kind.name.as_str()
    }

    /// It has so many partitions, if the job file leaves that to brokers.
    pub fn take_partitions(&mut self, partitions: u32) {
        if let (None, System::Kafka(kafka)) = (self.partitions(), self) {
            kafka.partitions = Some(partitions);
        }
    }

    /// How many partitions the stream has. `None`: as many as its topic, which brokers know.
    pub fn partitions(&self) -> Option<u32> {
        match self {
            System::Log(log) => Some(log.partitions),
            System::FileInput(file) => Some(file.partitions),
            System::FileOutput(file) => Some(file.partitions),
            System::Generate(generate) => Some(generate.partitions),
            System::Stdin(_) | System::Stdout(_) => Some(1),
            System::Kafka(kafka) => {
                let create = kafka.create.as_ref();
                kafka.partitions.or(create.map(|create| create.partitions))
            }
        }
    }
}
