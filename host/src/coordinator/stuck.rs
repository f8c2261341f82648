//! What is said of a barrier that does not come to its end, and of a drain that does not: who is waited for, and what he does.

use std::time::Instant;

use super::Coordinator;
use crate::scheduler::TaskIndex;

impl Coordinator {
    /// A barrier that takes longer than a checkpoint may: says who has not sealed and why.
    pub(super) fn tell_late(&mut self) {
        if !self.core.awaits_seals() || Instant::now() < self.late_at {
            return;
        }
        self.late_at += self.timeout;
        let began = self.barrier.map_or(self.late_at, |(_, began, _)| began);
        let awaited = self.scheduler.awaited();
        tracing::warn!(
            "checkpoint {} has waited for {:.1} s for {} to seal: {}",
            self.epoch.next(),
            began.elapsed().as_secs_f64(),
            match awaited.len() {
                1 => "a task".to_owned(),
                tasks => format!("{tasks} tasks"),
            },
            self.describe(&awaited)
        );
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
        if self.core.awaits_seals() {
            let awaited = self.scheduler.awaited();
            format!(
                "checkpoint {} waits for tasks to seal: {}",
                self.epoch.next(),
                self.describe(&awaited)
            )
        } else if self.core.is_committing() {
            format!(
                "checkpoint {} is still being written, or its output delivered",
                self.epoch.next()
            )
        } else {
            format!("tasks still run: {}", self.describe(&running))
        }
    }
}
