//! Dead letters on the admin socket, and as JSON: field names are stable.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::LINE_BYTES;
use super::refused::Refused;
use crate::connectors::{JsonMessage, write_bytes};
use crate::coordinator::{
    Found, Handle, JobEnded, LetterFilter, LetterId, LetterState, LetterWrite, Letters,
    LettersError, Outcome, TypedLetter,
};
use crate::model::letter;
use crate::model::{Messages, PartitionId};

/// Letters of a page: a job of a million is listed without holding them all.
const PAGE: u64 = 1_000;

/// A group of letters: what a person calls the same error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The stage.
    pub stage: String,
    /// Its name.
    pub group: String,
    /// A word for the cause.
    pub kind: String,
    /// How many letters.
    pub count: u64,
    /// When the first became one, milliseconds since the Unix epoch.
    pub first: i64,
    /// When the last became one.
    pub last: i64,
    /// The SHA-256 of the component of the last.
    pub component: String,
    /// The reason of the last.
    pub reason: String,
    /// The last of them that has a backtrace, or else the last.
    pub example: String,
}

/// A letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Letter {
    /// Its place: stream, partition and offset.
    pub id: String,
    /// The stage.
    pub stage: String,
    /// The task.
    pub task: String,
    /// The stream that the message was read from.
    pub stream: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// A word for the cause.
    pub kind: String,
    /// A sentence.
    pub reason: String,
    /// The group of equal errors.
    pub group: String,
    /// How often it was tried.
    pub attempts: u64,
    /// The SHA-256 of the component.
    pub component: String,
    /// How often it was a letter before.
    pub replays: u64,
    /// What became of it.
    pub state: LetterState,
    /// When it became a letter, milliseconds since the Unix epoch.
    pub time: i64,
}

/// A letter and its message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WholeLetter {
    /// What the list shows.
    #[serde(flatten)]
    pub letter: Letter,
    /// The message's timestamp.
    pub timestamp: i64,
    /// Its key: a string, `{"base64":…}` or null.
    pub key: serde_json::Value,
    /// Its value, likewise.
    pub value: serde_json::Value,
    /// Its own headers: names and values.
    pub headers: Vec<(String, serde_json::Value)>,
    /// The guest's own detail.
    pub detail: serde_json::Value,
    /// The guest's stack.
    pub backtrace: Option<String>,
    /// The end of what the guest wrote to standard error.
    pub stderr: Option<String>,
    /// What the value lacks, if it is not whole: see `wasm-host.cut`.
    pub cut: Option<String>,
}

impl Letter {
    fn of(found: &Found<'_>) -> Letter {
        let text = |name| found.letter.text(name).unwrap_or_default().to_owned();
        let number = |name| found.letter.number(name).unwrap_or_default();
        Letter {
            id: found.id.clone().into(),
            stage: found.stage.stage.clone(),
            task: text(letter::TASK),
            stream: text(letter::STREAM),
            partition: u32::try_from(number(letter::PARTITION)).unwrap_or_default(),
            offset: number(letter::OFFSET),
            kind: text(letter::KIND),
            reason: text(letter::REASON),
            group: text(letter::GROUP),
            attempts: number(letter::ATTEMPTS),
            component: text(letter::COMPONENT),
            replays: number(letter::REPLAYS),
            state: found.state,
            time: text(letter::TIME).parse().unwrap_or_default(),
        }
    }
}

/// Bytes in the form that they have in a message.
fn bytes(bytes: Option<&[u8]>) -> serde_json::Value {
    let mut json = Vec::new();
    write_bytes(bytes, &mut json);
    serde_json::from_slice(&json).unwrap_or_default()
}

