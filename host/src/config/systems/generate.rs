//! `generate`: made-up messages, which are read.

use serde::Serialize;

use super::record::RECORD_BYTES_MAX;
use super::{Kind, PARTITIONS, SystemName};
use crate::config::decode::general::size_in;
use crate::config::setting::Setting;
use crate::config::table::Table;
use crate::config::units::{ByteSize, Rate};
use crate::config::words::words;

pub(super) const KIND: Kind = Kind {
    name: SystemName::Generate,
    what: "a `generate` stream",
    keys: &[
        "count",
        "rate",
        "keys",
        "distribution",
        "value-bytes",
        "seed",
        "partitions",
        "max-rate",
    ],
    is_read: true,
    is_written: false,
};

/// The number of keys that 15 digits can tell apart.
const KEYS_MAX: u64 = 1_000_000_000_000_000;

/// Made-up messages: the same ones whenever they are read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Generate {
    /// How many, in all partitions together. Default: no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How fast they come to be, in all partitions together. Default: as fast as they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Setting<Rate>>,
    /// How many different keys. Default: 1000, enough to see a spread and few enough to look at.
    pub keys: u64,
    /// How often each key comes. Default: `uniform`.
    pub distribution: Setting<Distribution>,
    /// The length of a value. Default: 100 B, a small event.
    pub value_bytes: Setting<ByteSize>,
    /// Another seed makes other messages. Default: 0.
    pub seed: u64,
    /// Default: 1.
    pub partitions: u32,
}

words! {
    /// How often each generated key comes.
    Distribution, "distribution", "a distribution" {
        /// Each as often as any other.
        Uniform = "uniform",
        /// A few very often, most rarely.
        Zipfian = "zipfian",
        /// One after another.
        Sequential = "sequential",
    } later []
}

pub(super) fn decode(table: &mut Table<'_>) -> Generate {
    let any = i64::MAX.unsigned_abs();
    Generate {
        count: table.integer("count", 1..=any),
        rate: table.text("rate"),
        keys: table.integer("keys", 1..=KEYS_MAX).unwrap_or(1000),
        distribution: table
            .text("distribution")
            .unwrap_or(Distribution::Uniform.into()),
        value_bytes: size_in(table, "value-bytes", ByteSize(0), RECORD_BYTES_MAX)
            .unwrap_or(ByteSize(100).into()),
        seed: table.integer("seed", 0..=any).unwrap_or(0),
        partitions: table.integer_u32("partitions", PARTITIONS).unwrap_or(1),
    }
}
