//! The deadline of the running call, for host functions whose work grows with what they are given.

use wasmtime::StoreContextMut;

use super::InstanceData;
use crate::runtime::fault::DeadlinePassed;
use crate::runtime::time::CallTime;

/// The deadline of the running call. The engine ends only the guest's own code, so a host function with much to do asks here.
pub(super) struct Deadline {
    time: CallTime,
    steps: u32,
}

impl Deadline {
    /// Of the call that runs now.
    pub(super) fn of(call: &StoreContextMut<'_, InstanceData>) -> Deadline {
        Deadline {
            time: call.data().time.clone(),
            steps: 0,
        }
    }

    /// Counts a step of the work; reads the clock at every 256th.
    ///
    /// # Errors
    /// The deadline has passed.
    pub(super) fn check(&mut self) -> wasmtime::Result<()> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(256) && self.is_over() {
            return Err(wasmtime::Error::new(DeadlinePassed));
        }
        Ok(())
    }

    /// Whether it has passed.
    pub(super) fn is_over(&mut self) -> bool {
        self.time.is_over()
    }
}
