//! The routes.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::refused::Refused;
use super::{BATCH_BYTES, LINE_BYTES, json, letters, metrics, swaps};
use crate::connectors::{JsonMessage, MessageName, write_lines};
use crate::coordinator::{Deleted, Handle, JobEnded, LogError, Produce, ProduceError, Resume};
use crate::model::{Messages, PartitionId, TimestampMs, shown};

/// What a batch can have at most: it is nearly full when the longest line comes, whose JSON has six bytes (`\u0001`) for each of its
/// own, and what stands around it.
const PRODUCE_BYTES: usize = BATCH_BYTES + 6 * LINE_BYTES + (4 << 10);

pub(super) fn read_only(handle: Handle) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/metrics", get(show_metrics))
        .route("/checkpoints", get(checkpoints))
        .route("/offsets", get(offsets))
        .route("/logs", get(logs))
        .route("/stores", get(stores))
        .with_state(handle)
}

pub(super) fn all(handle: Handle) -> Router {
    let more = Router::new()
        .route("/checkpoints", post(checkpoint))
        .route("/tasks/{stage}/{partition}/resume", post(resume))
        .route("/tasks/{stage}/{partition}/skip", post(skip))
        .route("/logs/{stream}", get(consume).post(produce))
        .route("/logs/{stream}/offset", get(offset_at))
        .merge(letters::routes())
        .layer(axum::extract::DefaultBodyLimit::max(PRODUCE_BYTES))
        .merge(swaps::routes())
        .with_state(handle.clone());
    read_only(handle).merge(more)
}

async fn status(State(handle): State<Handle>) -> Result<Json<json::Status>, Refused> {
    let mut status = json::Status::from(&handle.status().await?);
    if status.last_checkpoint.is_none() {
        status.last_checkpoint = handle
            .view()
            .checkpoints()?
            .last()
            .map(json::Checkpoint::from);
    }
    Ok(Json(status))
}

