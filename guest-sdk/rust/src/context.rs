//! What a handler gets in addition to its messages: stores, outputs, configuration, figures, and the identity of its task.

use std::rc::Rc;
use std::str::FromStr;

use crate::backend::{self, config, metrics};
use crate::call::Call;
use crate::{Codec, Error, Message, Outcome, Output, Store};

/// An input of the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name under which the task knows it.
    pub port: String,
    /// How its messages are given to tasks.
    pub kind: InputKind,
}

/// How the messages of an input are given to tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// Partition `p` of the stream goes to task `p`.
    Partitioned,
    /// Every task gets every message.
    Broadcast,
    /// One that this SDK does not know.
    Other(String),
}

/// The task's access to its host. Stores and outputs may be kept in the task's struct or made again in every call:
/// a store is opened once either way.
pub struct Context {
    call: Rc<Call>,
}

impl Context {
    pub(crate) fn new(call: Rc<Call>) -> Self {
        Self { call }
    }

    /// A store, by the name under which the job declares it for this stage; an error if it does not.
    pub fn store<K: Codec, V: Codec>(&self, name: &str) -> Result<Store<K, V>, Error> {
        Ok(Store::new(self.call.store(name)?, Rc::clone(&self.call)))
    }

    /// An output port. One that the job does not declare traps when the handler has returned.
    pub fn output<K: Codec, V: Codec>(&self, port: &str) -> Output<K, V> {
        Output::new(Rc::clone(&self.call), self.call.sends().port(port))
    }

    /// Calls `work` for each message in order, each on its own: an error rejects that message and undoes its sends, and
    /// the others go on. Messages that have been rejected before are skipped. For tasks that filter and translate; for tasks with
    /// state, see [`Store::update`].
    ///
    /// It fails itself, and should fail the call by `?`, when a message is rejected for which a store was written. The host
    /// then gives the messages one by one, which rejects that one.
    pub fn for_each<'a, R: Outcome>(
        &self,
        messages: impl IntoIterator<Item = Message<'a>>,
        mut work: impl FnMut(&Message<'a>) -> R,
    ) -> Result<(), Error> {
        for message in messages {
            if !self.call.is_rejected(&message) {
                self.call
                    .attempt(&message, false, || work(&message).into_result())?;
            }
        }
        Ok(())
    }

    /// Rejects a message of this call, as a business decision: it goes where the job's `on-rejected` says. The caller must not
    /// have written or sent anything for it, except in the closures of [`Store::update`] and [`for_each`](Self::for_each), which
    /// take care of that. It fails, and should fail the call by `?`, if an earlier one of those has already written or sent for it.
    pub fn reject(&self, message: &Message<'_>, error: impl Into<Error>) -> Result<(), Error> {
        self.call.reject(message, error.into())
    }

    /// A value of the stage's `[stage.config]`, as text.
    pub fn config(&self, key: &str) -> Result<Option<String>, Error> {
        config::get(key).map_err(|error| {
            let (config::Error::Upstream(reason) | config::Error::Io(reason)) = error;
            Error::new(format!("config {key:?}: {reason}"))
        })
    }

    /// A value of the stage's `[stage.config]`, parsed; an error if it is there and does not parse.
    pub fn config_as<T>(&self, key: &str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.config(key)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error| Error::new(format!("config {key:?}: {text:?}: {error}")))
    }

    /// A value of the stage's `[stage.config]` that must be there, parsed.
    pub fn need_config<T>(&self, key: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.config_as(key)?
            .ok_or_else(|| Error::new(format!("config {key:?} is missing")))
    }

    /// Adds to a counter for the job's operators.
    ///
    /// A name of a figure has 1 to 64 characters of `a-z`, `0-9`, `-` and `_`, a letter first. A stage may use 128
    /// names, each for one kind of figure; more, or another kind, trap. What an undone batch reported is dropped.
    pub fn count(&self, name: &str, by: u64) {
        metrics::counter_add(name, by);
    }

    /// Sets a gauge; it is shown per task. About the name see [`count`](Self::count).
    pub fn gauge(&self, name: &str, value: f64) {
        metrics::gauge_set(name, value);
    }

    /// Records a value in a histogram with buckets at powers of two. About the name see [`count`](Self::count).
    pub fn record(&self, name: &str, value: f64) {
        metrics::histogram_record(name, value);
    }

    /// The job's name.
    pub fn job(&self) -> String {
        backend::context::job()
    }

    /// The stage's name.
    pub fn stage(&self) -> String {
        backend::context::stage()
    }

    /// The task's name in logs and on the command line: the stage, a slash, the partition.
    pub fn task(&self) -> String {
        backend::context::task()
    }

    /// The task's partition, counted from 0.
    pub fn partition(&self) -> u32 {
        backend::context::partition()
    }

    /// How many tasks the stage has.
    pub fn partitions(&self) -> u32 {
        backend::context::partitions()
    }

    /// The stage's inputs. Batches and messages name theirs by its index here.
    pub fn inputs(&self) -> Vec<Input> {
        let kind = |kind| match kind {
            backend::context::InputKind::Partitioned => InputKind::Partitioned,
            backend::context::InputKind::Broadcast => InputKind::Broadcast,
            backend::context::InputKind::Other(name) => InputKind::Other(name),
        };
        backend::context::inputs()
            .into_iter()
            .map(|input| Input {
                port: input.port,
                kind: kind(input.kind),
            })
            .collect()
    }

    /// What identifies the running component: the SHA-256 of its bytes, in lower-case hexadecimal.
    pub fn component_version(&self) -> String {
        backend::context::component_version()
    }

    /// Store time: milliseconds since the Unix epoch, UTC. It never goes back, restarts included, and stands still during
    /// a batch.
    pub fn now_ms(&self) -> i64 {
        backend::context::now_ms()
    }

    /// Asks for a checkpoint soon after the current batch. Several requests may become one.
    pub fn request_checkpoint(&self) {
        backend::context::request_checkpoint();
    }

    /// Asks the host to stop this task after the current batch, which is kept, and says why. Traps if the job does not
    /// grant `request-stop` to the stage.
    pub fn request_stop(&self, reason: &str) {
        backend::context::request_stop(reason);
    }
}
