//! What the machine commands, event by event.

mod walk;

use super::*;
use crate::checkpoint::decide::CadenceOptions;
use crate::scheduler::Met;

const FIRST: TaskIndex = TaskIndex(0);
const SECOND: TaskIndex = TaskIndex(1);

/// A machine, and milliseconds since it began.
struct Script {
    machine: Machine,
    t0: Instant,
}

impl Script {
    /// The same with more tasks.
    fn of(tasks: usize) -> Script {
        let Script { machine, t0 } = Script::new();
        let options = MachineOptions {
            tasks,
            ..machine.options
        };
        Script {
            machine: Machine::new(options, Epoch(7), Deliveries::Recorded, t0),
            t0,
        }
    }

    /// Two tasks, after epoch 7; a checkpoint each second, a drain of 30 s, attempts of 600 s of which three may fail.
    fn new() -> Script {
        let t0 = Instant::now();
        let options = MachineOptions {
            cadence: CadenceOptions {
                enabled: true,
                interval: Duration::from_secs(1),
                bytes_max: 1000,
                early: false,
                min_pause: Duration::ZERO,
            },
            tolerate_failures: 3,
            timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            tasks: 2,
        };
        Script {
            machine: Machine::new(options, Epoch(7), Deliveries::Recorded, t0),
            t0,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.t0 + Duration::from_millis(ms)
    }

    /// An event, and what is to be done.
    #[track_caller]
    fn on(&mut self, ms: u64, event: Event, commands: &[Command]) {
        let at = self.at(ms);
        assert_eq!(self.machine.step(&event, at), commands, "{event:?}");
    }

    #[track_caller]
    fn wakes(&self, now: u64, at: u64) {
        let wakes = self.machine.wake_at(self.at(now));
        assert_eq!(wakes, Some(self.at(at)));
    }

    #[track_caller]
    fn has_phase(&self, task: TaskIndex, phase: Phase) {
        assert_eq!(self.machine.phase(task), phase);
    }
}

fn seal(epoch: u64, trigger: Trigger, tasks: &[TaskIndex]) -> Command {
    Command::Seal(Epoch(epoch), trigger, tasks.to_vec(), Cut::None)
}

fn release(tasks: &[TaskIndex]) -> Command {
    Command::Release(tasks.to_vec())
}

fn commit(epoch: u64) -> Command {
    Command::Commit(Epoch(epoch))
}

fn answer(epoch: u64) -> Command {
    Command::Answer(Epoch(epoch))
}

fn sealed(task: TaskIndex, epoch: u64) -> Event {
    Event::Sealed(task, Epoch(epoch), Content::Some)
}

fn committed(epoch: u64) -> Event {
    Event::Committed(Epoch(epoch))
}

fn delivered(epoch: u64) -> Event {
    Event::Delivered(Epoch(epoch), Deliveries::Recorded)
}

#[test]
fn an_epoch_from_change_to_delivery() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, Event::Changed(SECOND), &[]);
    script.wakes(0, 1000);
    let both = seal(8, Trigger::Interval, &[FIRST, SECOND]);
    script.on(1000, Event::Tick, &[both]);
    script.on(1000, sealed(SECOND, 8), &[]);
    let empty = Event::Sealed(FIRST, Epoch(8), Content::None);
    script.on(1000, empty, &[commit(8)]);
    // One epoch is committed at a time.
    script.on(1000, Event::Changed(FIRST), &[]);
    script.on(3000, Event::Tick, &[]);
    script.on(3000, committed(8), &[release(&[FIRST, SECOND])]);
    let next = seal(9, Trigger::Interval, &[FIRST]);
    script.on(3000, delivered(8), &[answer(8), next]);
}

#[test]
fn a_write_that_does_not_end_ends_the_job_and_a_process_that_stood_still_does_not() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(1000, Event::Tick, &[seal(8, Trigger::Interval, &[FIRST])]);
    script.on(1000, sealed(FIRST, 8), &[commit(8)]);
    // An hour in which nothing ran.
    let mut now = 3_601_000;
    script.on(now, Event::Tick, &[]);
    // 10 s and twice `timeout` in which the write did not end, less the two looks after the hour.
    for _ in 0..1207 {
        script.wakes(now, now + 1000);
        now += 1000;
        script.on(now, Event::Tick, &[]);
    }
    script.on(now + 1000, Event::Tick, &[Command::Exit(Ending::Host)]);
}

