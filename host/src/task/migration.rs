//! Migration: the state that code of another version has left becomes what this code reads, in calls without messages. Until every task of
//! the stage is migrated, none of them processes anything.

use super::failure::Cause;
use super::guest::{Between, Stopped};
use super::{Life, Outcome, StepControl, Task, TaskFailure};
use crate::records::TaskRecord;

/// What a task has to do before it goes on.
#[derive(Debug)]
pub(super) struct Migration {
    /// The version of the state that it begins with.
    old: u32,
    /// Where the next call goes on.
    resume: Option<Vec<u8>>,
    /// There is nothing left to do but to wait for the others.
    is_done: bool,
}

impl Migration {
    pub(super) fn from(old: u32) -> Migration {
        Migration {
            old,
            resume: None,
            is_done: false,
        }
    }
}

impl Task {
    /// Whether its state is being migrated, or waits for that of the others.
    pub fn is_migrating(&self) -> bool {
        self.migration.is_some()
    }

    /// Whether there is something left to migrate.
    pub fn has_to_migrate(&self) -> bool {
        let waits = self.life == Life::Held || self.regressed;
        !waits && self.migration.as_ref().is_some_and(|of| !of.is_done)
    }

    /// Migrates a part of its state.
    pub(super) fn migrate(&mut self, control: &StepControl) -> Outcome {
        let Some(migration) = &mut self.migration else {
            panic!("a task migrates that has nothing to");
        };
        if migration.is_done {
            return Outcome::Idle;
        }
        // One that has never done anything has no state.
        if self.record == TaskRecord::default() {
            migration.is_done = true;
            return Outcome::Migrated;
        }
        let (old, resume) = (migration.old, migration.resume.take());
        self.guest.recycle(control, Between::Calls);
        self.begin_batch(self.record.latest);
        let called = self.guest.ensure_unopened(control).and_then(|()| {
            self.guest.call(control, |instance, context| {
                instance.migrate(context, old, resume.as_deref())
            })
        });
        match called {
            Ok(Ok(next)) => self.keep_migrated(next, control),
            Ok(Err(reason)) => self.cannot_migrate(Cause::Migrate(reason)),
            Err(Stopped::By(cause) | Stopped::Unmade(cause)) => self.cannot_migrate(cause),
            Err(Stopped::GivenUp) => {
                self.guest.context_mut().undo_batch();
                self.migration = Some(Migration {
                    resume,
                    ..Migration::from(old)
                });
                Outcome::Idle
            }
        }
    }

    /// Keeps what a call has done. `next`: where the next one goes on, if there is more.
    fn keep_migrated(&mut self, next: Option<Vec<u8>>, control: &StepControl) -> Outcome {
        self.guest.context_mut().keep_batch();
        self.change();
        let Some(migration) = &mut self.migration else {
            panic!("a task has migrated that had nothing to");
        };
        migration.is_done = next.is_none();
        migration.resume = next;
        if !migration.is_done {
            return Outcome::Worked;
        }
        // It serves for nothing else.
        self.guest.close(control);
        Outcome::Migrated
    }

    /// The code before has to come back, and until then nothing is done.
    fn cannot_migrate(&mut self, cause: Cause) -> Outcome {
        self.guest.context_mut().undo_batch();
        if let Cause::Fault(fault) = &cause {
            self.note_fault(fault);
        }
        self.regressed = true;
        self.figures.note_waiting(true);
        Outcome::Regressed(Box::new(TaskFailure {
            stage: self.options.info.stage.clone(),
            task: self.name(),
            stream: None,
            offsets: None,
            waits: true,
            blames_code: true,
            generation: self.options.generation,
            cause,
        }))
    }
}
