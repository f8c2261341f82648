use super::*;

fn core(now: Instant) -> Core {
    let options = CoreOptions {
        cadence: CadenceOptions {
            enabled: true,
            interval: Duration::from_secs(1),
            bytes_max: 1000,
            min_pause: Duration::ZERO,
        },
        tolerate_failures: 3,
        timeout: Duration::from_secs(600),
        drain_timeout: Duration::from_secs(30),
        tasks: 2,
    };
    Core::new(options, Epoch(7), false, now)
}

fn after(now: Instant, ms: u64) -> Instant {
    now + Duration::from_millis(ms)
}

#[test]
fn an_epoch_from_change_to_delivery() {
    let t0 = Instant::now();
    let mut core = core(t0);
    assert_eq!(core.step(&Event::Changed, t0), []);
    assert_eq!(core.wake_at(t0), Some(after(t0, 1000)));
    let t1 = after(t0, 1000);
    assert_eq!(
        core.step(&Event::Tick, t1),
        [Command::SetBarrier(Epoch(8), Trigger::Interval)]
    );
    assert_eq!(core.barrier_set(2, t1), []);
    assert_eq!(core.step(&Event::Sealed(Epoch(8), true), t1), []);
    assert_eq!(
        core.step(&Event::Sealed(Epoch(8), false), t1),
        [Command::Commit(Epoch(8))]
    );
    core.step(&Event::Changed, t1);
    let t3 = after(t0, 3000);
    assert_eq!(
        core.step(&Event::Tick, t3),
        [],
        "one epoch is committed at a time"
    );
    assert_eq!(core.step(&Event::Committed(Epoch(8)), t3), []);
    let commands = core.step(&Event::Delivered(Epoch(8), false), t3);
    assert_eq!(
        commands,
        [
            Command::Answer(Epoch(8)),
            Command::SetBarrier(Epoch(9), Trigger::Interval)
        ]
    );
}

#[test]
fn a_write_that_does_not_end_ends_the_job_and_a_process_that_stood_still_does_not() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    let mut now = after(t0, 1000);
    core.step(&Event::Tick, now);
    core.barrier_set(1, now);
    let commands = core.step(&Event::Sealed(Epoch(8), true), now);
    assert_eq!(commands, [Command::Commit(Epoch(8))]);
    // An hour in which nothing ran.
    now = after(now, 3_600_000);
    assert_eq!(core.step(&Event::Tick, now), []);
    // 10 s and twice `timeout` in which the write did not end.
    for second in 0..1210 {
        assert_eq!(core.wake_at(now), Some(after(now, 1000)));
        now = after(now, 1000);
        let commands = core.step(&Event::Tick, now);
        assert_eq!(commands.is_empty(), second < 1207, "{second}");
        if !commands.is_empty() {
            assert_eq!(commands, [Command::Exit(Ending::Host)]);
            return;
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn nothing_changed_is_not_written() {
    let t0 = Instant::now();
    let mut core = core(t0);
    let commands = core.step(&Event::Wanted(Trigger::Operator), t0);
    assert_eq!(commands, [Command::SetBarrier(Epoch(8), Trigger::Operator)]);
    assert_eq!(core.barrier_set(0, t0), [Command::Answer(Epoch(7))]);
}

#[test]
fn the_end_of_all_inputs_is_one_more_checkpoint_and_one_for_its_delivery() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    assert_eq!(core.step(&Event::Ended(TaskIndex(0)), t0), []);
    let commands = core.step(&Event::Ended(TaskIndex(1)), t0);
    assert_eq!(
        commands,
        [
            Command::Drain,
            Command::SetBarrier(Epoch(8), Trigger::EndOfInput)
        ]
    );
    core.barrier_set(1, t0);
    assert_eq!(
        core.step(&Event::Sealed(Epoch(8), true), t0),
        [Command::Commit(Epoch(8))]
    );
    core.step(&Event::Committed(Epoch(8)), t0);
    assert_eq!(
        core.step(&Event::Delivered(Epoch(8), true), t0),
        [Command::Answer(Epoch(8))]
    );
    let commands = core.step(&Event::Quiet, t0);
    assert_eq!(commands, [Command::SetBarrier(Epoch(9), Trigger::Drain)]);
    assert_eq!(core.barrier_set(0, t0), [Command::Commit(Epoch(9))]);
    core.step(&Event::Committed(Epoch(9)), t0);
    let commands = core.step(&Event::Delivered(Epoch(9), false), t0);
    assert_eq!(
        commands,
        [Command::Answer(Epoch(9)), Command::Exit(Ending::Finished)]
    );
}

#[test]
fn a_failed_task_ends_the_job_after_the_others_drained() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    let commands = core.step(&Event::Failed(TaskIndex(1), false), t0);
    assert_eq!(
        commands,
        [
            Command::Drain,
            Command::SetBarrier(Epoch(8), Trigger::Drain)
        ]
    );
    core.barrier_set(2, t0);
    core.step(&Event::Sealed(Epoch(8), true), t0);
    assert_eq!(
        core.wake_at(t0),
        Some(after(t0, 30_000)),
        "a call that runs is waited for"
    );
    assert_eq!(
        core.step(&Event::Tick, after(t0, 30_000)),
        [Command::GiveUp]
    );
    core.step(&Event::Sealed(Epoch(8), true), t0);
    core.step(&Event::Committed(Epoch(8)), t0);
    assert_eq!(core.step(&Event::Quiet, t0), []);
    let commands = core.step(&Event::Delivered(Epoch(8), false), t0);
    assert_eq!(
        commands,
        [Command::Answer(Epoch(8)), Command::Exit(Ending::Failed)]
    );
}

