//! Swaps: routes and their JSON. Socket only.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::refused::Refused;
use crate::coordinator::{
    Difference, Handle, MadeOf, ShadowLength, ShadowReport, SwapRequest, WantedCode,
};
use crate::model::StageId;
use crate::records::{HoldRecord, StageRecord, SwapMode, SwapRecord, SwapState};

/// The largest component that is taken.
pub(crate) const COMPONENT_BYTES: usize = 512 << 20;
/// The longest label, bytes.
const LABEL_BYTES: usize = 200;
/// The longest that an answer waits for a change.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A stage and its code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageCode {
    /// Its name.
    pub stage: String,
    /// The SHA-256 of its component.
    pub component: String,
    /// What a person calls that; may be empty.
    pub label: String,
    /// The version of its state; 0: no component has named one.
    pub state_version: u32,
    /// Its last swap.
    pub swap: Option<Swap>,
    /// What is held of what its new code has done.
    pub hold: Option<Hold>,
}

/// What is held of what new code has done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hold {
    /// Bytes of the output that waits.
    pub output_bytes: u64,
    /// Keys whose old values are kept.
    pub state_keys: u64,
    /// Bytes of these.
    pub state_bytes: u64,
}

impl From<&HoldRecord> for Hold {
    fn from(hold: &HoldRecord) -> Hold {
        Hold {
            output_bytes: hold.output_bytes,
            state_keys: hold.undo_keys,
            state_bytes: hold.undo_bytes,
        }
    }
}

/// A swap.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Swap {
    /// Its number.
    pub id: u64,
    /// The stage.
    pub stage: String,
    /// The SHA-256 of the component before.
    pub from: String,
    /// That of the component that takes over; empty as long as it is not read.
    pub to: String,
    /// What a person calls that; may be empty.
    pub label: String,
    /// `code`, `hold-output` or `shadow`.
    pub mode: String,
    /// `loading`, `compiling`, `trying`, `cut`, `migrating`, `probation`, `holding`, `releasing`, `done`, `rolling-back`,
    /// `rolled-back`, `refused` or `dropped`.
    pub state: String,
    /// Why it is in that state, if that needs saying.
    pub reason: String,
    /// The checkpoint with the last work of the old code; 0: there is none yet.
    pub epoch: u64,
    /// When it began, and from the cut on when that was, milliseconds since the Unix epoch.
    pub time: i64,
    /// Messages that the new code has processed, rejected ones included.
    pub processed: u64,
    /// Messages that failed, as the breaker counts them, and that the old code does not fail at as well.
    pub failed: u64,
    /// Messages that it failed at and the old code did not.
    pub regressions: u64,
    /// The longest time that a task was away, microseconds.
    pub pause_us: u64,
    /// What a shadow has found; only of one in this process.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// What a shadow has found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shadow {
    /// Messages that both codes have processed.
    pub compared: u64,
    /// Of these, where both did the same.
    pub equal: u64,
    /// Of these, where both failed, at once or at their deadline.
    #[serde(default)]
    pub failing: u64,
    /// Of these, where they did not do the same.
    pub differing: u64,
    /// Whether the same code, given a message twice, did something else: then differences may mean nothing.
    pub unstable: bool,
    /// The first differences, 20 at most.
    pub differences: Vec<ShadowDifference>,
}

/// A message of which both codes make something else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowDifference {
    /// The task.
    pub task: String,
    /// The stream of the message.
    pub stream: String,
    /// Its offset.
    pub offset: u64,
    /// Its key, if it has one.
    pub key: Option<String>,
    /// In what they differ: `outcome`, `output` or `state`; `batch`: only in the batch that begins with the message.
    pub kinds: Vec<String>,
    /// What the code that runs makes of it.
    pub from: ShadowMade,
    /// What the new code makes of it.
    pub to: ShadowMade,
}

/// What code makes of a message; the first 10 of each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShadowMade {
    /// `passes`, or why not.
    pub outcome: String,
    /// What it sends: stream, key and value.
    pub sent: Vec<[String; 3]>,
    /// Entries that differ afterwards: store, key and value.
    pub state: Vec<[String; 3]>,
}

impl From<&ShadowReport> for Shadow {
    fn from(report: &ShadowReport) -> Shadow {
        let made = |made: &MadeOf| ShadowMade {
            outcome: made.outcome.clone(),
            sent: made.sent.clone(),
            state: made.state.clone(),
        };
        let difference = |difference: &Difference| ShadowDifference {
            task: difference.task.clone(),
            stream: difference.stream.clone(),
            offset: difference.offset,
            key: difference.key.clone(),
            kinds: difference
                .kinds
                .iter()
                .map(|kind| (*kind).to_owned())
                .collect(),
            from: made(&difference.control),
            to: made(&difference.candidate),
        };
        Shadow {
            compared: report.compared,
            equal: report.equal(),
            failing: report.failing,
            differing: report.differing,
            unstable: report.is_unstable,
            differences: report.differences.iter().map(difference).collect(),
        }
    }
}

