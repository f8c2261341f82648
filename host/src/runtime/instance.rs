//! An instance of a component: serves one task, one call at a time, until it is dropped or traps.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::exports::wasm_host::task as exports;
use super::bindings::wasm_host::task::types;
use super::component::Component;
use super::context::TaskContext;
use super::fault::{Fault, FaultKind};
use super::imports::{InstanceData, Wasi};
use super::limits::{CALL_LIFTS_BYTES, DETAIL_BYTES, REASON_BYTES};
use super::logs::TaskLog;
use super::time::FIRST_LOOK_TICKS;
use crate::model::shown::{self, SENTENCE_BYTES};
use crate::model::{Batch, Column, HeadersColumn};

/// A message of a batch that the guest will not process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index into the batch.
    pub index: usize,
    /// Why.
    pub reason: String,
    /// The guest's own detail.
    pub detail: Option<Vec<u8>>,
}

/// What `on-end` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndProgress {
    /// All is said.
    Done,
    /// Call again.
    Again,
}

/// Why an instance is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wear {
    /// It has grown beyond `recycle-memory`.
    Memory,
    /// It had more than `recycle-memory` from the beginning.
    TooLarge,
    /// It has processed `recycle-messages`.
    Messages,
    /// It is older than `recycle-age`.
    Age,
}

struct Handlers {
    message: Option<exports::message_handler::Guest>,
    batch: Option<exports::batch_handler::Guest>,
    lifecycle: Option<exports::lifecycle::Guest>,
    end_of_input: Option<exports::end_of_input::Guest>,
}

/// A living guest.
pub struct Instance {
    component: Arc<Component>,
    store: Store<InstanceData>,
    handlers: Handlers,
    log: Arc<Mutex<TaskLog>>,
    made: Instant,
    /// What its memories had when it was made and opened.
    bytes_made: usize,
    /// Messages it was given.
    messages: u64,
}

/// A call gives the task's context back, whatever happened.
type Returned<R> = (Box<TaskContext>, Result<R, Fault>);

impl Instance {
    /// Makes an instance for the task of `context`, and opens it.
    pub fn new(component: &Arc<Component>, context: Box<TaskContext>) -> Returned<Instance> {
        match Instance::make(component, &context.log) {
            Ok(mut instance) => match instance.handlers.lifecycle.take() {
                None => (context, Ok(instance)),
                Some(lifecycle) => {
                    let (context, opened) =
                        instance.call(context, Phase::Outside, |store| lifecycle.call_open(store));
                    instance.handlers.lifecycle = Some(lifecycle);
                    let opened = match opened {
                        Ok(Ok(())) => {
                            instance.bytes_made = instance.store.data().memory.bytes;
                            Ok(instance)
                        }
                        Ok(Err(reason)) => Err(Fault::new(
                            FaultKind::Instantiate,
                            format_args!("`open` failed: {reason}"),
                        )),
                        Err(fault) => Err(fault),
                    };
                    (context, opened)
                }
            },
            Err(fault) => (context, Err(fault)),
        }
    }

