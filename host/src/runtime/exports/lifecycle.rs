//! `wasm-host:task/lifecycle`: the first and the last call of an instance. It may read, and not write.

use crate::runtime::context::{Rights, TaskContext};
use crate::runtime::fault::{Fault, FaultKind};
use crate::runtime::instance::Instance;
use crate::runtime::sandbox::Returned;

impl Instance {
    /// Opens a new instance, if the component wants it.
    pub(in crate::runtime) fn open(&mut self, context: Box<TaskContext>) -> Returned<()> {
        let Some(lifecycle) = &self.handlers.lifecycle else {
            return (context, Ok(()));
        };
        let (context, opened) = self
            .sandbox
            .call(context, Rights::Read, |store| lifecycle.call_open(store));
        let opened = opened.and_then(|answer| {
            answer.map_err(|reason| {
                let reason = self.secrets().hide(&reason).into_owned();
                Fault::new(
                    FaultKind::Instantiate,
                    format_args!("`open` failed: {reason}"),
                )
            })
        });
        (context, opened)
    }

    /// Closes the instance, if it was opened and the component wants it, and drops it.
    pub fn close(mut self, context: Box<TaskContext>) -> Returned<()> {
        match &self.handlers.lifecycle {
            Some(lifecycle) if self.is_open => self
                .sandbox
                .call(context, Rights::Read, |store| lifecycle.call_close(store)),
            _ => (context, Ok(())),
        }
    }
}
