//! `wasm-host:task/metrics`.

use wasmtime::component::Linker;

use super::{HasInstanceData, InstanceData};
use crate::runtime::bindings::wasm_host::task::metrics::{self, Host};
use crate::runtime::metrics::TaskMetrics;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    metrics::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)
}

impl InstanceData {
    /// The task's figures, and how many names there may be.
    fn metrics(&mut self) -> wasmtime::Result<(&mut TaskMetrics, usize)> {
        let (context, limits) = self.context_and_limits()?;
        context.budget.operate(1)?;
        Ok((context.metrics_mut(), limits.metric_names))
    }
}

impl Host for InstanceData {
    fn counter_add(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics()?;
        metrics.add(&name, by, most)
    }

    fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics()?;
        metrics.set(&name, value, most)
    }

    fn histogram_record(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        let (metrics, most) = self.metrics()?;
        metrics.record(&name, value, most)
    }
}