#[test]
fn nothing_changed_is_not_written() {
    let mut script = Script::new();
    let wanted = Event::Wanted(Trigger::Operator);
    let nobody = seal(8, Trigger::Operator, &[]);
    script.on(0, wanted, &[nobody, answer(7)]);
}

#[test]
fn the_end_of_all_inputs_is_one_more_checkpoint_and_one_for_its_delivery() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, Event::Ended(FIRST), &[]);
    let last = seal(8, Trigger::EndOfInput, &[FIRST]);
    script.on(0, Event::Ended(SECOND), &[Command::Drain, last]);
    script.on(0, sealed(FIRST, 8), &[commit(8)]);
    script.on(0, committed(8), &[release(&[FIRST])]);
    let unrecorded = Event::Delivered(Epoch(8), Deliveries::Unrecorded);
    script.on(0, unrecorded, &[answer(8)]);
    let record = [seal(9, Trigger::Drain, &[]), commit(9)];
    script.on(0, Event::Quiet, &record);
    script.on(0, committed(9), &[]);
    let end = [answer(9), Command::Exit(Ending::Finished)];
    script.on(0, delivered(9), &end);
}

#[test]
fn a_failed_task_ends_the_job_after_the_others_drained() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, Event::Changed(SECOND), &[]);
    let last = seal(8, Trigger::Drain, &[FIRST, SECOND]);
    script.on(
        0,
        Event::Failed(SECOND, Met::Later),
        &[Command::Drain, last],
    );
    script.on(0, sealed(FIRST, 8), &[]);
    // A call that runs is waited for.
    script.wakes(0, 30_000);
    script.on(30_000, Event::Tick, &[Command::GiveUp]);
    script.on(30_000, sealed(SECOND, 8), &[commit(8)]);
    script.on(30_000, committed(8), &[release(&[FIRST, SECOND])]);
    script.on(30_000, Event::Quiet, &[]);
    let end = [answer(8), Command::Exit(Ending::Failed)];
    script.on(30_000, delivered(8), &end);
}

#[test]
fn an_event_costs_the_same_however_many_tasks_there_are() {
    // Were each event to look at every task, this would take minutes.
    let tasks: Vec<TaskIndex> = (0..500_000).map(TaskIndex).collect();
    let mut script = Script::of(tasks.len());
    for task in &tasks {
        script.on(0, Event::Changed(*task), &[]);
        script.wakes(0, 1000);
    }
    script.on(1000, Event::Tick, &[seal(8, Trigger::Interval, &tasks)]);
    let (last, others) = tasks.split_last().expect("tasks");
    for task in others {
        script.on(1000, sealed(*task, 8), &[]);
        script.on(1000, Event::Ended(*task), &[]);
    }
    script.on(1000, sealed(*last, 8), &[commit(8)]);
    let drain = [Command::Drain];
    script.on(1000, Event::Ended(*last), &drain);
}

#[test]
fn failed_attempts_are_tolerated_up_to_a_bound() {
    let mut script = Script::new();
    script.on(0, Event::AttemptFailed(3), &[]);
    script.on(0, Event::AttemptFailed(4), &[Command::Exit(Ending::Host)]);
}

#[test]
fn a_stop_without_changes_writes_nothing() {
    let mut script = Script::new();
    let nobody = seal(8, Trigger::Drain, &[]);
    script.on(0, Event::Stop, &[Command::Drain, nobody, answer(7)]);
    script.on(0, Event::Quiet, &[Command::Exit(Ending::Drained)]);
}

#[test]
fn what_a_last_batch_asks_for_does_not_hold_up_a_drain() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    let last = seal(8, Trigger::Drain, &[FIRST]);
    script.on(0, Event::Stop, &[Command::Drain, last]);
    script.on(0, Event::Wanted(Trigger::Guest), &[]);
    script.on(0, sealed(FIRST, 8), &[commit(8)]);
    script.on(0, Event::Quiet, &[]);
    script.on(0, committed(8), &[release(&[FIRST])]);
    let end = [answer(8), Command::Exit(Ending::Drained)];
    script.on(0, delivered(8), &end);
}

