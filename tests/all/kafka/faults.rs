//! Brokers that die, and a network that delays, cuts and loses.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::broker::{Broker, Record};
use super::crashes::{Run, judge, side_by_side};
use super::proxy::{Api, Fate, Proxy};
use super::{Between, FORWARDS};
use crate::harness::{Job, wait_until};

/// A broker behind a proxy, for one test at a time.
fn proxied() -> Option<(&'static Broker, MutexGuard<'static, Proxy>)> {
    static SHARED: OnceLock<Option<(Broker, Mutex<Proxy>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let broker = Broker::start()?;
        let proxy = Mutex::new(broker.proxy());
        Some((broker, proxy))
    });
    let (broker, proxy) = shared.as_ref()?;
    Some((broker, proxy.lock()))
}

/// The same job, which finds its broker behind the proxy.
fn behind_proxy(job: &Job, broker: &Broker) {
    let text = job.text("job.toml");
    job.write_job(&text.replace(&broker.address(), &broker.proxied_address()));
}

/// The clients of the job call themselves by a name.
fn call_it(job: &Job, name: &str) {
    let text = job.text("job.toml");
    let client = format!("client = {{ \"client.id\" = \"{name}\" }}\ntransaction-timeout");
    job.write_job(&text.replace("transaction-timeout", &client));
}

/// How often a step was made.
fn made(job: &Job, step: &str) -> usize {
    let steps = std::fs::read_to_string(job.path("steps.log")).unwrap_or_default();
    steps.lines().filter(|line| *line == step).count()
}

/// Whether the end of a transaction that comes late commits what is sent in the next one.
fn late_end_commits_the_next(
    (broker, proxy): (&'static Broker, &Proxy),
    trusts_ends: bool,
) -> (bool, Between) {
    let between = Between::on(broker, "late-end", 1);
    let settings = "[checkpoint]\ninterval = \"100ms\"\nearly = false";
    let mut job = between.job(settings, "", FORWARDS).with_steps();
    behind_proxy(&job, broker);
    let log = job.path("steps.log");
    job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
    job.env("STEPS_HOLD", "kafka.commit:3000");
    if trusts_ends {
        job.env("STEPS_TRUST_ENDS", "1");
    }
    let one = |value: &'static [u8]| {
        broker.write(
            &between.input,
            [Record {
                value: Some(value),
                ..Record::default()
            }],
        );
    };
    let running = job.answering();
    let applied = proxy.applied();
    proxy.expect(Api::EndTxn, 0, Fate::Held);
    one(b"first");
    wait_until("the first is delivered", || {
        made(&job, "kafka.committed") == 1
    });
    assert_eq!(proxy.applied(), applied + 1);
    one(b"second");
    wait_until("the second is sent", || made(&job, "kafka.commit") == 2);
    proxy.release();
    std::thread::sleep(Duration::from_millis(500));
    let early = broker.count_committed(&between.output, 0) > 1;
    wait_until("the second is delivered", || {
        made(&job, "kafka.committed") >= 2 || trusts_ends
    });
    job.clear_env();
    running.terminate();
    (early, between)
}

#[test]
fn an_end_of_a_transaction_that_comes_late_commits_nothing_of_the_next() {
    let Some((broker, proxy)) = proxied() else {
        return;
    };
    let (early, between) = late_end_commits_the_next((broker, &proxy), false);
    assert!(!early, "the second epoch was seen before it was committed");
    let mut out = broker.committed(&between.output, &[]);
    out.sort();
    assert_eq!(out, ["Partition:0\tfirst", "Partition:0\tsecond"]);
    // The same without a look at how often the end was sent: so much the count is worth.
    let (early, _) = late_end_commits_the_next((broker, &proxy), true);
    assert!(early, "the count makes no difference");
}

#[test]
fn requests_that_are_delayed_cut_or_not_answered_change_nothing() {
    let Some((broker, proxy)) = proxied() else {
        return;
    };
    let while_ms = Duration::from_millis(400);
    let fates = [
        Fate::Delayed(while_ms),
        Fate::CutInTheMiddle,
        Fate::AnswerSwallowed,
        Fate::AnswerDelayed(while_ms),
        Fate::Held,
    ];
    let apis = [
        (Api::Produce, 1),
        (Api::AddPartitionsToTxn, 1),
        (Api::EndTxn, 1),
        (Api::InitProducerId, 0),
        (Api::Fetch, 2),
    ];
    let of_one = |(api, after)| {
        let mut runs = Vec::new();
        for fate in fates {
            let run = Run::of(Between::on(broker, "request", 2));
            let name = &run.between.name;
            behind_proxy(&run.job, broker);
            call_it(&run.job, name);
            proxy.expect_of(Some(name), api, after, fate);
            let running = run.job.start();
            wait_until("the request was made", || proxy.applied_of(name) == 1);
            std::thread::sleep(Duration::from_millis(300));
            proxy.release_of(Some(name));
            running.wait().expect(0);
            run.finish(&format!("{api:?}: {fate:?}"));
            runs.push(run);
        }
        runs
    };
    let runs = side_by_side(apis, of_one);
    judge(&runs.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn a_broker_that_is_killed_at_any_step_of_a_transaction_loses_and_repeats_nothing() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let broker: &'static Broker = Box::leak(Box::new(broker));
    let mut runs = Vec::new();
    for step in [
        "kafka.marker",
        "kafka.begin",
        "kafka.send",
        "kafka.drain",
        "kafka.commit",
    ] {
        let mut run = Run::of(Between::on(broker, "broker-killed", 2));
        let log = run.job.path("steps.log");
        run.job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
        run.job.env("STEPS_HOLD", &format!("{step}:700"));
        let times = if step == "kafka.marker" { 1 } else { 2 };
        let running = run.job.start();
        wait_until(step, || made(&run.job, step) == times);
        broker.kill_and_restart();
        running.wait().expect(0);
        run.job.clear_env();
        run.finish(step);
        runs.push(run);
    }
    judge(&runs);
}

#[test]
fn a_job_waits_for_brokers_that_are_away_and_goes_on_by_itself() {
    let Some((broker, _proxy)) = proxied() else {
        return;
    };
    let between = Between::on(broker, "away", 1);
    let job = between.job("[checkpoint]\ninterval = \"50ms\"", "", FORWARDS);
    let mut running = job.answering();
    broker.stop();
    running.until_says("no broker can be reached");
    wait_until("it is known", || {
        let status = job.json(&["status"]);
        let cluster = &status[0]["clusters"][0];
        cluster["away-since"].is_i64()
            && cluster["error"]
                .as_str()
                .is_some_and(|error| error.contains("refused"))
    });
    let said = job.call(&["status"]).stdout;
    assert!(
        said.contains("cluster local: no broker can be reached since"),
        "{said}"
    );
    broker.restart();
    running.until_says("brokers can be reached again");
    broker.write(
        &between.input,
        [Record {
            value: Some(b"after"),
            ..Record::default()
        }],
    );
    wait_until("it is delivered", || {
        broker.count_committed(&between.output, 0) == 1
    });
    let status = job.json(&["status"]);
    assert!(
        status[0]["clusters"][0]["away-since"].is_null(),
        "{status:?}"
    );
    running.terminate().expect(0);
}