/// The groups of the letters that are meant, the largest first.
///
/// # Errors
/// A log cannot be read, or what is meant does not exist.
pub fn groups(letters: &Letters, filter: &LetterFilter) -> Result<Vec<Group>, LettersError> {
    let mut groups: BTreeMap<(String, String), (Group, bool)> = BTreeMap::new();
    letters.each(filter, &mut |found| {
        let text = |name| found.letter.text(name).unwrap_or_default();
        let name = text(letter::GROUP);
        let time = text(letter::TIME).parse().unwrap_or_default();
        let detailed = found.letter.bytes(letter::BACKTRACE).is_some();
        let key = (found.stage.stage.clone(), name.to_owned());
        let (group, has_detail) = groups.entry(key).or_insert_with(|| {
            let group = Group {
                stage: found.stage.stage.clone(),
                group: name.to_owned(),
                kind: text(letter::KIND).to_owned(),
                count: 0,
                first: time,
                last: time,
                component: String::new(),
                reason: String::new(),
                example: String::new(),
            };
            (group, false)
        });
        group.count += 1;
        group.first = group.first.min(time);
        if time >= group.last || group.example.is_empty() {
            group.last = group.last.max(time);
            set(&mut group.component, text(letter::COMPONENT));
            set(&mut group.reason, text(letter::REASON));
        }
        if detailed || !*has_detail {
            *has_detail |= detailed;
            group.example = found.id.clone().into();
        }
        ControlFlow::Continue(())
    })?;
    let mut groups: Vec<Group> = groups.into_values().map(|(group, _)| group).collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.group.cmp(&b.group)));
    Ok(groups)
}

/// Without an allocation, usually.
fn set(to: &mut String, text: &str) {
    if to != text {
        to.clear();
        to.push_str(text);
    }
}

/// A page of the letters that are meant.
///
/// # Errors
/// As of [`groups`].
pub fn page(letters: &Letters, filter: &LetterFilter) -> Result<Vec<Letter>, LettersError> {
    let mut page = Vec::new();
    let filter = LetterFilter {
        limit: Some(filter.limit.unwrap_or(PAGE).min(PAGE)),
        ..filter.clone()
    };
    letters.each(&filter, &mut |found| {
        page.push(Letter::of(&found));
        ControlFlow::Continue(())
    })?;
    Ok(page)
}

/// A letter with its message.
///
/// # Errors
/// As of [`groups`], or there is no such letter.
pub fn whole(letters: &Letters, id: &LetterId) -> Result<WholeLetter, LettersError> {
    let filter = LetterFilter {
        ids: vec![id.clone()],
        ..LetterFilter::default()
    };
    let mut whole = None;
    letters.each(&filter, &mut |found| {
        let text = |name| found.letter.text(name).map(str::to_owned);
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let headers = found.letter.own_headers();
        whole = Some(WholeLetter {
            letter: Letter::of(&found),
            timestamp: found.message.timestamp,
            key: bytes(found.message.key),
            value: bytes(found.message.value),
            headers: headers
                .map(|(header, value)| (name(header), bytes(value)))
                .collect(),
            detail: bytes(found.letter.bytes(letter::DETAIL)),
            backtrace: text(letter::BACKTRACE),
            stderr: text(letter::STDERR),
            cut: text(letter::CUT),
        });
        ControlFlow::Continue(())
    })?;
    let none = || {
        let id = String::from(id.clone());
        LettersError::Refused(format!("there is no letter {id}"))
    };
    whole.ok_or_else(none)
}

/// Lines of JSON as letters to be replayed.
///
/// # Errors
/// Which line is none, and why.
pub fn typed(lines: &[u8], now: i64) -> Result<Vec<TypedLetter>, String> {
    JsonMessage::parse_lines(lines)
        .map(|(number, parsed)| {
            let message = parsed.map_err(|error| {
                let why = crate::model::shown::chain(&error);
                format!("line {number}: {why}")
            })?;
            let place = message
                .stream
                .clone()
                .zip(message.partition)
                .zip(message.offset);
            let mut one = Messages::default();
            message.push_to(&mut one, now);
            if one.data_len() >= LINE_BYTES {
                return Err(format!(
                    "line {number}: a message of {} bytes, and one that is typed in has fewer than {LINE_BYTES}",
                    one.data_len()
                ));
            }
            Ok(TypedLetter {
                number,
                id: place.map(|((stream, partition), offset)| LetterId {
                    stream,
                    partition: PartitionId(partition),
                    offset,
                }),
                message: one,
            })
        })
        .collect()
}

