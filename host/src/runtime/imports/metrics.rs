//! `wasm-host:task/metrics`.

use wasmtime::component::Linker;

use super::{HasInstanceData, InstanceData};
use crate::runtime::bindings::wasm_host::task::metrics::{self, Host};

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    metrics::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)
}

impl Host for InstanceData {
    fn counter_add(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        self.context()?
            .metrics_mut()
            .add(&name, by)
            .map_err(wasmtime::Error::msg)
    }

    fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.context()?
            .metrics_mut()
            .set(&name, value)
            .map_err(wasmtime::Error::msg)
    }

    fn histogram_record(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.context()?
            .metrics_mut()
            .record(&name, value)
            .map_err(wasmtime::Error::msg)
    }
}
