//! What guests import: one file for each interface.
//!
//! The hot ones (`state`, `output`) are linked by hand, so that keys and values are read where they lie in the guest's
//! memory. A host function that breaks a limit, or cannot do its part, traps with a sentence.

mod column;
mod config;
mod context;
mod deadline;
mod descriptors;
mod files;
mod keyvalue;
mod logging;
mod metrics;
mod output;
mod state;
mod waiting;
mod wasi;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::{StoreContextMut, bail};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::Runtime;
use super::component::Component;
use super::context::{Rights, TaskContext};
use super::engine::TICK;
use super::fault::FaultKind;
use super::limits::{Limits, exceeded};
use super::logs::TaskLog;
use super::meter::Meter;
use super::time::CallTime;
pub(super) use descriptors::Descriptors;
use descriptors::OwnDescriptors;
pub(super) use wasi::Wasi;

/// What an instance's store holds.
pub(super) struct InstanceData {
    component: Arc<Component>,
    /// The task's context, for the time of a call.
    pub(super) context: Option<Box<TaskContext>>,
    pub(super) log: Arc<Mutex<TaskLog>>,
    pub(super) memory: MemoryLimit,
    /// What the running call may take.
    pub(super) time: CallTime,
    /// Of the thread of the running call.
    pub(super) meter: &'static Meter,
    /// Set when every wait must end.
    interrupted: tokio::sync::watch::Receiver<bool>,
    /// Handles to stores that the guest holds.
    pub(super) store_handles: u32,
    /// Where listings of `wasi:keyvalue` go on.
    places: keyvalue::Places,
    descriptors: OwnDescriptors,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl InstanceData {
    pub(super) fn new(component: &Arc<Component>, wasi: Wasi) -> InstanceData {
        let runtime = &component.runtime;
        let limits = component.limits();
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(limits.handles).unwrap_or(usize::MAX));
        InstanceData {
            component: Arc::clone(component),
            context: None,
            log: wasi.log,
            memory: MemoryLimit {
                bytes_max: limits.memory_bytes,
                bytes: 0,
                elements_max: limits.table_elements,
                elements: 0,
                granted: 0,
                refused: None,
                refused_elements: None,
            },
            time: CallTime::new(),
            meter: Meter::of_this_thread(),
            interrupted: runtime.interrupted.subscribe(),
            store_handles: 0,
            places: keyvalue::Places::default(),
            descriptors: OwnDescriptors::new(Arc::clone(&runtime.descriptors)),
            wasi: wasi.ctx,
            table,
        }
    }

    /// What the instance may use.
    fn limits(&self) -> &Limits {
        self.component.limits()
    }

    /// The task's context. Host functions run within a call only, and a call has one.
    fn context(&mut self) -> wasmtime::Result<&mut TaskContext> {
        match &mut self.context {
            Some(context) => Ok(context),
            None => bail!("a host function was called outside of any call"),
        }
    }

    /// The context together with the limits.
    fn context_and_limits(&mut self) -> wasmtime::Result<(&mut TaskContext, &Limits)> {
        match &mut self.context {
            Some(context) => Ok((context, self.component.limits())),
            None => bail!("a host function was called outside of any call"),
        }
    }

    /// How many ticks the running call may go on before this is asked again; `None` if it must end.
    pub(super) fn look_at_call(&mut self) -> Option<u64> {
        if *self.interrupted.borrow() || self.time.is_over() {
            return None;
        }
        let ticks = self.time.left().as_nanos().div_ceil(TICK.as_nanos());
        Some(u64::try_from(ticks).unwrap_or(u64::MAX / 2).max(1))
    }

    /// Counts a handle to a store that is about to be given out.
    fn one_more_store_handle(&mut self) -> wasmtime::Result<()> {
        let most = self.limits().handles;
        if self.store_handles >= most {
            return Err(exceeded(format_args!(
                "a task may hold {most} handles to stores (`handles`); drop those that are not needed"
            )));
        }
        self.store_handles += 1;
        Ok(())
    }

    /// The task's context for writing state.
    fn writing(&mut self, what: &str) -> wasmtime::Result<&mut TaskContext> {
        let context = self.context()?;
        if context.rights < Rights::WriteState {
            bail!("{what} outside of a batch: in `lifecycle` a guest may only read");
        }
        Ok(context)
    }

    /// The task's context for sending.
    fn sending(&mut self, what: &str) -> wasmtime::Result<&mut TaskContext> {
        let context = self.context()?;
        match context.rights {
            Rights::Write => Ok(context),
            Rights::WriteState => {
                bail!("{what} in `migrate`: there a guest may read and write state alone")
            }
            Rights::Read => {
                bail!("{what} outside of a batch: in `lifecycle` a guest may only read")
            }
        }
    }
}

impl WasiView for InstanceData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Gives the bindings the whole store.
struct HasInstanceData;

impl HasData for HasInstanceData {
    type Data<'a> = &'a mut InstanceData;
}

