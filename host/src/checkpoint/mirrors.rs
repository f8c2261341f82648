//! Positions that are noted outside of the job, too, for others to see.

use std::sync::Arc;

use super::StateId;
use crate::connectors::{Input, Mirror};
use crate::model::{Epoch, Offset, StreamId, TaskId};

/// The inputs whose positions are noted. Mostly there are none.
pub(super) struct Mirrors {
    state: StateId,
    inputs: Vec<(StreamId, Arc<dyn Input>)>,
}

impl Mirrors {
    pub(super) fn new(state: StateId, inputs: &[(StreamId, Arc<dyn Input>)]) -> Mirrors {
        Mirrors {
            state,
            inputs: inputs.to_vec(),
        }
    }

    fn each(&self) -> impl Iterator<Item = &dyn Mirror> {
        let inputs = self.inputs.iter();
        inputs.filter_map(|(_, input)| input.mirror())
    }

    /// A checkpoint has recorded a position.
    pub(super) fn note(&self, task: TaskId, stream: StreamId, next: Offset) {
        let mut inputs = self.inputs.iter();
        let input = inputs.find(|(of, _)| *of == stream);
        if let Some(mirror) = input.and_then(|(_, input)| input.mirror()) {
            mirror.note(task.partition, next);
        }
    }

    /// What was noted is the work of this epoch, and is written soon.
    pub(super) fn settle(&self, epoch: Epoch) {
        self.each()
            .for_each(|mirror| mirror.settle(&self.state.0, epoch.0));
    }

    /// Writes what is left.
    pub(super) fn finish(&self, epoch: Epoch) {
        self.settle(epoch);
        self.each().for_each(Mirror::finish);
    }
}