#[test]
fn a_checkpoint_that_is_asked_for_during_another_is_one_more() {
    let mut script = Script::new();
    let wanted = || Event::Wanted(Trigger::Operator);
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, wanted(), &[seal(8, Trigger::Operator, &[FIRST])]);
    script.on(0, sealed(FIRST, 8), &[commit(8)]);
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, wanted(), &[]);
    script.on(0, committed(8), &[release(&[FIRST])]);
    let next = seal(9, Trigger::Operator, &[FIRST]);
    script.on(0, delivered(8), &[answer(8), next]);
}

#[test]
fn a_drain_that_was_asked_for_ends_whatever_hangs() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, Event::Changed(SECOND), &[]);
    let last = seal(8, Trigger::Drain, &[FIRST, SECOND]);
    script.on(0, Event::Stop, &[Command::Drain, last]);
    // The other never seals.
    script.on(0, sealed(FIRST, 8), &[]);
    assert!(script.machine.awaits_seals());
    script.on(30_000, Event::Tick, &[Command::GiveUp]);
    script.wakes(30_000, 33_000);
    script.on(33_000, Event::Tick, &[Command::Exit(Ending::Stuck)]);
}

#[test]
fn the_last_checkpoint_of_a_job_whose_inputs_ended_has_its_time() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    script.on(0, Event::Ended(FIRST), &[]);
    let last = seal(8, Trigger::EndOfInput, &[FIRST]);
    script.on(0, Event::Ended(SECOND), &[Command::Drain, last]);
    script.on(0, sealed(FIRST, 8), &[commit(8)]);
    script.on(40_000, Event::Tick, &[Command::GiveUp]);
    script.on(50_000, Event::Tick, &[]);
    // Unless somebody asks for the end.
    script.on(60_000, Event::Stop, &[]);
    script.on(93_000, Event::Tick, &[Command::Exit(Ending::Stuck)]);
}

#[test]
fn a_failure_at_the_first_message_leaves_the_others_time_to_catch_up() {
    let mut script = Script::new();
    script.on(0, Event::Failed(FIRST, Met::First), &[]);
    assert!(script.machine.is_reprieved());
    script.has_phase(FIRST, Phase::Failed);
    let nobody = seal(8, Trigger::Drain, &[]);
    let drain = [Command::Drain, nobody, answer(7)];
    script.on(100, Event::CaughtUp, &drain);
    script.on(100, Event::Quiet, &[Command::Exit(Ending::Failed)]);
}

#[test]
fn others_that_never_catch_up_have_their_time_and_no_more() {
    let reprieve = 10_000;
    let nobody = || seal(8, Trigger::Drain, &[]);
    let mut script = Script::new();
    script.on(0, Event::Failed(FIRST, Met::First), &[]);
    script.wakes(0, reprieve);
    let drain = [Command::Drain, nobody(), answer(7)];
    script.on(reprieve, Event::Tick, &drain);
    // One that fails after it has worked ends the job at once.
    let mut script = Script::new();
    script.on(0, Event::Failed(FIRST, Met::First), &[]);
    script.on(0, Event::Failed(SECOND, Met::Later), &drain);
}

#[test]
fn a_task_is_committed_before_it_goes_and_comes_back_when_it_is_wanted() {
    let mut script = Script::new();
    script.on(0, Event::Changed(FIRST), &[]);
    let stop = Command::StopTask(FIRST);
    script.on(0, Event::Wish(FIRST, Wish::Suspend), &[stop]);
    // Its changes are not committed yet, and that does not wait for the interval.
    let first = seal(8, Trigger::Operator, &[FIRST]);
    script.on(10, Event::Stopped(FIRST), &[first]);
    script.on(20, sealed(FIRST, 8), &[commit(8)]);
    let leave = [release(&[FIRST]), Command::Remove(FIRST)];
    script.on(30, committed(8), &leave);
    script.on(30, delivered(8), &[answer(8)]);
    script.on(40, Event::Left(FIRST), &[]);
    script.has_phase(FIRST, Phase::Suspended);
    // The job does not end without it.
    script.on(50, Event::Ended(SECOND), &[]);
    script.on(60, Event::Wish(FIRST, Wish::Start), &[Command::Make(FIRST)]);
    script.on(70, Event::Made(FIRST), &[Command::Put(FIRST)]);
    script.has_phase(FIRST, Phase::Running);
    let last = seal(9, Trigger::EndOfInput, &[]);
    script.on(80, Event::Ended(FIRST), &[Command::Drain, last, answer(8)]);
}

