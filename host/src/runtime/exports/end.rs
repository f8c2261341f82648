//! `wasm-host:task/end-of-input`: the call at the end of bounded inputs.

use crate::runtime::bindings::exports::wasm_host::task::end_of_input;
use crate::runtime::context::{Rights, TaskContext};
use crate::runtime::instance::Instance;
use crate::runtime::sandbox::Returned;

/// What `on-end` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndProgress {
    /// Nothing more to send.
    Done,
    /// Call again.
    Again,
}

impl Instance {
    /// Tells the guest that all inputs have ended. `None` if the component does not export it.
    pub fn on_end(
        &mut self,
        context: Box<TaskContext>,
    ) -> Returned<Option<Result<EndProgress, String>>> {
        let Some(handler) = &self.handlers.end_of_input else {
            return (context, Ok(None));
        };
        let (context, result) = self
            .sandbox
            .call(context, Rights::Write, |store| handler.call_on_end(store));
        let result = result.map(|answer| {
            Some(match answer {
                Ok(end_of_input::Progress::Done) => Ok(EndProgress::Done),
                Ok(end_of_input::Progress::Again) => Ok(EndProgress::Again),
                Err(reason) => Err(super::cut(self.secrets(), &reason)),
            })
        });
        (context, result)
    }
}
