//! `status`.

use super::swap::sentence;
use super::task::what_helps;
use super::{Failure, Global, access, job, output};
use crate::admin::json;

pub(super) fn status(global: &Global) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let status = access::of(&job).ask(|job| job.status())?;
    if global.json {
        return output::json(&status);
    }
    let mut text = format!(
        "job {}: {}, checkpoint {}\n",
        status.job, status.state, status.epoch
    );
    if let Some(last) = &status.last_checkpoint {
        text += &format!(
            "last checkpoint: {} ({}), {} entries, {} messages, {} ms\n",
            output::time(last.time),
            last.trigger,
            last.entries,
            last.messages,
            last.duration_us / 1000
        );
    }
    // What a task is held at is said below.
    let is_said = |failure: &&String| {
        let mut held = status.tasks.iter().filter(|task| task.held.is_some());
        !held.any(|task| failure.contains(&format!(": task {} ", task.task)))
    };
    let failures = status.failures.iter().filter(is_said);
    for failure in status.waits_for.iter().chain(failures) {
        text += &format!("{failure}\n");
    }
    for cluster in &status.clusters {
        text += &standing(cluster);
    }
    for swap in status.stages.iter().filter_map(|stage| stage.swap.as_ref()) {
        text += &(sentence(swap) + "\n");
    }
    let runs = status.state != "stopped";
    for task in &status.tasks {
        if let Some(held) = &task.held {
            text += &what_helps(&task.task, held, runs);
        }
    }
    output::text(&text)?;
    table(&status)
}

/// The tasks and their inputs.
fn table(status: &json::Status) -> Result<(), Failure> {
    let head = [
        "TASK",
        "STATE",
        "STREAM",
        "POSITION",
        "LAG",
        "PROCESSED",
        "REJECTED",
        "UNDONE",
        "COMPONENT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for task in &status.tasks {
        for input in &task.inputs {
            rows.push(vec![
                task.task.clone(),
                task.state.clone(),
                input.stream.clone(),
                input.position.to_string(),
                input
                    .lag
                    .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
                task.processed.to_string(),
                task.rejected.to_string(),
                task.undone.to_string(),
                output::short(&task.component),
            ]);
        }
    }
    output::table(&rows)
}

/// What is wrong with a cluster, in lines.
fn standing(cluster: &json::Cluster) -> String {
    let (name, mut text) = (&cluster.cluster, String::new());
    let error = cluster.error.as_deref().unwrap_or_default();
    if let Some(since) = cluster.away_since {
        let since = output::time(since);
        text += &format!("cluster {name}: no broker can be reached since {since}: {error}\n");
    } else if !error.is_empty() {
        text += &format!("cluster {name}: {error}\n");
    }
    if let (Some(since), Some(why)) = (cluster.undelivered_since, &cluster.undelivered_why) {
        let since = output::time(since);
        text += &format!("cluster {name}: output waits since {since}: {why}\n");
    }
    text
}
