//! What is reported of a barrier, a commit or a drain that takes long: which task or stage it waits for, and what that does.

use std::time::{Duration, Instant};

use super::Coordinator;
use crate::scheduler::TaskIndex;

impl Coordinator {
    /// Logs which tasks have not sealed, and why, if a barrier takes longer than a checkpoint may.
    pub(super) fn log_late_barrier(&mut self) {
        let now = Instant::now();
        match &mut self.barrier {
            // Once, however many times over it is late: the process may have stood still.
            Some(barrier) if self.machine.awaits_seals() && now >= barrier.late_at => {
                barrier.late_at = now + self.timeouts.checkpoint;
            }
            _ => return,
        }
        if let Some(late) = self.waits_for(Duration::ZERO) {
            tracing::warn!("{late}");
        }
    }

    /// The tasks that a barrier has waited for longer than `over`, and what they do.
    pub(super) fn waits_for(&self, over: Duration) -> Option<String> {
        let barrier = self.barrier.as_ref();
        let barrier = barrier.filter(|_| self.machine.awaits_seals())?;
        let waited = barrier.began.elapsed();
        let awaited = self.scheduler.awaited();
        // Tasks that have sealed may not have been heard yet.
        if waited < over || awaited.is_empty() {
            return None;
        }
        let tasks = match awaited.len() {
            1 => "a task".to_owned(),
            tasks => format!("{tasks} tasks"),
        };
        Some(format!(
            "checkpoint {} has waited for {:.1} s for {tasks} to seal: {}",
            self.figures.epoch.next(),
            waited.as_secs_f64(),
            self.describe(&awaited)
        ))
    }

    /// Where the checkpoint is that is being committed, if it has been there for longer than `over`.
    pub(super) fn commit_stands(&self, over: Duration) -> Option<String> {
        let at = self.figures.progress.now()?;
        let stood = at.elapsed();
        (stood >= over).then(|| {
            format!(
                "checkpoint {} has been at its stage `{}` for {:.1} s",
                at.epoch,
                at.stage.name(),
                stood.as_secs_f64()
            )
        })
    }

    /// What tasks do, for a person: the first few of them.
    fn describe(&self, tasks: &[(TaskIndex, String)]) -> String {
        const SHOWN: usize = 5;
        let one = |(task, doing): &(TaskIndex, String)| {
            format!("task {}: {doing}", self.tasks[task.0].name)
        };
        let mut shown: Vec<String> = tasks.iter().take(SHOWN).map(one).collect();
        if tasks.len() > SHOWN {
            shown.push(format!("and {} more", tasks.len() - SHOWN));
        }
        shown.join("; ")
    }

    /// Why a drain has not ended, in words.
    pub(super) fn what_is_stuck(&self) -> String {
        let running = self.scheduler.running();
        if self.machine.awaits_seals() {
            let awaited = self.scheduler.awaited();
            format!(
                "checkpoint {} waits for tasks to seal: {}",
                self.figures.epoch.next(),
                self.describe(&awaited)
            )
        } else if let Some(stands) = self.commit_stands(Duration::ZERO) {
            stands
        } else {
            format!("tasks still run: {}", self.describe(&running))
        }
    }
}