    /// Makes an instance and drops it: whether everything that is exported has the contract's signatures shows only then.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(component: &Arc<Component>) -> Result<(), Fault> {
        let log = Arc::new(Mutex::new(TaskLog::new("validate".into())));
        Instance::make(component, &log).map(|_| ())
    }

    fn make(component: &Arc<Component>, log: &Arc<Mutex<TaskLog>>) -> Result<Instance, Fault> {
        let limits = &component.options.limits;
        let wasi = Wasi::new(&component.runtime, &component.options, Arc::clone(log))
            .map_err(|why| Fault::new(FaultKind::Instantiate, why))?;
        let mut store = Store::new(
            &component.runtime.engine,
            InstanceData::new(&component.runtime, wasi, limits.memory_bytes),
        );
        store.limiter(|guest| &mut guest.memory);
        store.epoch_deadline_callback(|mut call| {
            let ticks = call.data_mut().look_at_call();
            ticks
                .map(UpdateDeadline::Continue)
                .ok_or_else(|| Trap::Interrupt.into())
        });
        store.set_hostcall_fuel(CALL_LIFTS_BYTES);
        let running = component.runtime.running();
        arm(&mut store, limits.call_deadline);
        let made = component.pre.instantiate(&mut store).and_then(|instance| {
            let exports = &component.exports;
            Ok(Handlers {
                message: exports
                    .message
                    .as_ref()
                    .map(|at| at.load(&mut store, &instance))
                    .transpose()?,
                batch: exports
                    .batch
                    .as_ref()
                    .map(|at| at.load(&mut store, &instance))
                    .transpose()?,
                lifecycle: exports
                    .lifecycle
                    .as_ref()
                    .map(|at| at.load(&mut store, &instance))
                    .transpose()?,
                end_of_input: exports
                    .end_of_input
                    .as_ref()
                    .map(|at| at.load(&mut store, &instance))
                    .transpose()?,
            })
        });
        drop(running);
        match made {
            Ok(handlers) => Ok(Instance {
                bytes_made: store.data().memory.bytes,
                component: Arc::clone(component),
                store,
                handlers,
                log: Arc::clone(log),
                made: Instant::now(),
                messages: 0,
            }),
            Err(error) => {
                let mut fault = Fault::from_error(
                    &error,
                    log.lock().take_tail(),
                    limits.call_deadline.as_millis(),
                );
                fault.kind = FaultKind::Instantiate;
                let hint = store
                    .data()
                    .memory
                    .hint()
                    .map(|hint| format!(" ({hint})"))
                    .unwrap_or_default();
                fault.message = format!("the instance cannot be made: {}{hint}", fault.message);
                Err(fault)
            }
        }
    }

    /// Whether it has served long enough.
    pub fn worn(&self) -> Option<Wear> {
        let recycle = &self.component.options.limits.recycle;
        if self.bytes_made > recycle.memory_bytes {
            Some(Wear::TooLarge)
        } else if self.store.data().memory.bytes > recycle.memory_bytes {
            Some(Wear::Memory)
        } else if recycle.messages.is_some_and(|most| self.messages >= most) {
            Some(Wear::Messages)
        } else if recycle.age.is_some_and(|most| self.made.elapsed() >= most) {
            Some(Wear::Age)
        } else {
            None
        }
    }

    /// Messages that it was given.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Processes a batch in one call.
    ///
    /// # Panics
    /// Where the component has no batch handler.
    pub fn process_batch(
        &mut self,
        context: Box<TaskContext>,
        batch: &Batch,
    ) -> Returned<Result<Vec<Rejection>, String>> {
        let Some(handler) = self.handlers.batch.take() else {
            panic!("a batch is given to a component without a batch handler");
        };
        self.messages += batch.len() as u64;
        let keys = batch.messages.keys.as_ref().map(column);
        let headers = batch
            .messages
            .headers
            .as_ref()
            .map(|headers| types::HeadersColumnParam {
                ends: bytemuck::cast_slice(&headers.ends),
                names: column(&headers.names),
                values: column(&headers.values),
            });
        let argument = types::Batch {
            input: u32::from(batch.input.0),
            partition: batch.partition.0,
            offsets: bytemuck::cast_slice(&batch.offsets),
            messages: types::MessagesParam {
                keys,
                values: column(&batch.messages.values),
                timestamps: bytemuck::cast_slice(&batch.messages.timestamps),
                headers,
            },
        };
        let (context, result) = self.call(context, Phase::Batch, |store| {
            handler.call_process(store, argument)
        });
        self.handlers.batch = Some(handler);
        let result = result.and_then(|answer| match answer {
            Ok(rejections) => check_rejections(rejections, batch.len()).map(Ok),
            Err(reason) => Ok(Err(cut(&reason))),
        });
        (context, result)
    }

    /// Processes message `index` of a batch in one call.
    ///
    /// # Panics
    /// Where the component has no message handler.
    pub fn process_message(
        &mut self,
        context: Box<TaskContext>,
        batch: &Batch,
        index: usize,
    ) -> Returned<Result<(), String>> {
        let Some(handler) = self.handlers.message.take() else {
            panic!("a message is given to a component without a message handler");
        };
        self.messages += 1;
        let message = batch.messages.get(index);
        let headers: Vec<types::HeaderParam<'_>> = match &batch.messages.headers {
            None => Vec::new(),
            Some(column) => headers_of(column, index),
        };
        let argument = types::Message {
            input: u32::from(batch.input.0),
            partition: batch.partition.0,
            offset: batch.offsets[index],
            timestamp: message.timestamp,
            key: message.key,
            value: message.value,
            headers: &headers,
        };
        let (context, result) = self.call(context, Phase::Batch, |store| {
            handler.call_process(store, argument)
        });
        self.handlers.message = Some(handler);
        (
            context,
            result.map(|answer| answer.map_err(|reason| cut(&reason))),
        )
    }

    /// Tells the guest that all inputs have ended. `None` where it does not want to know.
    pub fn on_end(
        &mut self,
        context: Box<TaskContext>,
    ) -> Returned<Option<Result<EndProgress, String>>> {
        let Some(handler) = self.handlers.end_of_input.take() else {
            return (context, Ok(None));
        };
        let (context, result) =
            self.call(context, Phase::Batch, |store| handler.call_on_end(store));
        self.handlers.end_of_input = Some(handler);
        let result = result.map(|answer| {
            Some(match answer {
                Ok(exports::end_of_input::Progress::Done) => Ok(EndProgress::Done),
                Ok(exports::end_of_input::Progress::Again) => Ok(EndProgress::Again),
                Err(reason) => Err(cut(&reason)),
            })
        });
        (context, result)
    }

    /// Ends the instance in good order.
    pub fn close(mut self, context: Box<TaskContext>) -> Returned<()> {
        match self.handlers.lifecycle.take() {
            None => (context, Ok(())),
            Some(lifecycle) => {
                self.call(context, Phase::Outside, |store| lifecycle.call_close(store))
            }
        }
    }

    fn call<R>(
        &mut self,
        mut context: Box<TaskContext>,
        phase: Phase,
        call: impl FnOnce(&mut Store<InstanceData>) -> wasmtime::Result<R>,
    ) -> Returned<R> {
        let deadline = self.component.options.limits.call_deadline;
        context.in_batch = phase == Phase::Batch;
        context.call_bytes = 0;
        self.store.data_mut().context = Some(context);
        self.store.data_mut().memory.refused = None;
        let running = self.component.runtime.running();
        arm(&mut self.store, deadline);
        IN_CALL.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut self.store)));
        IN_CALL.set(false);
        drop(running);
        let Some(mut context) = self.store.data_mut().context.take() else {
            panic!("the context of a task was lost in a call");
        };
        context.in_batch = false;
        context.state.end_call();
        let result = match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.fault(&error, deadline)),
            Err(panic) => Err(Fault::new(FaultKind::Panic, panic_message(&*panic))),
        };
        (context, result)
    }

    fn fault(&self, error: &wasmtime::Error, deadline: Duration) -> Fault {
        let tail = self.log.lock().take_tail();
        let mut fault = Fault::from_error(error, tail, deadline.as_millis());
        if let Some(hint) = self.store.data().memory.hint() {
            fault.message = format!("{} ({hint})", fault.message);
        }
        fault
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // What it began to write is not continued by the next one.
        self.log.lock().take_tail();
    }
}

