//! `wasm-host:task/metrics`.

use std::borrow::Cow;

use wasmtime::bail;
use wasmtime::component::Linker;

use super::{HasInstanceData, InstanceData};
use crate::model::shown::{self, NAME_BYTES};
use crate::runtime::bindings::wasm_host::task::metrics::{self, Host};
use crate::runtime::metrics::TaskMetrics;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    metrics::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)
}

impl InstanceData {
    /// The task's figures, for one of this name, and how many names there may be.
    fn metrics(&mut self, name: &str) -> wasmtime::Result<(&mut TaskMetrics, usize)> {
        if let Cow::Owned(hidden) = self.component.options.secrets.hide(name) {
            bail!(
                "the name of a metric is shown, and {:?} has a value in it that is not",
                shown::line(hidden, NAME_BYTES)
            );
        }
        let (context, limits) = self.context_and_limits()?;
        context.budget.operate(1)?;
        Ok((context.metrics_mut(), limits.metric_names))
    }
}

impl Host for InstanceData {
    fn counter_add(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics(&name)?;
        metrics.add(&name, by, most)
    }

    fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics(&name)?;
        metrics.set(&name, value, most)
    }

    fn histogram_record(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics(&name)?;
        metrics.record(&name, value, most)
    }
}
