//! A build without Kafka: jobs that use it are refused.

use std::sync::Arc;

use super::{Missing, OfTopic};
use crate::admin::json;
use crate::cli::{Failure, exit};
use crate::config::{self, Job, KafkaStream};
use crate::connectors::{Input, Lost, Remote};
use crate::disk::Disk;
use crate::model::Clock;

/// The clusters of a job: none that could be used.
pub(in crate::cli) struct Clusters;

const REFUSED: &str = "this wasm-host was built without Kafka: build it with the cargo feature `kafka`, which is there by default";

impl Clusters {
    pub(in crate::cli) fn new(_: &Job, _: Lost, _: &Disk) -> Clusters {
        Clusters
    }

    pub(in crate::cli) fn resolve(&self, job: &mut Job, _: Missing) -> Result<(), Failure> {
        match job.clusters.values().any(|cluster| cluster.used) {
            true => Err(Failure::new(exit::USAGE, REFUSED)),
            false => Ok(()),
        }
    }

    pub(in crate::cli) fn input(
        &self,
        _: &Job,
        _: &str,
    ) -> Result<Option<Arc<dyn Input>>, Failure> {
        Ok(None)
    }

    pub(in crate::cli) fn complete(&self, _: &Job, _: &mut [json::Offset]) -> Result<(), Failure> {
        Ok(())
    }

    pub(super) fn remotes(&self) -> Vec<Arc<dyn Remote>> {
        Vec::new()
    }

    pub(super) fn stream(
        &self,
        _: &str,
        _: &config::Stream,
        _: (&KafkaStream, u32, Option<&str>),
        _: &Arc<dyn Clock>,
    ) -> Result<OfTopic, String> {
        Err(REFUSED.to_owned())
    }
}