impl Swap {
    /// With what a shadow has found.
    #[must_use]
    pub fn with(self, report: Option<&ShadowReport>) -> Swap {
        Swap {
            shadow: report.map(Shadow::from),
            ..self
        }
    }

    /// A swap and its number.
    pub fn of(id: u64, swap: &SwapRecord) -> Swap {
        Swap {
            id,
            stage: swap.stage.clone(),
            from: swap.from.component.clone(),
            to: swap.to.component.clone(),
            label: swap.to.label.clone(),
            mode: swap.mode.name().to_owned(),
            state: swap.state.name().to_owned(),
            reason: swap.reason.clone(),
            epoch: swap.epoch.0,
            time: swap.time,
            processed: swap.counts.processed,
            failed: swap.counts.failed,
            regressions: swap.counts.regressions,
            pause_us: swap.counts.pause_us,
            shadow: None,
        }
    }

    /// Whether the new code is only tried.
    pub fn is_shadow(&self) -> bool {
        self.mode == SwapMode::Shadow.name()
    }

    /// Whether the old code works yet.
    pub fn is_before_cut(&self) -> bool {
        self.is_one_of(&[
            SwapState::Loading,
            SwapState::Compiling,
            SwapState::Trying,
            SwapState::Cut,
        ])
    }

    /// Whether nothing comes after its state.
    pub fn is_over(&self) -> bool {
        self.is_one_of(&[
            SwapState::Done,
            SwapState::RolledBack,
            SwapState::Refused,
            SwapState::Dropped,
        ])
    }

    /// Whether its state is one of these.
    pub fn is_one_of(&self, states: &[SwapState]) -> bool {
        states.iter().any(|state| state.name() == self.state)
    }
}

/// The stages with their last swaps, by name.
pub fn stages<'a>(
    stages: impl IntoIterator<Item = (&'a String, &'a StageRecord)>,
    swaps: &[(u64, SwapRecord)],
    shadows: &BTreeMap<u64, ShadowReport>,
    holds: &BTreeMap<StageId, HoldRecord>,
) -> Vec<StageCode> {
    let last_of = |name: &String| {
        let mut newest_first = swaps.iter().rev();
        newest_first.find(|(_, swap)| swap.stage == *name)
    };
    let stage = |(name, record): (&String, &StageRecord)| StageCode {
        stage: name.clone(),
        component: record.code.component.clone(),
        label: record.code.label.clone(),
        state_version: record.state_version,
        swap: last_of(name).map(|(id, swap)| Swap::of(*id, swap).with(shadows.get(id))),
        hold: holds.get(&record.id).map(Hold::from),
    };
    stages.into_iter().map(stage).collect()
}

/// How a swap is wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Wanted {
    /// What a person calls the code.
    pub label: String,
    /// Also code that was rolled back before.
    pub force: bool,
    /// Only whether it would be refused.
    pub dry_run: bool,
    /// The code before that, and none in the body.
    pub rollback: bool,
    /// The output of the new code waits until its probation is over, so that all it does can be taken back.
    pub hold_output: bool,
    /// The new code is only tried beside the code that runs: until so many messages are compared, or for so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_messages: Option<u64>,
    /// The same by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_ms: Option<u64>,
    /// How long the new code is watched: messages (`500`), milliseconds (`30000ms`), seconds (`30s`), checkpoints (`5cp`), or `none`.
    /// Default: as the job says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation: Option<String>,
    /// How many times as much processor time a message may take as before, percent; 0: any. Default: as the job says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowdown_percent: Option<u32>,
}

impl Wanted {
    /// How long the new code is only tried, if it is.
    fn shadow(&self) -> Option<ShadowLength> {
        let time = self.shadow_ms.map(Duration::from_millis);
        let messages = self.shadow_messages.map(ShadowLength::Messages);
        messages.or(time.map(ShadowLength::Time))
    }

    /// What is wrong with it, if something is.
    pub fn wrong(&self) -> Option<String> {
        let is_shadow = self.shadow().is_some();
        if is_shadow
            && (self.hold_output || self.rollback || self.dry_run || self.probation.is_some())
        {
            return Some("code that is only tried holds no output, has no probation, is no way back and needs no dry run".to_owned());
        }
        let label = &self.label;
        if label.len() > LABEL_BYTES {
            let bytes = label.len();
            Some(format!(
                "the label has {bytes} bytes, and may have {LABEL_BYTES}"
            ))
        } else if label.chars().any(char::is_control) {
            Some("the label has control characters: leave them out".to_owned())
        } else if self.rollback && self.dry_run {
            Some("a rollback cannot be tried: leave `dry-run` out".to_owned())
        } else if self.hold_output && self.probation.as_deref() == Some("none") {
            Some("output is held as long as the probation lasts: leave `hold-output` or `probation` out".to_owned())
        } else {
            None
        }
    }
}

