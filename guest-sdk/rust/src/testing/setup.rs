//! What a job would declare for the stage of a task.

use std::cell::RefCell;
use std::rc::Rc;

use super::Harness;
use super::host::Host;
use crate::{Error, Task};

/// What a job declares for a stage: the start of a test.
///
/// Without more, there is one input, `in`, no store and no output, one task, and a clock at 0.
pub struct Setup {
    host: Host,
    inputs: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        let host = Host {
            job: "test".to_owned(),
            stage: "test".to_owned(),
            partitions: 1,
            ..Host::default()
        };
        Self {
            host,
            inputs: Vec::new(),
        }
    }
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "a setup that nothing starts is plain to see"
)]
impl Setup {
    /// The beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a store.
    pub fn store(mut self, name: &str) -> Self {
        self.host.stores.declare(name);
        self
    }

    /// Declares an output port whose stream has this many partitions, at least 1.
    #[track_caller]
    pub fn output(mut self, port: &str, partitions: u32) -> Self {
        assert!(partitions > 0, "a stream has at least one partition");
        self.host.ports.declare(port, partitions);
        self
    }

    /// Declares an input port; its index is the number of those declared before.
    pub fn input(mut self, port: &str) -> Self {
        self.inputs.push(port.to_owned());
        self
    }

    /// Sets a value of `[stage.config]`.
    pub fn config(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.host.config.insert(key.to_owned(), value.to_string());
        self
    }

    /// Makes the task that of partition `partition` of `partitions`.
    #[track_caller]
    pub fn partition(mut self, partition: u32, partitions: u32) -> Self {
        assert!(
            partition < partitions,
            "a stage with {partitions} tasks has no task {partition}"
        );
        (self.host.partition, self.host.partitions) = (partition, partitions);
        self
    }

    /// Sets the clock, in milliseconds since the Unix epoch.
    pub fn clock_ms(mut self, clock_ms: i64) -> Self {
        self.host.clock_ms = clock_ms;
        self
    }

    /// Names the stage.
    pub fn stage(mut self, name: &str) -> Self {
        self.host.stage = name.to_owned();
        self
    }

    /// Grants `request-stop`.
    pub fn grant_request_stop(mut self) -> Self {
        self.host.may_stop = true;
        self
    }

    /// Makes and opens a task; the error is what its `open` returns.
    pub fn start<T: Task>(mut self) -> Result<Harness<T>, Error> {
        if self.inputs.is_empty() {
            self.inputs.push("in".to_owned());
        }
        self.host.inputs = self.inputs;
        Harness::start(Rc::new(RefCell::new(self.host)))
    }
}
