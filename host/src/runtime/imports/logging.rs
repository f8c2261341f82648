//! `wasi:logging/logging`.

use wasmtime::component::Linker;

use super::{HasInstanceData, InstanceData};
use crate::runtime::bindings::wasi::logging::logging::{self, Host, Level as Given};
use crate::runtime::logs::Level;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    logging::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)
}

impl Host for InstanceData {
    fn log(&mut self, level: Given, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Given::Trace => Level::Trace,
            Given::Debug => Level::Debug,
            Given::Info => Level::Info,
            Given::Warn => Level::Warn,
            Given::Error | Given::Critical => Level::Error,
        };
        self.log.lock().line(level, &context, &message);
        Ok(())
    }
}
