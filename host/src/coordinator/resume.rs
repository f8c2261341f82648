//! Held tasks that are to go on.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Coordinator;
use super::machine::{Event, Phase, Wish};
use super::requests::no_task;
use crate::model::Offset;
use crate::scheduler::TaskIndex;
use crate::task::Resume;

/// A held task was asked to go on.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The stream and the offset of the message that it was held at, if that was one.
    pub message: Option<(String, Offset)>,
}

impl Coordinator {
    /// Lets a held task go on, and answers.
    pub(super) fn resume(
        &mut self,
        name: &str,
        how: Resume,
        reply: oneshot::Sender<Result<Resumed, String>>,
    ) -> Event {
        let resumable = self.place_of(name).ok_or_else(|| no_task(name));
        match resumable.and_then(|task| self.resumes(task, how)) {
            Ok((task, wish, resumed)) => {
                self.resuming.insert(task, how);
                let _ = reply.send(Ok(resumed));
                Event::Wish(task, wish)
            }
            Err(why) => {
                let _ = reply.send(Err(why));
                Event::Tick
            }
        }
    }

    /// How a task goes on, or why it does not.
    fn resumes(&self, task: TaskIndex, how: Resume) -> Result<(TaskIndex, Wish, Resumed), String> {
        let entry = &self.tasks[task.0];
        let name = &entry.name;
        if self.draining.is_some() {
            return Err("the job is being stopped".into());
        }
        let failure = self.failures.iter().find(|failure| failure.task == *name);
        if self.is_leaving(task) {
            return Err(format!(
                "what stage {:?} has done is taken back: its tasks go on by themselves",
                self.factory.stage(entry.spec.stage).options.name
            ));
        }
        let phase = self.machine.phase(task);
        let (Phase::Held | Phase::Suspended, Some(failure)) = (phase, failure) else {
            return Err(format!("task {name} is not held"));
        };
        let held = entry.figures.held();
        let message = held.and_then(|held| held.place()).map(|(stream, offset)| {
            let input = entry.inputs.iter().find(|input| input.id == stream);
            let stream = input.map(|input| input.stream.clone());
            (stream.unwrap_or_default(), offset)
        });
        if how == Resume::Skip && message.is_none() {
            return Err(format!(
                "task {name} is not held at a message, so there is none to skip ({}): `wasm-host task resume {name}` lets it try again",
                failure.cause.kind()
            ));
        }
        let wish = match phase {
            Phase::Suspended => Wish::Start,
            _ if failure.cause.needs_making() => {
                if let Some(input) = entry.inputs.iter().find(|input| !input.rewindable) {
                    return Err(format!(
                        "task {name} reads stream {:?}, which cannot be read again: stop the job and start it",
                        input.stream
                    ));
                }
                Wish::Restart(Instant::now())
            }
            _ => Wish::Resume,
        };
        Ok((task, wish, Resumed { message }))
    }
}
