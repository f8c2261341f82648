//! What `#[task]` makes of an `impl` block, and an instance of it between the calls of its host.

use std::cell::RefCell;
use std::rc::Rc;

use crate::backend::types;
use crate::call::Call;
use crate::{Batch, Context, Error, Message, Migrated, Migration};

/// Which handler a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `batch`: messages in batches.
    Batch,
    /// `message`: one message at a time.
    Message,
}

/// Whether there is more to do at the end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more to send.
    Done,
    /// Call again, as a new batch: for a task with more to write or send than the 16 MiB of one call.
    Again,
}

impl From<()> for Progress {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// A stream-processing task. Implemented by [`#[task]`](macro@crate::task), not by hand.
pub trait Task: Sized + 'static {
    /// Which handler it has.
    const SHAPE: Shape;

    /// The version of the state that it reads and writes; 0 if it names none.
    const STATE_VERSION: u32;

    /// Makes the struct, and opens it.
    fn create(cx: &mut Context) -> Result<Self, Error>;

    /// Processes a batch.
    fn batch(&mut self, batch: &Batch<'_>, cx: &mut Context) -> Result<(), Error>;

    /// Processes a message.
    fn message(&mut self, message: &Message<'_>, cx: &mut Context) -> Result<(), Error>;

    /// Called before the struct is dropped in good order.
    fn close(&mut self, cx: &mut Context);

    /// Called at the end of bounded inputs.
    fn on_end(&mut self, cx: &mut Context) -> Result<Progress, Error>;

    /// Migrates a part of the state that an earlier version has left.
    fn migrate(migration: &Migration<'_>, cx: &mut Context) -> Result<Migrated, Error>;
}

/// A task with its context: what lives between two calls of the host. Records go in and come out, so that a component
/// and a native test run the same code.
pub struct Instance<T> {
    task: T,
    call: Rc<Call>,
    context: Context,
}

impl<T: Task> Instance<T> {
    /// Makes and opens a task.
    pub fn open() -> Result<Self, Error> {
        let call = Rc::new(Call::default());
        let mut context = Context::new(Rc::clone(&call));
        call.begin(0);
        let created = T::create(&mut context);
        let (task, _) = call.finish(created)?;
        Ok(Self {
            task,
            call,
            context,
        })
    }

    /// Processes a batch.
    pub fn batch(&mut self, raw: &types::Batch) -> Result<Vec<types::Rejection>, Error> {
        let batch = Batch::new(raw);
        self.call.begin(batch.len());
        let result = self.task.batch(&batch, &mut self.context);
        self.call.finish(result).map(|((), rejections)| rejections)
    }

    /// Processes a message.
    pub fn message(&mut self, raw: &types::Message) -> Result<(), Error> {
        self.call.begin(1);
        let result = self
            .task
            .message(&Message::from_row(raw), &mut self.context);
        // A rejection of the only message is what `err` means here, and it undoes whatever was done for it.
        let result = result.and_then(|()| self.call.first_rejection().map_or(Ok(()), Err));
        self.call.finish(result).map(|_| ())
    }

    /// The end of bounded inputs.
    pub fn on_end(&mut self) -> Result<Progress, Error> {
        self.call.begin(0);
        let result = self.task.on_end(&mut self.context);
        self.call.finish(result).map(|(progress, _)| progress)
    }

    /// The end of the instance.
    pub fn close(mut self) {
        self.call.begin(0);
        self.task.close(&mut self.context);
        // Hand over what was sent, so that it traps as the contract says instead of being lost silently.
        drop(self.call.finish(Ok(())));
    }
}

/// Where a component keeps its only instance.
pub struct Home<T>(RefCell<Option<Instance<T>>>);

impl<T: Task> Home<T> {
    /// A home without an instance.
    #[expect(
        clippy::new_without_default,
        reason = "a `const` is needed, and `Default` has none"
    )]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Makes the instance. The first call does this if there is no `lifecycle`.
    pub fn open(&self) -> Result<(), String> {
        #[cfg(target_family = "wasm")]
        crate::log::report_panics();
        let instance = Instance::open().map_err(|error| error.to_string())?;
        self.0.replace(Some(instance));
        Ok(())
    }

    /// Calls the instance.
    pub fn enter<R>(
        &self,
        work: impl FnOnce(&mut Instance<T>) -> Result<R, Error>,
    ) -> Result<R, String> {
        if self.0.borrow().is_none() {
            self.open()?;
        }
        match self.0.borrow_mut().as_mut() {
            Some(instance) => work(instance).map_err(|error| error.to_string()),
            None => Err("the task is closed".to_owned()),
        }
    }

    /// Ends the instance.
    pub fn close(&self) {
        if let Some(instance) = self.0.take() {
            instance.close();
        }
    }
}
