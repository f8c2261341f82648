//! Swaps that a start makes, because a component is another than the recorded one, and probations that a start goes on with.

use std::collections::{BTreeMap, BTreeSet};

use super::Swaps;
use super::probation::Watch;
use crate::checkpoint::HoldEnd;
use crate::checkpoint::catalog::Catalog;
use crate::coordinator::tasks::{Made, TaskFactory};
use crate::coordinator::{JobOptions, StageOptions};
use crate::model::{Epoch, StreamId, TimestampMs};
use crate::records::{
    self, Code, Encoded, HoldPhase, HoldRecord, Outcomes, Probation, StageRecord, StreamRecord,
    SwapCounts, SwapMode, SwapRecord, SwapState, TaskRecord,
};
use crate::state::{Db, StateError};

/// Adds to what is to be recorded which stages begin with other code, and ends probations that have no way back any more. Returns the
/// swaps as they are then.
///
/// # Errors
/// The database cannot be read.
pub(in crate::coordinator) fn swaps(
    options: &JobOptions,
    db: &Db,
    catalog: &mut Catalog,
) -> Result<BTreeMap<u64, SwapRecord>, StateError> {
    let mut swaps: BTreeMap<u64, SwapRecord> = records::list(db)?.into_iter().collect();
    for stage in &options.stages {
        let known: Option<StageRecord> = records::get(db, &stage.name)?;
        // A stage that is new has nothing to go back to.
        let Some(known) = known else { continue };
        let record = catalog.stages[&stage.name].clone();
        let is_changed = known.code.component != record.code.component;
        let watched = known
            .swap
            .and_then(|id| Some((id, swaps.get(&id)?.clone())));
        match (is_changed, watched) {
            (true, watched) => {
                if let Some((id, swap)) = watched {
                    let reason = "the job was started with other code".to_owned();
                    let swap = ended(swap, SwapState::Dropped, reason);
                    catalog.record_with_checkpoint(&id, &swap);
                    swaps.insert(id, swap);
                }
                let id = swaps.last_key_value().map_or(1, |(last, _)| last + 1);
                let before = outcomes(db, &known)?;
                let swap = begun(stage, &record, known.code, before, options.clock.now_ms());
                if swap.probation.is_some() {
                    catalog.watch(&stage.name, Some(id));
                }
                catalog.record_with_checkpoint(&id, &swap);
                if let Some(below) = SwapRecord::forgotten_below(id) {
                    catalog.forget_below::<SwapRecord>(&below);
                    swaps = swaps.split_off(&below);
                }
                swaps.insert(id, swap);
            }
            (false, Some((id, swap))) if stage.successor.is_some() => {
                let reason = "the job was started with other code".to_owned();
                let swap = ended(swap, SwapState::Dropped, reason);
                catalog.watch(&stage.name, None);
                catalog.record(&id, &swap);
                swaps.insert(id, swap);
            }
            (false, Some((id, swap))) if stage.before.is_none() => {
                let reason = "the code before could not be loaded any more".to_owned();
                let swap = ended(swap, SwapState::Done, reason);
                catalog.watch(&stage.name, None);
                catalog.record(&id, &swap);
                swaps.insert(id, swap);
            }
            (false, _) => {}
        }
    }
    Ok(swaps)
}

/// What a start goes on with of what stages hold.
#[derive(Default)]
pub(in crate::coordinator) struct Ends {
    /// What is taken back before a task runs.
    pub(in crate::coordinator) taken_back: Vec<HoldEnd>,
    /// What goes out while the job runs, and the swaps that end with it.
    pub(in crate::coordinator) released: Vec<(u64, HoldEnd)>,
}

/// Why the job cannot go on with what a stage holds, if it cannot.
///
/// # Errors
/// The database cannot be read.
pub(in crate::coordinator) fn misfit_of_holds(
    options: &JobOptions,
    db: &Db,
    catalog: &Catalog,
) -> Result<Option<String>, StateError> {
    for stage in options
        .stages
        .iter()
        .filter(|stage| stage.successor.is_some())
    {
        let mut inputs = stage.inputs.iter().map(|input| &input.stream);
        if let Some(stream) = inputs.find(|input| !options.streams[*input].is_rewindable()) {
            return Ok(Some(format!(
                "the state of stage {:?} cannot be migrated, because stream {stream:?} cannot be read again, which a way back needs",
                stage.name
            )));
        }
    }
    for (id, hold) in records::list::<HoldRecord>(db)? {
        let mut stages = options.stages.iter();
        let stage = stages.find(|stage| catalog.stages[&stage.name].id == id);
        let Some(stage) = stage.filter(|_| !hold.is_between()) else {
            continue;
        };
        let name = &stage.name;
        let writes = |(name, record): (&String, &StreamRecord)| {
            let options = options.streams.get(name);
            let is_written = options.is_some_and(|stream| stream.writes.is_some());
            is_written.then_some(record.id)
        };
        let written: BTreeSet<StreamId> = catalog.streams.iter().filter_map(writes).collect();
        let mut inputs = stage.inputs.iter().map(|input| &input.stream);
        let may_be_gone = inputs.find(|input| options.streams[*input].why_not_again().is_some());
        if !hold.streams.is_subset(&written) {
            return Ok(Some(format!(
                "stage {name:?} holds output for a stream that the job file does not write any more: put that back, and decide with `wasm-host swap {name} --promote` or `--rollback`"
            )));
        } else if hold.is_undecided() && stage.before.is_none() {
            return Ok(Some(format!(
                "stage {name:?} holds its output, and the code that it would go back to cannot be loaded: put it back into the folder `code`"
            )));
        } else if let Some(stream) = may_be_gone.filter(|_| hold.is_undecided()) {
            return Ok(Some(format!(
                "stage {name:?} holds its output, and stream {stream:?} may not be there any more if it goes back: put the job file back, and decide with `wasm-host swap {name} --promote` or `--rollback`"
            )));
        }
    }
    Ok(None)
}

