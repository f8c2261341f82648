//! `stdout`: standard output, which is written.

use serde::Serialize;

use super::record::{OutputFormat, output_format};
use super::{Kind, SystemName};
use crate::config::setting::Setting;
use crate::config::table::Table;

pub(super) const KIND: Kind = Kind {
    name: SystemName::Stdout,
    what: "a `stdout` stream",
    keys: &["format"],
    is_read: false,
    is_written: true,
};

/// Standard output: one partition, which can repeat messages after a crash.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stdout {
    /// What a line is. Default: `lines`.
    pub format: Setting<OutputFormat>,
}

pub(super) fn decode(table: &mut Table<'_>) -> Stdout {
    Stdout {
        format: output_format(table),
    }
}