/// How long an answer waits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waits {
    /// Seconds, `30s`.
    #[serde(default)]
    wait: Option<String>,
    /// The state that is known already. Default: the one when this is asked.
    #[serde(default)]
    state: Option<String>,
}

pub(super) fn routes() -> Router<Handle> {
    Router::new()
        .route("/stages/{stage}/swaps", get(list).post(begin))
        .layer(DefaultBodyLimit::max(COMPONENT_BYTES))
        .route("/swaps/{id}", get(show))
        .route("/stages/{stage}/promote", post(promote))
        .route("/stages/{stage}/drop", post(drop_shadow))
}

async fn list(
    State(handle): State<Handle>,
    Path(stage): Path<String>,
) -> Result<Json<Vec<Swap>>, Refused> {
    let swaps = handle.swaps().list();
    let of_stage = swaps.iter().filter(|(_, swap)| swap.stage == stage);
    let shown = of_stage.map(|(id, swap)| {
        let report = handle.swaps().shadow(*id);
        Swap::of(*id, swap).with(report.as_ref())
    });
    Ok(Json(shown.collect()))
}

/// Begins a swap to the component in the body, or to the one that the job names if there is none.
async fn begin(
    State(handle): State<Handle>,
    Path(stage): Path<String>,
    Query(wanted): Query<Wanted>,
    body: Bytes,
) -> Result<Json<Swap>, Refused> {
    let bad = |why: String| Refused::Because(StatusCode::BAD_REQUEST, why);
    if let Some(why) = wanted.wrong() {
        return Err(bad(why));
    }
    let component = match (wanted.rollback, body.is_empty()) {
        (true, true) => WantedCode::Previous,
        (true, false) => return Err(bad("a rollback takes no component".to_owned())),
        (false, true) => WantedCode::File,
        (false, false) => WantedCode::Bytes(body.into()),
    };
    let probation = wanted.probation.as_deref().map(|text| match text {
        "none" => Ok(None),
        text => text.parse().map(Some),
    });
    let probation = probation.transpose();
    let probation =
        probation.map_err(|()| bad("probation: write `500`, `30s`, `5cp` or `none`".to_owned()))?;
    let request = SwapRequest {
        shadow: wanted.shadow(),
        stage,
        component,
        probation,
        slowdown_percent: wanted.slowdown_percent,
        label: wanted.label,
        force: wanted.force,
        dry_run: wanted.dry_run,
        hold_output: wanted.hold_output,
    };
    let begun = handle.swap(request).await?;
    let id = begun.map_err(|why| Refused::Because(StatusCode::CONFLICT, why))?;
    found(&handle, id).map(Json)
}

/// New code stays, and what it has held goes out.
async fn promote(
    State(handle): State<Handle>,
    Path(stage): Path<String>,
) -> Result<Json<Swap>, Refused> {
    let promoted = handle.promote(stage).await?;
    let id = promoted.map_err(|why| Refused::Because(StatusCode::CONFLICT, why))?;
    found(&handle, id).map(Json)
}

/// What is tried beside the code of a stage is tried no more.
async fn drop_shadow(
    State(handle): State<Handle>,
    Path(stage): Path<String>,
) -> Result<Json<Swap>, Refused> {
    let dropped = handle.drop_shadow(stage).await?;
    let id = dropped.map_err(|why| Refused::Because(StatusCode::CONFLICT, why))?;
    found(&handle, id).map(Json)
}

/// A swap; with `wait`, once its state is another than the one that is known.
async fn show(
    State(handle): State<Handle>,
    Path(id): Path<u64>,
    Query(Waits { wait, state }): Query<Waits>,
) -> Result<Json<Swap>, Refused> {
    if let (Some(wait), Some(swap)) = (wait, handle.swaps().get(id)) {
        let bad = || {
            let why = format!("wait={wait}: write seconds, such as `30s`");
            Refused::Because(StatusCode::BAD_REQUEST, why)
        };
        let seconds = wait.strip_suffix('s').and_then(|text| text.parse().ok());
        let most = Duration::from_secs(seconds.ok_or_else(bad)?).min(WAIT_MAX);
        let known = state.unwrap_or_else(|| swap.state.name().to_owned());
        let changed = |state: SwapState| state.name() != known || state.is_over();
        handle.swaps().wait(id, most, changed).await;
    }
    found(&handle, id).map(Json)
}

fn found(handle: &Handle, id: u64) -> Result<Swap, Refused> {
    let found = handle.swaps().get(id);
    let missing = || {
        let why = format!("there is no swap {id}, or none any more");
        Refused::Because(StatusCode::NOT_FOUND, why)
    };
    let report = handle.swaps().shadow(id);
    let shown = |swap| Swap::of(id, &swap).with(report.as_ref());
    found.map(shown).ok_or_else(missing)
}