thread_local! {
    /// A call of a guest runs on this thread.
    static IN_CALL: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread is caught: around the call of a guest it costs the batch. Anywhere else nobody knows what
/// it left behind, and the process must end.
pub fn is_in_call() -> bool {
    IN_CALL.get()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Outside,
    Batch,
}

fn arm(store: &mut Store<InstanceData>, deadline: Duration) {
    store.data_mut().time.begin(deadline);
    store.set_epoch_deadline(FIRST_LOOK_TICKS);
}

fn column(column: &Column) -> types::BytesColumnParam<'_> {
    let (ends, data, absent) = column.parts();
    types::BytesColumnParam {
        ends: bytemuck::cast_slice(ends),
        data,
        absent: bytemuck::cast_slice(absent),
    }
}

fn headers_of(column: &HeadersColumn, index: usize) -> Vec<types::HeaderParam<'_>> {
    let header = |at: usize| types::HeaderParam {
        // Names were checked when they came in; what is not UTF-8 cannot be told to a guest.
        name: std::str::from_utf8(column.names.get(at).unwrap_or_default()).unwrap_or_default(),
        value: column.values.get(at),
    };
    column.range(index).map(header).collect()
}

fn check_rejections(given: Vec<types::Rejection>, len: usize) -> Result<Vec<Rejection>, Fault> {
    let mut rejections = Vec::with_capacity(given.len());
    let mut seen = vec![false; if given.is_empty() { 0 } else { len }];
    for rejection in given {
        let index = rejection.index as usize;
        let why = match seen.get_mut(index) {
            None => format!("a rejection of message {index}, but the batch has {len}"),
            Some(true) => format!("message {index} is rejected twice"),
            Some(first) => {
                *first = true;
                rejections.push(Rejection {
                    index,
                    reason: cut(&rejection.reason),
                    detail: rejection.detail.map(|mut detail| {
                        detail.truncate(DETAIL_BYTES);
                        detail
                    }),
                });
                continue;
            }
        };
        return Err(Fault::new(FaultKind::Trap, why));
    }
    rejections.sort_by_key(|rejection| rejection.index);
    Ok(rejections)
}

fn cut(reason: &str) -> String {
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES));
    reason
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = shown::line(text.unwrap_or("no message"), SENTENCE_BYTES);
    format!("the host panicked in a call: {text}")
}