/// Runs `f` on the context while the guest's memory is borrowed: the context is taken out of the store and put back, also
/// when `f` panics, because all of the epoch is in it.
fn with_memory<R>(
    mut store: StoreContextMut<'_, InstanceData>,
    f: impl FnOnce(&mut TaskContext, &StoreContextMut<'_, InstanceData>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    let meter = store.data().meter;
    let Some(mut context) = store.data_mut().context.take() else {
        bail!("a host function was called outside of any call");
    };
    let host = meter.in_host();
    let result = catch_unwind(AssertUnwindSafe(|| f(&mut context, &store)));
    drop(host);
    store.data_mut().context = Some(context);
    match result {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

/// Everything that a guest may import.
pub(super) fn linker(runtime: &Runtime) -> wasmtime::Result<Linker<InstanceData>> {
    let mut linker = Linker::new(&runtime.engine);
    wasi::link(&mut linker)?;
    config::link(&mut linker)?;
    logging::link(&mut linker)?;
    context::link(&mut linker)?;
    metrics::link(&mut linker)?;
    state::link(&mut linker)?;
    output::link(&mut linker)?;
    keyvalue::link(&mut linker)?;
    Ok(linker)
}

/// Whether an import of this name is provided, as far as its name says.
pub(super) fn provides(import: &str) -> bool {
    const OURS: [&str; 5] = ["types", "state", "output", "context", "metrics"];
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match name.split_once('/') {
        Some(("wasm-host:task", interface)) => {
            OURS.contains(&interface) && version.starts_with("0.1.")
        }
        Some(("wasi:keyvalue", "store" | "atomics" | "batch")) => {
            matches!(version, "0.2.0-draft" | "0.2.0-draft2")
        }
        Some(("wasi:config", _)) => config::NAMES.contains(&import),
        Some(("wasi:logging", "logging")) => version == "0.1.0-draft",
        Some((
            "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:io" | "wasi:filesystem"
            | "wasi:sockets",
            _,
        )) => version.starts_with("0.2."),
        _ => false,
    }
}

/// All linear memories of an instance together, and its tables.
pub(super) struct MemoryLimit {
    bytes_max: usize,
    /// What they have.
    pub(super) bytes: usize,
    elements_max: usize,
    elements: usize,
    /// What was granted last, of bytes or elements; wasmtime may still fail to provide it.
    granted: usize,
    /// What was asked for in this call when it was refused.
    pub(super) refused: Option<usize>,
    /// The same, of elements.
    pub(super) refused_elements: Option<usize>,
}

impl wasmtime::ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.bytes + (desired - current);
        if wanted > self.bytes_max {
            self.refused = Some(wanted);
            return Ok(false);
        }
        self.bytes = wanted;
        self.granted = desired - current;
        Ok(true)
    }

    /// For example because it exceeds the memory's own maximum. `memory.grow` returns -1 and the guest keeps what it has.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.bytes -= std::mem::take(&mut self.granted);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.elements + (desired - current);
        if wanted > self.elements_max {
            self.refused_elements = Some(wanted);
            return Ok(false);
        }
        self.elements = wanted;
        self.granted = desired - current;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.elements -= std::mem::take(&mut self.granted);
        Ok(())
    }
}

impl MemoryLimit {
    /// What a trap after a refusal is, and what to add to its message.
    pub(super) fn hint(&self) -> Option<(FaultKind, String)> {
        if let Some(wanted) = self.refused {
            let most = self.bytes_max;
            let hint = format!(
                "the guest asked for {wanted} bytes of memory and its limit `memory` is {most}"
            );
            return Some((FaultKind::Memory, hint));
        }
        let (wanted, most) = (self.refused_elements?, self.elements_max);
        let hint = format!(
            "the guest asked for {wanted} elements of tables and its limit `table-elements` is {most}"
        );
        Some((FaultKind::Limit, hint))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter as _;

    use super::*;

    #[test]
    fn memory_that_was_not_provided_does_not_count() -> wasmtime::Result<()> {
        let mut limit = MemoryLimit {
            bytes_max: 1_000,
            bytes: 0,
            elements_max: 100,
            elements: 0,
            granted: 0,
            refused: None,
            refused_elements: None,
        };
        assert!(limit.memory_growing(0, 600, None)?);
        for _ in 0..3 {
            // Beyond the memory's own maximum, which wasmtime looks at after it has asked.
            assert!(limit.memory_growing(600, 900, Some(700))?);
            limit.memory_grow_failed(wasmtime::format_err!("too large"))?;
        }
        assert_eq!((limit.bytes, limit.refused), (600, None));
        assert!(limit.table_growing(0, 10, None)?);
        assert!(limit.table_growing(10, 20, None)?);
        limit.table_grow_failed(wasmtime::format_err!("too large"))?;
        assert_eq!((limit.bytes, limit.elements), (600, 10));
        assert!(!limit.memory_growing(600, 1_001, None)?);
        assert_eq!(limit.refused, Some(1_001));
        Ok(())
    }
}
