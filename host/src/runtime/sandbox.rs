//! Where an instance lives: its store, and the only way into it.
//!
//! A call takes the task's context in and gives it back, whatever happens in between: a trap, a deadline, a panic of a host
//! function. Every call has a deadline.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::component::Component;
use super::context::{Given, Rights, TaskContext};
use super::exports::Handlers;
use super::fault::{Fault, FaultKind};
use super::imports::{InstanceData, Wasi};
use super::limits::{CALL_LIFTS_BYTES, CallBudget};
use super::logs::TaskLog;
use super::meter::{CallTimes, Meter};
use super::time::FIRST_LOOK_TICKS;
use crate::model::shown::{self, SENTENCE_BYTES};

/// The task's context, and what the call came to.
pub(super) type Returned<R> = (Box<TaskContext>, Result<R, Fault>);

/// The store of an instance.
pub(super) struct Sandbox {
    component: Arc<Component>,
    store: Store<InstanceData>,
    log: Arc<Mutex<TaskLog>>,
}

impl Sandbox {
    /// Makes an instance. What it writes to its standard streams goes to the log that it is given.
    ///
    /// # Errors
    /// It cannot be made: a grant that is not there, a start function that traps, an export of another signature.
    pub(super) fn make(
        component: &Arc<Component>,
        given: &Given,
    ) -> Result<(Sandbox, Handlers), Fault> {
        let runtime = &component.runtime;
        let secrets = component.options.secrets.clone();
        let log = &given.log;
        log.lock().serve(component.limits().log_rate, secrets);
        let wasi = Wasi::new(runtime, &component.options, &component.folders, given)
            .map_err(|why| Fault::new(FaultKind::Instantiate, why))?;
        let mut store = Store::new(&runtime.engine, InstanceData::new(component, wasi));
        store.limiter(|data| &mut data.memory);
        store.epoch_deadline_callback(|mut call| {
            let ticks = call.data_mut().look_at_call();
            ticks
                .map(UpdateDeadline::Continue)
                .ok_or_else(|| Trap::Interrupt.into())
        });
        store.set_hostcall_fuel(CALL_LIFTS_BYTES);
        store.set_max_component_handles(component.limits().all_handles());
        let mut sandbox = Sandbox {
            component: Arc::clone(component),
            store,
            log: Arc::clone(log),
        };
        let (made, _) = sandbox.enter(|store| {
            let instance = component.pre.instantiate(&mut *store)?;
            component.exports.load(store, &instance)
        });
        match made {
            Ok(handlers) => Ok((sandbox, handlers)),
            Err(mut fault) => {
                fault.kind = FaultKind::Instantiate;
                fault.message = format!("the instance cannot be made: {}", fault.message);
                Err(fault)
            }
        }
    }

    /// Of which component the instance is.
    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    /// What its memories have.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes
    }

    /// Calls the guest, which is lent the context meanwhile.
    pub(super) fn call<R>(
        &mut self,
        mut context: Box<TaskContext>,
        rights: Rights,
        call: impl FnOnce(&mut Store<InstanceData>) -> wasmtime::Result<R>,
    ) -> Returned<R> {
        context.rights = rights;
        context.budget = CallBudget::of(self.component.limits());
        self.store.data_mut().context = Some(context);
        self.store.data_mut().memory.refused = None;
        self.store.data_mut().memory.refused_elements = None;
        let (result, times) = self.enter(call);
        let Some(mut context) = self.store.data_mut().context.take() else {
            panic!("the context of a task was lost in a call");
        };
        context.rights = Rights::Read;
        context.note_times(times);
        context.state_mut().end_call();
        (context, result)
    }

    /// Runs the component until it gives back, is stopped or fails, and says where the time went.
    fn enter<R>(
        &mut self,
        work: impl FnOnce(&mut Store<InstanceData>) -> wasmtime::Result<R>,
    ) -> (Result<R, Fault>, CallTimes) {
        let running = self.component.runtime.running();
        arm(&mut self.store, &self.component);
        let meter = Meter::of_this_thread();
        self.store.data_mut().meter = meter;
        meter.begin();
        let result = caught(|| work(&mut self.store));
        let times = meter.end();
        drop(running);
        let result = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.fault_after(&error, times)),
            Err(panic) => Err(Fault::new(FaultKind::Panic, panic_message(&*panic))),
        };
        (result, times)
    }

    /// A fault of a call that spent this.
    fn fault_after(&self, error: &wasmtime::Error, times: CallTimes) -> Fault {
        let mut fault = self.fault(error);
        if fault.kind == FaultKind::Deadline && times.host > times.guest {
            let host = times.host.as_millis();
            fault.message = format!(
                "{}, {host} ms of it in functions of the host",
                fault.message
            );
        }
        fault
    }

    fn fault(&self, error: &wasmtime::Error) -> Fault {
        let tail = self.log.lock().take_tail();
        let mut fault = Fault::from_error(error, tail, &self.component);
        let secrets = &self.component.options.secrets;
        fault.message = secrets.hide_in_sentence(&fault.message);
        if let Some((kind, hint)) = self.store.data().memory.hint() {
            fault.message = format!("{} ({hint})", fault.message);
            if fault.kind == FaultKind::Trap {
                fault.kind = kind;
            }
        }
        fault
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A line that it began is not continued by the next one.
        self.log.lock().take_tail();
    }
}

thread_local! {
    /// A panic on this thread ends what is done, and no more.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does what may panic over a guest, or over what a component says of itself.
pub(super) fn caught<R>(work: impl FnOnce() -> R) -> thread::Result<R> {
    let before = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    done
}

/// Whether a panic on this thread is caught: around the call of a guest it costs the batch. A panic anywhere else may leave
/// anything behind, and the process must end.
pub fn is_in_call() -> bool {
    CAUGHT.get()
}

fn arm(store: &mut Store<InstanceData>, component: &Component) {
    let limits = component.limits();
    store.data_mut().time.begin(limits.call_deadline);
    store.set_epoch_deadline(FIRST_LOOK_TICKS);
    if component.runtime.has_fuel
        && let Err(error) = store.set_fuel(limits.fuel.unwrap_or(u64::MAX))
    {
        panic!("an engine that counts fuel takes none: {error:#}");
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = shown::line(text.unwrap_or("no message"), SENTENCE_BYTES);
    format!("the host panicked in a call: {text}")
}