async fn show_metrics(State(handle): State<Handle>) -> Result<Response, Refused> {
    let text = metrics::render(&handle.status().await?);
    Ok((
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response())
}

async fn checkpoints(State(handle): State<Handle>) -> Result<Json<Vec<json::Checkpoint>>, Refused> {
    let found = handle.view().checkpoints()?;
    Ok(Json(found.iter().map(json::Checkpoint::from).collect()))
}

async fn offsets(State(handle): State<Handle>) -> Result<Json<Vec<json::Offset>>, Refused> {
    Ok(Json(json::offsets(handle.view())?))
}

async fn logs(State(handle): State<Handle>) -> Result<Json<Vec<json::LogPartition>>, Refused> {
    Ok(Json(json::logs(handle.view())?))
}

async fn stores(State(handle): State<Handle>) -> Result<Json<Vec<json::Store>>, Refused> {
    Ok(Json(json::stores(handle.view())?))
}

async fn checkpoint(State(handle): State<Handle>) -> Result<Json<json::Taken>, Refused> {
    let epoch = handle.checkpoint().await?.0;
    Ok(Json(json::Taken { epoch }))
}

#[derive(Deserialize)]
struct Past {
    #[serde(default)]
    past: u64,
}

/// Lets a held task go on.
async fn resume(
    State(handle): State<Handle>,
    Path((stage, partition)): Path<(String, u32)>,
    Query(Past { past }): Query<Past>,
) -> Result<Json<json::Resumed>, Refused> {
    let how = Resume::Retry { unjudged: past };
    resumed(&handle, format!("{stage}/{partition}"), how)
        .await
        .map(Json)
}

/// Passes over the message that a task is held at; answers when that is committed.
async fn skip(
    State(handle): State<Handle>,
    Path((stage, partition)): Path<(String, u32)>,
) -> Result<Json<json::Resumed>, Refused> {
    let task = format!("{stage}/{partition}");
    let before = passed_over(&handle, &task).await?;
    let mut resumed = resumed(&handle, task, Resume::Skip).await?;
    // From here on it may be done, whatever becomes of the job.
    match committed(&handle, &resumed.task, before).await {
        Ok(Some(epoch)) => resumed.epoch = Some(epoch),
        Ok(None) | Err(JobEnded) => {
            let why = "the task was asked to pass over the message, and whether it did is unknown: `wasm-host task list` shows it";
            return Err(Refused::Because(
                StatusCode::INTERNAL_SERVER_ERROR,
                why.to_owned(),
            ));
        }
    }
    Ok(Json(resumed))
}

async fn resumed(handle: &Handle, task: String, how: Resume) -> Result<json::Resumed, Refused> {
    let answer = handle.resume(task.clone(), how).await?;
    let resumed = answer.map_err(|why| Refused::Because(StatusCode::CONFLICT, why))?;
    let (stream, offset) = resumed.message.unzip();
    Ok(json::Resumed {
        task,
        stream,
        offset,
        epoch: None,
    })
}

/// How many messages a task has passed over.
async fn passed_over(handle: &Handle, task: &str) -> Result<u64, JobEnded> {
    let status = handle.status().await?;
    let found = status.tasks.iter().find(|found| found.task == task);
    Ok(found.map_or(0, |task| task.counts.dead_lettered + task.counts.skipped))
}

/// The checkpoint that contains that a message more was passed over.
async fn committed(handle: &Handle, task: &str, before: u64) -> Result<Option<u64>, JobEnded> {
    const LOOKS: u32 = 2_000;
    const LOOK: Duration = Duration::from_millis(5);
    for _ in 0..LOOKS {
        if passed_over(handle, task).await? > before {
            return Ok(Some(handle.checkpoint().await?.0));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Refused {
        let status = match &error {
            LogError::NoStream(_) | LogError::NoPartition { .. } => StatusCode::NOT_FOUND,
            LogError::NotThere { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            LogError::Damaged(_) | LogError::State(_) => {
                return Refused::Unreadable(shown::chain(&error));
            }
        };
        Refused::of(status, &error)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Window {
    partition: u32,
    from: u64,
    /// Begin behind what retention has deleted.
    #[serde(default)]
    pass_over_deleted: bool,
    limit: Option<u64>,
}

/// Messages of one partition from an offset on: as many as one read gives. A header holds the offset after them.
async fn consume(
    State(handle): State<Handle>,
    Path(stream): Path<String>,
    Query(window): Query<Window>,
) -> Result<Response, Refused> {
    let partition = PartitionId(window.partition);
    let deleted = match window.pass_over_deleted {
        true => Deleted::PassedOver,
        false => Deleted::Refused,
    };
    let view = handle.view();
    let mut read = view.log_read(&stream, partition, window.from, deleted)?;
    if let Some(limit) = window.limit {
        read.messages
            .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let first = MessageName {
        stream: &stream,
        partition: window.partition,
        offset: read.first,
    };
    let mut body = Vec::new();
    write_lines(first, &read.messages, &mut body);
    let next = read.first + read.messages.len() as u64;
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl".to_owned()),
        (NEXT, next.to_string()),
    ];
    Ok((headers, Body::from(body)).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Moment {
    partition: u32,
    time: TimestampMs,
}

/// The first offset of a partition whose message is not older than a time, or its end.
async fn offset_at(
    State(handle): State<Handle>,
    Path(stream): Path<String>,
    Query(moment): Query<Moment>,
) -> Result<Json<json::OffsetAt>, Refused> {
    let partition = PartitionId(moment.partition);
    let view = handle.view();
    let offset = view.log_offset_at(&stream, partition, moment.time)?;
    Ok(Json(json::OffsetAt { offset }))
}

/// The offset after the last message of an answer.
pub(crate) const NEXT: header::HeaderName = header::HeaderName::from_static("wasm-host-next");

#[derive(Serialize)]
struct Place {
    partition: u32,
    offset: u64,
}

async fn produce(
    State(handle): State<Handle>,
    Path(stream): Path<String>,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut messages = Vec::new();
    let now = crate::model::Clock::now_ms(&crate::model::SystemClock);
    for (number, parsed) in JsonMessage::parse_lines(&body) {
        let parsed = parsed.map_err(|error| {
            let what = format!("line {number}: {}", shown::chain(&error));
            Refused::Because(StatusCode::BAD_REQUEST, what)
        })?;
        let mut message = Messages::default();
        parsed.push_to(&mut message, now);
        messages.push(Produce {
            partition: parsed.partition.map(PartitionId),
            message,
        });
    }
    let places = handle.produce(stream, messages).await?.map_err(|error| {
        let status = match &error {
            ProduceError::Refused(_) => StatusCode::BAD_REQUEST,
            ProduceError::Unknown(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refused::of(status, &error)
    })?;
    let places: Vec<Place> = places
        .into_iter()
        .map(|(partition, offset)| Place {
            partition: partition.0,
            offset,
        })
        .collect();
    Ok(Json(places).into_response())
}
