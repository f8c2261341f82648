//! What is asked from outside, and what the machine hears of it.

use std::time::Instant;

use tokio::sync::oneshot;

use super::commit::Work;
use super::machine::{Event, Phase, Wish};
use super::mail::Request;
use super::produce::PendingAppend;
use super::{
    Coordinator, PendingChange, Produce, ProduceError, Produced, StreamEntry, TaskChange, Writes,
    place,
};
use crate::checkpoint::decide::Trigger;
use crate::records::StreamRecord;
use crate::scheduler::TaskIndex;

impl Coordinator {
    pub(super) fn event_of_request(&mut self, request: Request) -> Event {
        match request {
            Request::Status(reply) => {
                let _ = reply.send(self.status());
                Event::Tick
            }
            Request::Checkpoint(reply) => {
                self.waiting.next_checkpoint.push(reply);
                Event::Wanted(Trigger::Operator)
            }
            Request::Produce(stream, messages, reply) => {
                self.produce(&stream, messages, reply);
                Event::Tick
            }
            Request::Swap(request, reply) => self.event_of_swap(request, reply),
            Request::Promote(stage, reply) => {
                let _ = reply.send(self.promote(&stage));
                Event::Tick
            }
            Request::DropShadow(stage, reply) => {
                let _ = reply.send(self.drop_shadow(&stage));
                Event::Tick
            }
            Request::Letters(write, reply) => {
                self.commit.give(Work::Letters(write, reply));
                Event::Tick
            }
            Request::Resume(name, how, reply) => self.resume(&name, how, reply),
            Request::Change(name, change, reply) => {
                let Some(place) = self.place_of(&name) else {
                    let _ = reply.send(Err(no_task(&name)));
                    return Event::Tick;
                };
                let (wish, goal) = match change {
                    TaskChange::Suspend => (Wish::Suspend, Phase::Suspended),
                    TaskChange::Retire => (Wish::Retire, Phase::Retired),
                    TaskChange::Start => (Wish::Start, Phase::Running),
                    TaskChange::Restart => (Wish::Restart(Instant::now()), Phase::Running),
                };
                let task = place;
                if let Some(why) = self.refuses_change(task, change) {
                    let _ = reply.send(Err(why));
                    return Event::Tick;
                }
                let change = PendingChange { task, goal, reply };
                self.waiting.changes.push(change);
                Event::Wish(task, wish)
            }
        }
    }

    fn produce(&mut self, stream: &str, messages: Vec<Produce>, reply: oneshot::Sender<Produced>) {
        let placed = match self.streams.get(stream) {
            Some(StreamEntry {
                id,
                partitions,
                writes: Some(Writes::Log(_)),
            }) if !StreamRecord::is_hidden(stream) => {
                place(messages, *partitions, &mut self.round_robin).map(|placed| (*id, placed))
            }
            Some(_) => Err(format!("stream {stream:?} is not a log stream")),
            None => Err(format!("the job does not use a stream {stream:?}")),
        };
        match placed {
            Ok((id, placed)) => {
                let pending = PendingAppend::new(placed.places, reply);
                self.commit
                    .give(Work::Append(id, placed.by_partition, pending));
            }
            Err(why) => _ = reply.send(Err(ProduceError::Refused(why))),
        }
    }

    pub(super) fn place_of(&self, task: &str) -> Option<TaskIndex> {
        let mut tasks = self.tasks.iter();
        tasks.position(|entry| entry.name == task).map(TaskIndex)
    }

    /// Why a task cannot be changed.
    fn refuses_change(&self, task: TaskIndex, change: TaskChange) -> Option<String> {
        let entry = &self.tasks[task.0];
        let once = entry.inputs.iter().find(|input| !input.rewindable);
        match once {
            _ if self.draining.is_some() => Some("the job is being stopped".into()),
            _ if self.is_leaving(task) => Some("what its stage has done is taken back".into()),
            _ if self.is_migrating(entry.spec.stage) => {
                Some("the state of its stage is being migrated".into())
            }
            Some(input) if change != TaskChange::Start => Some(format!(
                "task {} reads stream {:?}, which cannot be read again",
                entry.name, input.stream
            )),
            _ => None,
        }
    }

    /// Answers those who wanted a change of a task that is not on its way any more.
    pub(super) fn answer_changes(&mut self) {
        let (machine, tasks) = (&self.machine, &self.tasks);
        let draining = self.draining.is_some();
        for change in std::mem::take(&mut self.waiting.changes) {
            let PendingChange { task, goal, .. } = change;
            let phase = machine.phase(task);
            let is_on_its_way = match phase {
                Phase::Restoring | Phase::Stopping(_) | Phase::Leaving(_) => true,
                Phase::BackingOff(_) => goal == Phase::Running,
                _ => false,
            };
            if phase == goal {
                let _ = change.reply.send(Ok(()));
            } else if is_on_its_way && !draining {
                self.waiting.changes.push(change);
            } else {
                let name = &tasks[task.0].name;
                let why = format!("task {name} is {phase:?}, and stays so");
                let _ = change.reply.send(Err(why));
            }
        }
    }
}

pub(super) fn no_task(name: &str) -> String {
    format!("the job has no task {name:?}: `wasm-host task list` shows them")
}
