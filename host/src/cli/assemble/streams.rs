//! Streams: from the job file to connectors.

use std::sync::Arc;

use super::{Clusters, size};
use crate::checkpoint::logs::Retention;
use crate::config;
use crate::connectors::file::{
    FileFormat, FileInput, FileInputOptions, FileOutput, FileOutputOptions, TimestampFormat,
    TimestampSpec,
};
use crate::connectors::generate::{Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT};
use crate::connectors::stdio::{StdinInput, StdinOptions, StdoutOptions, StdoutOutput};
use crate::connectors::{Input, Output, OutputFormat};
use crate::coordinator::{Reads, StreamOptions, Writes};
use crate::disk::Disk;
use crate::model::Clock;

/// One arm for each system.
pub(in crate::cli) fn stream(
    name: &str,
    declared: &config::Stream,
    (clusters, group): (&Clusters, Option<&str>),
    clock: &Arc<dyn Clock>,
    disk: &Disk,
) -> Result<StreamOptions, String> {
    let max_rate = declared.max_rate.as_ref().map(|rate| rate.per_second());
    let Some(partitions) = declared.partitions() else {
        return Err("how many partitions it has, only brokers know".to_owned());
    };
    let mut topic = None;
    let (reads, writes) = match &declared.system {
        config::System::Log(log) => {
            return Ok(StreamOptions::log(log.partitions, retention(log), max_rate));
        }
        config::System::FileInput(file) => {
            reads(FileInput::new(file_input(file)?, Arc::clone(clock))?)
        }
        config::System::Stdin(stdin) => {
            reads(StdinInput::new(&stdin_options(stdin)?, Arc::clone(clock))?)
        }
        config::System::Generate(generate) => {
            reads(GenerateInput::new(generate_options(generate))?)
        }
        config::System::FileOutput(file) => {
            let options = FileOutputOptions {
                folder: file.path.to_path_buf(),
                stream: name.to_owned(),
                partitions: file.partitions,
                format: output_format(*file.format),
            };
            writes(FileOutput::new(options, disk.clone()))
        }
        config::System::Stdout(stdout) => {
            let options = StdoutOptions {
                stream: name.to_owned(),
                partitions,
                format: output_format(*stdout.format),
            };
            writes(StdoutOutput::new(options))
        }
        config::System::Kafka(kafka) => {
            let (reads, writes, found) =
                clusters.stream(name, declared, (kafka, partitions, group), clock)?;
            topic = found;
            (reads, writes)
        }
    };
    Ok(StreamOptions {
        system: declared.system.name().to_owned(),
        partitions,
        reads,
        writes,
        topic,
        max_rate,
    })
}

fn reads(input: impl Input + 'static) -> (Option<Reads>, Option<Writes>) {
    (Some(Reads::External(Arc::new(input))), None)
}

fn writes(output: impl Output + 'static) -> (Option<Reads>, Option<Writes>) {
    (None, Some(Writes::Outbox(Arc::new(output))))
}

fn retention(log: &config::LogStream) -> Retention {
    let declared = log.retention.as_ref();
    Retention {
        bytes: declared
            .and_then(|retention| retention.bytes.as_ref())
            .map(|bytes| bytes.bytes()),
        age: declared
            .and_then(|retention| retention.age.as_ref())
            .map(|age| **age),
        drop_unread: log.drop_unread,
    }
}

fn file_input(file: &config::FileInput) -> Result<FileInputOptions, String> {
    Ok(FileInputOptions {
        path: file
            .path
            .to_str()
            .ok_or("its path is not UTF-8")?
            .to_owned(),
        format: format(*file.format),
        key: file.key.as_ref().map(|key| (**key).clone()),
        timestamp: file.timestamp.as_ref().map(timestamp).transpose()?,
        partitions: file.partitions,
        follow: file.follow,
        drop_unread: file.drop_unread,
        record_bytes: size(file.record_bytes.bytes()),
    })
}

fn stdin_options(stdin: &config::Stdin) -> Result<StdinOptions, String> {
    Ok(StdinOptions {
        format: format(*stdin.format),
        key: stdin.key.as_ref().map(|key| (**key).clone()),
        timestamp: stdin.timestamp.as_ref().map(timestamp).transpose()?,
        record_bytes: size(stdin.record_bytes.bytes()),
    })
}

fn generate_options(generate: &config::Generate) -> GenerateOptions {
    GenerateOptions {
        count: generate.count,
        rate: generate.rate.as_ref().map(|rate| rate.per_second()),
        keys: generate.keys,
        distribution: match *generate.distribution {
            config::Distribution::Uniform => Distribution::Uniform,
            config::Distribution::Zipfian => Distribution::Zipfian,
            config::Distribution::Sequential => Distribution::Sequential,
        },
        value_bytes: size(generate.value_bytes.bytes()),
        seed: generate.seed,
        partitions: generate.partitions,
        start_ms: START_MS_DEFAULT,
    }
}

fn format(format: config::InputFormat) -> FileFormat {
    match format {
        config::InputFormat::Csv => FileFormat::Csv,
        config::InputFormat::Jsonl => FileFormat::Jsonl,
        config::InputFormat::Lines => FileFormat::Lines,
    }
}

fn output_format(format: config::OutputFormat) -> OutputFormat {
    match format {
        config::OutputFormat::Lines => OutputFormat::Lines,
        config::OutputFormat::Jsonl => OutputFormat::Jsonl,
        config::OutputFormat::Message => OutputFormat::Message,
    }
}

fn timestamp(field: &config::TimestampField) -> Result<TimestampSpec, String> {
    Ok(TimestampSpec {
        field: (*field.field).clone(),
        format: TimestampFormat::parse(field.format.as_str())?,
    })
}