#[test]
fn a_task_that_is_made_again_waits_for_its_time() {
    let mut script = Script::new();
    let later = script.at(500);
    let stop = Command::StopTask(FIRST);
    script.on(0, Event::Wish(FIRST, Wish::Restart(later)), &[stop]);
    script.on(10, Event::Stopped(FIRST), &[Command::Remove(FIRST)]);
    script.on(20, Event::Left(FIRST), &[]);
    script.has_phase(FIRST, Phase::BackingOff(later));
    script.wakes(20, 500);
    script.on(499, Event::Tick, &[]);
    script.on(500, Event::Tick, &[Command::Make(FIRST)]);
    // A drain that begins meanwhile does without it.
    let nobody = seal(8, Trigger::Drain, &[]);
    script.on(510, Event::Stop, &[Command::Drain, nobody, answer(7)]);
    script.on(520, Event::Made(FIRST), &[Command::Discard(FIRST)]);
    script.on(530, Event::Quiet, &[Command::Exit(Ending::Drained)]);
}

#[test]
fn the_job_ends_without_a_retired_task_and_not_with_nothing_but_such() {
    let mut script = Script::new();
    let stop = |task| Command::StopTask(task);
    script.on(0, Event::Wish(FIRST, Wish::Retire), &[stop(FIRST)]);
    script.on(0, Event::Stopped(FIRST), &[Command::Remove(FIRST)]);
    script.on(0, Event::Left(FIRST), &[]);
    script.has_phase(FIRST, Phase::Retired);
    script.on(0, Event::Wish(SECOND, Wish::Retire), &[stop(SECOND)]);
    script.on(0, Event::Stopped(SECOND), &[Command::Remove(SECOND)]);
    script.on(0, Event::Left(SECOND), &[]);
    script.on(0, Event::Wish(FIRST, Wish::Start), &[Command::Make(FIRST)]);
    script.on(0, Event::Made(FIRST), &[Command::Put(FIRST)]);
    let last = seal(8, Trigger::EndOfInput, &[]);
    script.on(0, Event::Ended(FIRST), &[Command::Drain, last, answer(7)]);
}

#[test]
fn a_failed_task_that_is_made_again_in_time_does_not_end_the_job() {
    let mut script = Script::new();
    let now = script.t0;
    script.on(0, Event::Failed(FIRST, Met::First), &[]);
    let stop = Command::StopTask(FIRST);
    script.on(0, Event::Wish(FIRST, Wish::Restart(now)), &[stop]);
    script.on(0, Event::Stopped(FIRST), &[Command::Remove(FIRST)]);
    script.on(0, Event::Left(FIRST), &[Command::Make(FIRST)]);
    script.on(0, Event::Made(FIRST), &[Command::Put(FIRST)]);
    script.on(20_000, Event::Tick, &[]);
    assert!(!script.machine.is_reprieved());
}

#[test]
fn a_task_that_cannot_be_made_drains_the_job() {
    let mut script = Script::new();
    let now = script.t0;
    let stop = Command::StopTask(FIRST);
    script.on(0, Event::Wish(FIRST, Wish::Restart(now)), &[stop]);
    script.on(0, Event::Stopped(FIRST), &[Command::Remove(FIRST)]);
    script.on(0, Event::Left(FIRST), &[Command::Make(FIRST)]);
    let nobody = seal(8, Trigger::Drain, &[]);
    let drain = [Command::Drain, nobody, answer(7)];
    script.on(0, Event::Failed(FIRST, Met::Later), &drain);
    script.has_phase(FIRST, Phase::NotMade);
    script.on(0, Event::Quiet, &[Command::Exit(Ending::Failed)]);
}

#[test]
#[should_panic(expected = "cannot become")]
fn phases_that_do_not_follow_each_other_are_refused() {
    let mut script = Script::new();
    let t0 = script.t0;
    script.machine.step(&Event::Made(FIRST), t0);
}