#[test]
fn failed_attempts_are_borne_up_to_a_bound() {
    let t0 = Instant::now();
    let mut core = core(t0);
    assert_eq!(core.step(&Event::AttemptFailed(3), t0), []);
    assert_eq!(
        core.step(&Event::AttemptFailed(4), t0),
        [Command::Exit(Ending::Host)]
    );
}

#[test]
fn a_stop_without_changes_writes_nothing() {
    let t0 = Instant::now();
    let mut core = core(t0);
    let commands = core.step(&Event::Stop, t0);
    assert_eq!(
        commands,
        [
            Command::Drain,
            Command::SetBarrier(Epoch(8), Trigger::Drain)
        ]
    );
    assert_eq!(core.barrier_set(0, t0), [Command::Answer(Epoch(7))]);
    assert_eq!(
        core.step(&Event::Quiet, t0),
        [Command::Exit(Ending::Drained)]
    );
}

#[test]
fn what_a_last_batch_asks_for_does_not_hold_up_a_drain() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    core.step(&Event::Stop, t0);
    core.barrier_set(1, t0);
    core.step(&Event::Wanted(Trigger::Guest), t0);
    core.step(&Event::Sealed(Epoch(8), true), t0);
    core.step(&Event::Quiet, t0);
    core.step(&Event::Committed(Epoch(8)), t0);
    let commands = core.step(&Event::Delivered(Epoch(8), false), t0);
    assert_eq!(
        commands,
        [Command::Answer(Epoch(8)), Command::Exit(Ending::Drained)]
    );
}

#[test]
fn a_checkpoint_that_is_asked_for_during_another_is_one_more() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    core.step(&Event::Wanted(Trigger::Operator), t0);
    core.barrier_set(1, t0);
    core.step(&Event::Sealed(Epoch(8), true), t0);
    core.step(&Event::Changed, t0);
    assert_eq!(core.step(&Event::Wanted(Trigger::Operator), t0), []);
    core.step(&Event::Committed(Epoch(8)), t0);
    let commands = core.step(&Event::Delivered(Epoch(8), false), t0);
    assert_eq!(
        commands,
        [
            Command::Answer(Epoch(8)),
            Command::SetBarrier(Epoch(9), Trigger::Operator)
        ]
    );
}

#[test]
fn a_drain_that_was_asked_for_ends_whatever_hangs() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    core.step(&Event::Stop, t0);
    // One task never seals.
    core.barrier_set(2, t0);
    core.step(&Event::Sealed(Epoch(8), true), t0);
    assert!(core.awaits_seals());
    assert_eq!(
        core.step(&Event::Tick, after(t0, 30_000)),
        [Command::GiveUp]
    );
    assert_eq!(core.wake_at(after(t0, 30_000)), Some(after(t0, 33_000)));
    assert_eq!(
        core.step(&Event::Tick, after(t0, 33_000)),
        [Command::Exit(Ending::Stuck)]
    );
}

#[test]
fn the_last_checkpoint_of_a_job_whose_inputs_ended_has_its_time() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Changed, t0);
    core.step(&Event::Ended(TaskIndex(0)), t0);
    core.step(&Event::Ended(TaskIndex(1)), t0);
    core.barrier_set(1, t0);
    core.step(&Event::Sealed(Epoch(8), true), t0);
    assert_eq!(
        core.step(&Event::Tick, after(t0, 40_000)),
        [Command::GiveUp]
    );
    assert_eq!(core.step(&Event::Tick, after(t0, 50_000)), []);
    // Unless somebody asks for the end.
    core.step(&Event::Stop, after(t0, 60_000));
    assert_eq!(
        core.step(&Event::Tick, after(t0, 93_000)),
        [Command::Exit(Ending::Stuck)]
    );
}

#[test]
fn a_failure_at_the_first_message_leaves_the_others_time_to_catch_up() {
    let t0 = Instant::now();
    let mut core = core(t0);
    assert_eq!(core.step(&Event::Failed(TaskIndex(0), true), t0), []);
    assert!(core.is_reprieved() && core.has_failed(TaskIndex(0)));
    let commands = core.step(&Event::CaughtUp, after(t0, 100));
    assert_eq!(commands[0], Command::Drain);
    core.step(&Event::Quiet, after(t0, 100));
    let ended = core.barrier_set(0, after(t0, 100));
    assert!(ended.contains(&Command::Exit(Ending::Failed)), "{ended:?}");
}

#[test]
fn others_that_never_catch_up_have_their_time_and_no_more() {
    let t0 = Instant::now();
    let mut core = core(t0);
    core.step(&Event::Failed(TaskIndex(0), true), t0);
    assert_eq!(core.wake_at(t0), Some(t0 + REPRIEVE));
    assert_eq!(core.step(&Event::Tick, t0 + REPRIEVE)[0], Command::Drain);
    // One that fails after it has worked ends the job at once, as ever.
    let mut core = self::core(t0);
    core.step(&Event::Failed(TaskIndex(0), true), t0);
    let commands = core.step(&Event::Failed(TaskIndex(1), false), t0);
    assert_eq!(commands[0], Command::Drain);
}
