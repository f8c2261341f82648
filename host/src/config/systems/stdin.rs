//! `stdin`: standard input, which is read.

use serde::Serialize;

use super::record::{InputFormat, TimestampField, fields, record_bytes};
use super::{Kind, SystemName};
use crate::config::setting::{Problem, Setting};
use crate::config::table::Table;
use crate::config::units::ByteSize;

pub(super) const KIND: Kind = Kind {
    name: SystemName::Stdin,
    what: "a `stdin` stream",
    keys: &["format", "key", "timestamp", "record-bytes", "max-rate"],
    is_read: true,
    is_written: false,
};

/// Standard input: one partition, which cannot be read again.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stdin {
    /// As [`super::FileInput::format`].
    pub format: Setting<InputFormat>,
    /// As [`super::FileInput::key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Setting<String>>,
    /// As [`super::FileInput::timestamp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampField>,
    /// As [`super::FileInput::record_bytes`].
    pub record_bytes: Setting<ByteSize>,
}

pub(super) fn decode(table: &mut Table<'_>) -> Stdin {
    let format = table.text::<InputFormat>("format");
    if format.as_deref() == Some(&InputFormat::Csv) {
        let problem = Problem::new("standard input is read as `lines` or `jsonl`");
        table.cx.error(&table.span_of("format"), problem);
    }
    let fields = fields(table, format.as_deref().copied());
    Stdin {
        format: format.unwrap_or(InputFormat::Lines.into()),
        key: fields.key,
        timestamp: fields.timestamp,
        record_bytes: record_bytes(table),
    }
}
