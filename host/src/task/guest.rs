//! The guest of a task: its component, the instance that lives, and the context that it is lent. The only way to call it.
//!
//! Invariants: the context is here except during a call; an instance that trapped is never entered again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::failure::Cause;
use super::{StepControl, TaskFigures};
use crate::runtime::{Component, Fault, Instance, TaskContext, Wear};

/// A component at work for one task.
pub(super) struct Guest {
    component: Arc<Component>,
    instance: Option<Instance>,
    context: Lend,
    figures: Arc<TaskFigures>,
    /// A `close` has failed before.
    close_failed: bool,
    /// How long it has been away so far because other code took over, until its first instance is made.
    away: Option<Duration>,
}

/// The context of a task: it is lent to the instance for a call.
enum Lend {
    Here(Box<TaskContext>),
    Lent,
}

/// Why a call, and with it the batch, came to nothing.
pub(super) enum Stopped {
    /// The drain's time was over, and the call was interrupted. It is not a fault.
    GivenUp,
    /// Something that the task must answer to.
    By(Cause),
    /// The instance could not be made or opened: no message is to blame.
    Unmade(Cause),
}

/// Between what an instance is about to be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Batches,
    Calls,
}

impl Guest {
    /// A component without an instance.
    pub(super) fn new(
        component: Arc<Component>,
        context: TaskContext,
        figures: Arc<TaskFigures>,
    ) -> Guest {
        Guest {
            component,
            instance: None,
            context: Lend::Here(Box::new(context)),
            figures,
            close_failed: false,
            away: None,
        }
    }

    /// Another component takes over, after the instance of the former one is closed. `away`: what that has taken.
    pub(super) fn take_component(&mut self, component: Arc<Component>, away: Duration) {
        assert!(!self.has_instance(), "an instance outlives its code");
        self.component = component;
        self.close_failed = false;
        self.away = Some(away);
    }

    /// Lets another component have the context for a while. There is no instance.
    pub(super) fn lend_to(&mut self, component: Arc<Component>) -> Arc<Component> {
        assert!(!self.has_instance(), "two instances share a context");
        std::mem::replace(&mut self.component, component)
    }

    /// The end of that. What was made is dropped, and is not told.
    pub(super) fn take_back(&mut self, component: Arc<Component>) {
        self.instance = None;
        self.component = component;
    }

    /// What the instance is made of.
    pub(super) fn component(&self) -> &Component {
        &self.component
    }

    /// Whether an instance lives.
    pub(super) fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// What the guest has changed.
    pub(super) fn context(&self) -> &TaskContext {
        match &self.context {
            Lend::Here(context) => context,
            Lend::Lent => lent(),
        }
    }

    /// The same, to change it.
    pub(super) fn context_mut(&mut self) -> &mut TaskContext {
        match &mut self.context {
            Lend::Here(context) => context,
            Lend::Lent => lent(),
        }
    }

    /// Makes an instance, unless one lives.
    pub(super) fn ensure_instance(&mut self, control: &StepControl) -> Result<(), Stopped> {
        self.ensure(control, Instance::new)
    }

    /// The same of one that is not opened, to migrate.
    pub(super) fn ensure_unopened(&mut self, control: &StepControl) -> Result<(), Stopped> {
        self.ensure(control, Instance::unopened)
    }

    fn ensure(
        &mut self,
        control: &StepControl,
        make: impl FnOnce(
            &Arc<Component>,
            Box<TaskContext>,
        ) -> (Box<TaskContext>, Result<Instance, Fault>),
    ) -> Result<(), Stopped> {
        if self.instance.is_some() {
            return Ok(());
        }
        control.begin_call();
        let context = self.lend();
        let began = self.away.map(|_| Instant::now());
        let (context, made) = make(&self.component, context);
        self.context = Lend::Here(context);
        self.figures.instances.fetch_add(1, Ordering::Relaxed);
        if let (Some(away), Some(began)) = (self.away.take(), began) {
            let (closed, made) = (away, began.elapsed());
            self.figures.note_pause_at_swap(closed + made);
            tracing::debug!(task = %self.context().info.name(), ?closed, ?made, "other code");
        }
        let unmade = |fault| match stopped(fault, control) {
            Stopped::By(cause) => Stopped::Unmade(cause),
            given_up => given_up,
        };
        self.instance = Some(made.map_err(unmade)?);
        Ok(())
    }

    /// Calls the guest. A fault drops the instance.
    ///
    /// # Panics
    /// Without an instance.
    pub(super) fn call<R>(
        &mut self,
        control: &StepControl,
        call: impl FnOnce(&mut Instance, Box<TaskContext>) -> (Box<TaskContext>, Result<R, Fault>),
    ) -> Result<R, Stopped> {
        let context = self.lend();
        let Some(instance) = &mut self.instance else {
            panic!("a guest is called without an instance");
        };
        control.begin_call();
        let (mut context, result) = call(instance, context);
        self.figures.note_times(context.take_times());
        self.context = Lend::Here(context);
        result.map_err(|fault| {
            self.instance = None;
            stopped(fault, control)
        })
    }

    /// Closes an instance that is worn out; the next call needs a new one.
    pub(super) fn recycle(&mut self, control: &StepControl, between: Between) {
        let Some(instance) = &self.instance else {
            return;
        };
        let Some(wear) = instance.worn() else { return };
        // A new instance would start just as large; replacing it before every call is not worth the cost.
        if wear == Wear::TooLarge && between == Between::Calls {
            return;
        }
        let messages = instance.messages();
        let name = self.context().info.name();
        let recycled = self.figures.recycled.fetch_add(1, Ordering::Relaxed);
        if recycled == 0 && wear == Wear::TooLarge {
            tracing::warn!(
                task = %name,
                "an instance has more than `recycle-memory` as soon as it is made and opened, so each batch has a new one: raise it, or `memory`, in [stage.limits]"
            );
        }
        tracing::debug!(task = %name, messages, ?wear, "an instance is replaced");
        control.begin_call();
        self.close(control);
    }

    /// Closes the instance, if one lives; the next call needs a new one.
    pub(super) fn close(&mut self, control: &StepControl) {
        let Some(instance) = self.instance.take() else {
            return;
        };
        let (context, closed) = instance.close(self.lend());
        self.context = Lend::Here(context);
        // A `close` that was interrupted because the drain's time was over did nothing wrong.
        if let Err(fault) = closed
            && !control.give_up.load(Ordering::Relaxed)
        {
            let task = self.context().info.name();
            match std::mem::replace(&mut self.close_failed, true) {
                false => tracing::warn!(%task, "`close` failed: {fault}"),
                // To look up lines takes milliseconds.
                true => tracing::warn!(%task, "`close` failed: {}", fault.message),
            }
        }
    }

    fn lend(&mut self) -> Box<TaskContext> {
        match std::mem::replace(&mut self.context, Lend::Lent) {
            Lend::Here(context) => context,
            Lend::Lent => lent(),
        }
    }
}

fn stopped(fault: Fault, control: &StepControl) -> Stopped {
    match control.give_up.load(Ordering::Relaxed) {
        true => Stopped::GivenUp,
        false => Stopped::By(Cause::Fault(fault)),
    }
}

fn lent() -> ! {
    panic!("the context of a task is used during a call")
}
