//! `log`: the embedded durable log, which is read and written.

use std::time::Duration;

use serde::Serialize;

use super::{Kind, PARTITIONS, SystemName};
use crate::config::decode::general;
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::units::ByteSize;

pub(super) const KIND: Kind = Kind {
    name: SystemName::Log,
    what: "a `log` stream",
    keys: &["partitions", "retention", "drop-unread", "max-rate"],
    is_read: true,
    is_written: true,
};

/// A stream of the embedded log, in the state directory.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogStream {
    /// Default: 1. More is a decision, because it is fixed at the first start.
    pub partitions: u32,
    /// What may be deleted. Default: nothing, because deleting must be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Whether retention may delete what a task of the job has not read. Default: no.
    pub drop_unread: bool,
}

/// When messages of a log may be deleted: as soon as one bound is passed. At least one is set.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retention {
    /// The size to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Setting<ByteSize>>,
    /// The age to keep, by the time of appending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Setting<Duration>>,
}

pub(super) fn decode(table: &mut Table<'_>) -> LogStream {
    let partitions = table.integer_u32("partitions", PARTITIONS);
    let retention = table
        .table("retention", "{ bytes = …, age = … }")
        .map(|mut retention| {
            let bytes = retention.text("bytes");
            let age = general::positive(&mut retention, "age");
            if retention.is_empty() {
                let problem = Problem::new("a retention without bounds keeps everything");
                retention.cx.error(
                    &retention.span,
                    problem.help("set `bytes`, `age` or both, or leave it out"),
                );
            }
            retention.finish(|_| None);
            Retention { bytes, age }
        });
    let drop_unread = table.bool("drop-unread").unwrap_or(false);
    if drop_unread && table.peek("retention").is_none() {
        let problem = Problem::new("`drop-unread` without `retention` drops nothing");
        let help = "set retention = { bytes = …, age = … }, or leave it out";
        table
            .cx
            .error(&table.span_of("drop-unread"), problem.help(help));
    }
    LogStream {
        partitions: partitions.unwrap_or(1),
        retention,
        drop_unread,
    }
}
