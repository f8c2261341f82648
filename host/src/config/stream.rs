//! `[streams.*]`: a declared stream, whatever its system.

use serde::Serialize;

use super::setting::Setting;
use super::systems::System;
use super::units::Rate;

/// A declared stream.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stream {
    /// Whether a stage reads it.
    #[serde(skip)]
    pub read: bool,
    /// Whether a stage writes to it, dead letters included.
    #[serde(skip)]
    pub written: bool,
    /// The system that holds it, and what that is told.
    #[serde(flatten)]
    pub system: System,
    /// The most that is read of it, all partitions together. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Setting<Rate>>,
}

impl Stream {
    /// How many partitions it has. `None`: as many as its topic, which brokers know.
    pub fn partitions(&self) -> Option<u32> {
        self.system.partitions()
    }
}
