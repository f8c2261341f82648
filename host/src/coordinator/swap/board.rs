//! Where the swaps of a job are, for those who ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::coordinator::shadow::ShadowReport;
use crate::records::{SwapRecord, SwapState};
use crate::task::TaskFigures;

/// How many shadows are remembered with what they have found.
const SHADOWS: usize = 10;

/// The swaps of a job: the last ones that are recorded, and those of this process.
#[derive(Clone)]
pub struct Swaps(Arc<Board>);

struct Board {
    /// By number.
    swaps: Mutex<BTreeMap<u64, SwapRecord>>,
    /// The figures of the tasks that were cut last, and the swap that did.
    cut: Mutex<(u64, Vec<Arc<TaskFigures>>)>,
    /// What the shadows of this process have found, by number.
    shadows: Mutex<BTreeMap<u64, Arc<Mutex<ShadowReport>>>>,
    /// How many of this process came to which end, by stage and end.
    outcomes: Mutex<BTreeMap<(String, &'static str), u64>>,
    /// Changes whenever one of them does.
    changes: watch::Sender<u64>,
    /// The job has ended, so none of them changes any more.
    has_ended: AtomicBool,
}

impl Swaps {
    /// Those that are recorded.
    pub fn new(recorded: impl IntoIterator<Item = (u64, SwapRecord)>) -> Swaps {
        Swaps(Arc::new(Board {
            swaps: Mutex::new(recorded.into_iter().collect()),
            cut: Mutex::default(),
            shadows: Mutex::default(),
            outcomes: Mutex::default(),
            changes: watch::channel(0).0,
            has_ended: AtomicBool::new(false),
        }))
    }

    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<(u64, SwapRecord)> {
        let (cut, pause_us) = self.pause();
        let mut swaps = self.0.swaps.lock().clone();
        if let Some(swap) = swaps.get_mut(&cut) {
            swap.counts.pause_us = pause_us;
        }
        swaps.into_iter().collect()
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<SwapRecord> {
        let (cut, pause_us) = self.pause();
        let mut swap = self.0.swaps.lock().get(&id).cloned()?;
        if id == cut {
            swap.counts.pause_us = pause_us;
        }
        Some(swap)
    }

    /// The swap that was cut last in this process, and the longest time that a task was away for it, microseconds.
    fn pause(&self) -> (u64, u64) {
        let cut = self.0.cut.lock();
        let pauses = cut.1.iter().map(|task| task.pause_at_swap_us());
        (cut.0, pauses.max().unwrap_or(0))
    }

    /// How many of this process came to which end, by stage and end.
    pub fn outcomes(&self) -> BTreeMap<(String, &'static str), u64> {
        self.0.outcomes.lock().clone()
    }

    /// What a shadow has found so far.
    pub fn shadow(&self, id: u64) -> Option<ShadowReport> {
        let report = self.0.shadows.lock().get(&id).cloned()?;
        let report = report.lock().clone();
        Some(report)
    }

    /// What the shadows of this process have found so far, by number.
    pub fn shadows(&self) -> BTreeMap<u64, ShadowReport> {
        let shadows = self.0.shadows.lock().clone();
        let found = |(id, report): (u64, Arc<Mutex<ShadowReport>>)| (id, report.lock().clone());
        shadows.into_iter().map(found).collect()
    }

    /// A shadow finds things from now on.
    pub(super) fn note_shadow(&self, id: u64, report: Arc<Mutex<ShadowReport>>) {
        let mut shadows = self.0.shadows.lock();
        shadows.insert(id, report);
        while shadows.len() > SHADOWS {
            shadows.pop_first();
        }
    }

    /// These tasks are cut.
    pub(super) fn note_cut(&self, id: u64, tasks: Vec<Arc<TaskFigures>>) {
        *self.0.cut.lock() = (id, tasks);
    }

    /// Waits until one of them is in a state that is waited for, for so long at most. Returns it as it is then.
    pub async fn wait(
        &self,
        id: u64,
        most: Duration,
        is_waited_for: impl Fn(SwapState) -> bool,
    ) -> Option<SwapRecord> {
        let mut changes = self.0.changes.subscribe();
        let waiting = async {
            loop {
                match self.get(id) {
                    Some(swap) if !is_waited_for(swap.state) && !self.have_ended() => {}
                    _ => return,
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(most, waiting).await;
        self.get(id)
    }

    /// The job has ended: whoever waits is told what is known.
    pub(in crate::coordinator) fn end(&self) {
        self.0.has_ended.store(true, Ordering::Release);
        self.note_change();
    }

    fn have_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }

    /// A new one. Returns its number.
    pub(super) fn begin(&self, swap: SwapRecord) -> u64 {
        let mut swaps = self.0.swaps.lock();
        let id = swaps.last_key_value().map_or(1, |(last, _)| last + 1);
        swaps.insert(id, swap);
        while swaps.len() as u64 > SwapRecord::HISTORY {
            let mut over = swaps.iter().filter(|(_, swap)| swap.state.is_over());
            let Some(oldest) = over.next().map(|(id, _)| *id) else {
                break;
            };
            swaps.remove(&oldest);
        }
        drop(swaps);
        self.note_change();
        id
    }

    /// The candidate of one has come so far. Whether that matters to anybody: it may have been given up.
    pub(super) fn come_to(&self, id: u64, change: impl FnOnce(&mut SwapRecord)) -> bool {
        let mut matters = false;
        self.edit(id, |swap| {
            matters = !swap.state.is_over();
            if matters {
                change(swap);
            }
        });
        matters
    }

    /// Changes one, and returns it.
    ///
    /// # Panics
    /// There is none of that number.
    pub(super) fn change(&self, id: u64, change: impl FnOnce(&mut SwapRecord)) -> SwapRecord {
        match self.edit(id, change) {
            Some(swap) => swap,
            None => panic!("swap {id} is not known"),
        }
    }

    fn edit(&self, id: u64, edit: impl FnOnce(&mut SwapRecord)) -> Option<SwapRecord> {
        let mut swaps = self.0.swaps.lock();
        let swap = swaps.get_mut(&id)?;
        let was_over = swap.state.is_over();
        edit(swap);
        let swap = swap.clone();
        drop(swaps);
        if swap.state.is_over() && !was_over {
            let outcome = (swap.stage.clone(), swap.state.name());
            *self.0.outcomes.lock().entry(outcome).or_default() += 1;
        }
        self.note_change();
        Some(swap)
    }

    fn note_change(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }
}
