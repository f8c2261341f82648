//! The phases of each task, and what it has in the open epoch and in the one that is being committed.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::scheduler::TaskIndex;

/// Where a task is in its life.
///
/// ```text
///            ┌───────────────────────────────────────────────┐
///            v                                               │
///        Restoring ──> Running ──> Ended ──┐                 │
///            │ └─> NotMade│ ├────> Failed ─┤                 │
///            │            │ └<───> Held ───┤                 │
///            │            └────────────────┴──> Stopping ──> Leaving
///            v                                               │
///        BackingOff <────────────────────────────────────────┤
///        Suspended, Retired <────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is being made from what is committed of it.
    Restoring,
    /// It processes what it is given.
    Running,
    /// Its inputs have ended.
    Ended,
    /// It failed, and processes nothing any more.
    Failed,
    /// It processes nothing until it is resumed, and the others go on.
    Held,
    /// It could not be made, and is away.
    NotMade,
    /// It was asked to stop, or it has, and its last changes are not committed yet.
    Stopping(Then),
    /// All it did is committed, and it is asked to leave the scheduler.
    Leaving(Then),
    /// It is away, and is made again at this time.
    BackingOff(Instant),
    /// It is away until it is wanted again.
    Suspended,
    /// It is away, and the job goes on without it.
    Retired,
}

/// What follows when a task has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// [`Phase::Suspended`].
    Suspend,
    /// The same, and what it has in the open epoch is dropped.
    Abandon,
    /// [`Phase::Retired`].
    Retire,
    /// It is made again, at this time or later.
    Restart(Instant),
}

impl Phase {
    /// Whether a task may go from this phase to another.
    pub fn may_become(self, next: Phase) -> bool {
        use Phase::{
            BackingOff, Ended, Failed, Held, Leaving, NotMade, Restoring, Retired, Running,
            Stopping, Suspended,
        };
        match (self, next) {
            (Restoring, Running | NotMade | Suspended | Retired)
            | (Running, Ended | Failed | Held | Stopping(_))
            | (Held, Running)
            | (Ended | Failed | Held, Stopping(_))
            | (BackingOff(_) | Suspended | Retired | NotMade, Restoring)
            | (BackingOff(_) | Suspended, Retired)
            | (BackingOff(_), Suspended) => true,
            (Stopping(then), Leaving(also)) => then == also,
            (Stopping(then), Stopping(Then::Abandon)) | (Leaving(then), Leaving(Then::Abandon)) => {
                then != Then::Retire
            }
            (Leaving(then), Suspended) => matches!(then, Then::Suspend | Then::Abandon),
            (Leaving(then), Retired) => then == Then::Retire,
            (Leaving(then), BackingOff(until)) => then == Then::Restart(until),
            _ => false,
        }
    }

    /// Whether the task processes nothing any more, and is not waited for.
    fn is_over(self) -> bool {
        matches!(
            self,
            Phase::Ended | Phase::Failed | Phase::NotMade | Phase::Retired
        )
    }

    /// Whether the task is in the scheduler.
    pub fn is_here(self) -> bool {
        matches!(
            self,
            Phase::Running
                | Phase::Ended
                | Phase::Failed
                | Phase::Held
                | Phase::Stopping(_)
                | Phase::Leaving(_)
        )
    }
}

/// A task as the machine sees it.
#[derive(Debug, Clone, Copy)]
struct Standing {
    phase: Phase,
    /// It was asked to stop and has.
    has_stopped: bool,
}

/// All tasks of the job. What every event asks is counted, so that its cost does not grow with their number.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    standings: Vec<Standing>,
    /// How many process nothing any more, retired ones included.
    over: usize,
    retired: usize,
    /// Those that are made again, by the time at which they are.
    backing_off: BTreeSet<(Instant, TaskIndex)>,
    /// Those with changes in the open epoch.
    pub(super) changed: BTreeSet<TaskIndex>,
    /// Those in the epoch that is sealed or being committed.
    pub(super) in_flight: BTreeSet<TaskIndex>,
}

impl Tasks {
    pub(super) fn new(tasks: usize) -> Tasks {
        let standing = Standing {
            phase: Phase::Running,
            has_stopped: false,
        };
        Tasks {
            standings: vec![standing; tasks],
            ..Tasks::default()
        }
    }

    pub(super) fn phase(&self, task: TaskIndex) -> Phase {
        self.standings[task.0].phase
    }

    /// # Panics
    /// The phases do not follow each other.
    pub(super) fn set(&mut self, task: TaskIndex, next: Phase) {
        let standing = &mut self.standings[task.0];
        assert!(
            standing.phase.may_become(next),
            "task {task:?} is {:?} and cannot become {next:?}",
            standing.phase
        );
        let before = std::mem::replace(&mut standing.phase, next);
        standing.has_stopped = false;
        self.over -= usize::from(before.is_over());
        self.over += usize::from(next.is_over());
        self.retired -= usize::from(before == Phase::Retired);
        self.retired += usize::from(next == Phase::Retired);
        if let Phase::BackingOff(until) = before {
            self.backing_off.remove(&(until, task));
        }
        if let Phase::BackingOff(until) = next {
            self.backing_off.insert((until, task));
        }
    }

    /// A task that is on its way out drops what it has in the open epoch, and stays away.
    pub(super) fn redirect(&mut self, task: TaskIndex) {
        let Standing { phase, has_stopped } = self.standings[task.0];
        self.set(
            task,
            match phase {
                Phase::Leaving(_) => Phase::Leaving(Then::Abandon),
                _ => Phase::Stopping(Then::Abandon),
            },
        );
        self.standings[task.0].has_stopped = has_stopped;
    }

    /// Whether a barrier can have a task that other code takes over in. One that is away, or leaves, is made again of that code.
    pub(super) fn can_be_cut(&self, task: TaskIndex) -> bool {
        let phase = self.phase(task);
        phase.is_here() && !matches!(phase, Phase::Leaving(_))
    }

    /// A task that was asked to stop has.
    pub(super) fn note_stopped(&mut self, task: TaskIndex) {
        self.standings[task.0].has_stopped = true;
    }

    /// What follows for a task that has stopped, once nothing of it is uncommitted.
    pub(super) fn settled(&self, task: TaskIndex) -> Option<Then> {
        let standing = &self.standings[task.0];
        match standing.phase {
            Phase::Stopping(then)
                if standing.has_stopped
                    && (then == Then::Abandon || !self.changed.contains(&task))
                    && !self.in_flight.contains(&task) =>
            {
                Some(then)
            }
            _ => None,
        }
    }

    /// Whether a task has stopped and has changes that no barrier has asked for.
    pub(super) fn wants_checkpoint(&self, task: TaskIndex) -> bool {
        let standing = &self.standings[task.0];
        standing.has_stopped && self.changed.contains(&task)
    }

    /// Whether no task processes anything any more, or will.
    pub(super) fn are_over(&self) -> bool {
        self.over == self.standings.len() && self.retired < self.over
    }

    /// When the next task is to be made again.
    pub(super) fn next_restart(&self) -> Option<Instant> {
        self.backing_off.first().map(|(until, _)| *until)
    }

    /// A task that is to be made again by now.
    pub(super) fn due(&self, now: Instant) -> Option<TaskIndex> {
        let (until, task) = self.backing_off.first()?;
        (*until <= now).then_some(*task)
    }
}