/// What is asked of letters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LetterAsk {
    /// Which.
    pub filter: LetterFilter,
    /// Nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
}

pub(super) fn routes() -> Router<Handle> {
    Router::new()
        .route("/dead-letters/groups", post(show_groups))
        .route("/dead-letters/list", post(show_page))
        .route("/dead-letters/show", post(show_whole))
        .route("/dead-letters/replay", post(replay))
        .route("/dead-letters/replay-lines", post(replay_lines))
        .route("/dead-letters/drop", post(drop_letters))
}

impl From<LettersError> for Refused {
    fn from(error: LettersError) -> Refused {
        match error {
            LettersError::Refused(why) => Refused::Because(StatusCode::BAD_REQUEST, why),
            LettersError::Log(error) => error.into(),
        }
    }
}

/// Does what reads much on a thread that may be kept.
async fn slowly<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Refused> + Send + 'static,
) -> Result<Json<R>, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map(Json),
        Err(error) => {
            let why = format!("the look at the letters was broken off: {error}");
            Err(Refused::Because(StatusCode::INTERNAL_SERVER_ERROR, why))
        }
    }
}

/// Writes what is to become of letters, or counts them in a dry run. To be called where it may wait.
fn writer(
    handle: &Handle,
    dry_run: bool,
) -> impl Fn(LetterWrite) -> Result<u64, JobEnded> + Send + 'static {
    let (handle, io) = (handle.clone(), tokio::runtime::Handle::current());
    move |write| match dry_run {
        true => Ok(write.letters()),
        false => io.block_on(handle.write_letters(write)),
    }
}

async fn show_groups(
    State(handle): State<Handle>,
    Json(ask): Json<LetterAsk>,
) -> Result<Json<Vec<Group>>, Refused> {
    slowly(move || Ok(groups(handle.letters(), &ask.filter)?)).await
}

async fn show_page(
    State(handle): State<Handle>,
    Json(ask): Json<LetterAsk>,
) -> Result<Json<Vec<Letter>>, Refused> {
    slowly(move || Ok(page(handle.letters(), &ask.filter)?)).await
}

async fn show_whole(
    State(handle): State<Handle>,
    Json(id): Json<LetterId>,
) -> Result<Json<WholeLetter>, Refused> {
    slowly(move || Ok(whole(handle.letters(), &id)?)).await
}

async fn replay(
    State(handle): State<Handle>,
    Json(ask): Json<LetterAsk>,
) -> Result<Json<Outcome>, Refused> {
    let write = writer(&handle, ask.dry_run);
    slowly(move || {
        handle
            .letters()
            .replay(&ask.filter, |letters| Ok(write(letters)?))
    })
    .await
}

async fn replay_lines(
    State(handle): State<Handle>,
    axum::extract::Query(dry): axum::extract::Query<Dry>,
    body: Bytes,
) -> Result<Json<Outcome>, Refused> {
    let write = writer(&handle, dry.dry_run);
    slowly(move || {
        let refused = |why| Refused::Because(StatusCode::BAD_REQUEST, why);
        let lines = typed(&body, dry.now).map_err(refused)?;
        // Lines of no log are queued again if they are sent again.
        let unknown = |JobEnded| {
            let why = "the job ended while the letters were being queued: the outcome is unknown";
            Refused::Because(StatusCode::INTERNAL_SERVER_ERROR, why.to_owned())
        };
        let write = |letters| write(letters).map_err(unknown);
        handle.letters().replay_lines(&lines, write)
    })
    .await
}

/// What goes with lines of JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Dry {
    dry_run: bool,
    /// The timestamp of messages without one.
    now: i64,
}

async fn drop_letters(
    State(handle): State<Handle>,
    Json(ask): Json<LetterAsk>,
) -> Result<Json<Outcome>, Refused> {
    let write = writer(&handle, ask.dry_run);
    slowly(move || {
        handle
            .letters()
            .drop(&ask.filter, |letters| Ok(write(letters)?))
    })
    .await
}
