//! An instance of a component: serves one task, one call at a time, until it is dropped or traps. How its exports are called is
//! in `exports/`.

use std::sync::Arc;
use std::time::Instant;

use super::component::Component;
use super::context::{Given, TaskContext};
use super::exports::Handlers;
use super::fault::Fault;
use super::logs::TaskLog;
use super::sandbox::{Returned, Sandbox};
use super::secrets::Secrets;

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

/// A living guest.
pub struct Instance {
    pub(super) sandbox: Sandbox,
    pub(super) handlers: Handlers,
    /// It was opened, so it is closed.
    pub(super) is_open: bool,
    made: Instant,
    /// What its memories had when it was made and opened.
    bytes_made: usize,
    /// Messages it was given.
    pub(super) messages: u64,
}

impl Instance {
    /// Makes an instance for the task of `context`, and opens it.
    pub fn new(component: &Arc<Component>, context: Box<TaskContext>) -> Returned<Instance> {
        let (context, made) = Instance::unopened(component, context);
        let mut instance = match made {
            Ok(instance) => instance,
            Err(fault) => return (context, Err(fault)),
        };
        let (context, opened) = instance.open(context);
        instance.is_open = true;
        instance.bytes_made = instance.sandbox.memory_bytes();
        (context, opened.map(|()| instance))
    }

    /// Makes one that is not opened: it can do nothing but migrate.
    pub fn unopened(component: &Arc<Component>, context: Box<TaskContext>) -> Returned<Instance> {
        let (sandbox, handlers) = match Sandbox::make(component, &context.given) {
            Ok(made) => made,
            Err(fault) => return (context, Err(fault)),
        };
        let instance = Instance {
            bytes_made: sandbox.memory_bytes(),
            sandbox,
            handlers,
            is_open: false,
            made: Instant::now(),
            messages: 0,
        };
        (context, Ok(instance))
    }

    /// Makes an instance and drops it: only that shows whether everything exported has the contract's signatures.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(component: &Arc<Component>) -> Result<(), Fault> {
        let given = Given::new(TaskLog::new("validate".into()));
        Sandbox::make(component, &given).map(|_| ())
    }

    /// Whether it has served long enough.
    pub fn worn(&self) -> Option<Wear> {
        let recycle = &self.sandbox.component().limits().recycle;
        if self.bytes_made > recycle.memory_bytes {
            Some(Wear::TooLarge)
        } else if self.sandbox.memory_bytes() > recycle.memory_bytes {
            Some(Wear::Memory)
        } else if recycle.messages.is_some_and(|most| self.messages >= most) {
            Some(Wear::Messages)
        } else if recycle.age.is_some_and(|most| self.made.elapsed() >= most) {
            Some(Wear::Age)
        } else {
            None
        }
    }

    /// What it may tell and nobody is shown.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.sandbox.component().options.secrets
    }

    /// Messages that it was given.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}