/// Finds the holds that have come to their ends. `swaps`: what [`swaps`] has returned.
///
/// # Errors
/// The database cannot be read.
pub(in crate::coordinator) fn ends(
    db: &Db,
    catalog: &mut Catalog,
    swaps: &mut BTreeMap<u64, SwapRecord>,
) -> Result<Ends, StateError> {
    let mut ends = Ends::default();
    for (id, hold) in records::list::<HoldRecord>(db)? {
        let stage = catalog.stages.iter().find(|(_, record)| record.id == id);
        let Some(stage) = stage.map(|(name, _)| name.clone()) else {
            continue;
        };
        let is_of_it = |swap: &SwapRecord| match hold.phase {
            HoldPhase::Migrating => swap.state == SwapState::Migrating,
            HoldPhase::RollingBack => swap.state == SwapState::RollingBack,
            HoldPhase::Holding | HoldPhase::Releasing => swap.mode == SwapMode::HoldOutput,
        };
        let mut newest_first = swaps.iter_mut().rev();
        let swap = newest_first.find(|(_, swap)| swap.stage == stage && is_of_it(swap));
        match (hold.phase, swap) {
            // Its probation goes on.
            (HoldPhase::Holding, _) | (HoldPhase::Releasing, None) => {}
            (HoldPhase::Releasing, Some((swap_id, swap))) => {
                swap.state = SwapState::Releasing;
                catalog.record(swap_id, swap);
                let last = ended(swap.clone(), SwapState::Done, swap.reason.clone());
                let last = vec![Encoded::new(swap_id, &last)];
                let end = HoldEnd::new(id, Vec::new(), last);
                ends.released.push((*swap_id, end));
            }
            (phase @ (HoldPhase::RollingBack | HoldPhase::Migrating), swap) => {
                let last = swap.map(|(swap_id, swap)| {
                    if phase == HoldPhase::Migrating {
                        let reason = "the host ended before the state was migrated";
                        reason.clone_into(&mut swap.reason);
                    }
                    swap.state = SwapState::RolledBack;
                    Encoded::new(swap_id, swap)
                });
                let last = last.into_iter().collect();
                ends.taken_back.push(HoldEnd::new(id, Vec::new(), last));
            }
        }
    }
    Ok(ends)
}

fn ended(swap: SwapRecord, state: SwapState, reason: String) -> SwapRecord {
    SwapRecord {
        state,
        reason,
        ..swap
    }
}

/// A stage begins with other code.
fn begun(
    stage: &StageOptions,
    record: &StageRecord,
    from: Code,
    before: Outcomes,
    now: TimestampMs,
) -> SwapRecord {
    let length = stage.swap.probation.filter(|_| stage.before.is_some());
    SwapRecord {
        stage: stage.name.clone(),
        from,
        to: record.code.clone(),
        mode: SwapMode::Code,
        time: now,
        epoch: Epoch(0),
        state: match length {
            Some(_) => SwapState::Probation,
            None => SwapState::Done,
        },
        reason: String::new(),
        counts: SwapCounts::default(),
        probation: length.map(|length| Probation {
            slowdown_percent: stage.swap.slowdown_percent,
            ..Probation::new(length, before)
        }),
    }
}

/// How many of the last messages had failed under the code before.
fn outcomes(db: &Db, stage: &StageRecord) -> Result<Outcomes, StateError> {
    let tasks = records::list::<TaskRecord>(db)?.into_iter();
    let of_stage = tasks.filter(|(task, _)| task.stage == stage.id);
    let mut outcomes = Outcomes::default();
    of_stage.for_each(|(_, task)| outcomes.add(&task.failing));
    Ok(outcomes)
}

/// The new code that is watched. `made`: all tasks, none of which has processed anything yet, so that all of it counts.
pub(in crate::coordinator) fn watches(
    factory: &TaskFactory,
    swaps: &Swaps,
    made: &[Made],
) -> BTreeMap<usize, Watch> {
    let mut watches = BTreeMap::new();
    for (at, now) in factory.stages().enumerate() {
        let (Some(id), Some(before)) = (now.record.swap, factory.way_back(at)) else {
            continue;
        };
        let Some(swap) = swaps.get(id) else { continue };
        // A way back that was decided and not made is decided again.
        let state = SwapState::of_watched(swap.mode);
        let swap = ended(swap, state, String::new());
        let tasks = made.iter().map(|made| &made.entry);
        let of_stage = tasks.filter(|task| task.spec.stage == at);
        let watch = Watch::new(id, swap, before, None, of_stage);
        watches.insert(at, watch);
    }
    watches
}
