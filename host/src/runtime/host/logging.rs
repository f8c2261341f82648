//! `wasi:logging/logging`.

use wasmtime::component::Linker;

use super::{Guest, HasGuest};
use crate::runtime::bindings::wasi::logging::logging::{self, Host, Level as Given};
use crate::runtime::logs::Level;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    logging::add_to_linker::<Guest, HasGuest>(linker, |guest| guest)
}

impl Host for Guest {
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
