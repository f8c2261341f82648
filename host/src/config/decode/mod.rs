//! The rules of a job file: from TOML to a [`Job`], noting what is wrong.
//!
//! Stages are read before streams, because what a stage does with a stream decides which keys the stream may have.

mod capabilities;
mod cluster;
mod faults;
pub(super) mod general;
mod grants;
pub(super) mod limits;
pub(super) mod policy;
mod ports;
mod stage;
mod stream;
mod together;

use std::cell::RefCell;
use std::path::Path;

use toml::de::{DeTable, Error};

use super::Look;
use super::diagnostics::{Diagnostic, Diagnostics, Place, Severity};
use super::job::Job;
use super::policy::Policy;
use super::setting::Problem;
use super::substitute::Env;
use super::table::{Context, Entry, Note, Table};

/// Keys by the table they belong to, to help when one is in the wrong table.
pub(super) const HOMES: [(&str, &[&str]); 5] = [
    (
        "[job]",
        &[
            "state-dir",
            "workers",
            "cache",
            "disk-reserve",
            "drain-timeout",
            "listen",
            "watch",
        ],
    ),
    (
        "[checkpoint]",
        &[
            "interval",
            "early",
            "bytes",
            "mode",
            "min-pause",
            "timeout",
            "tolerate-failures",
            "durability",
        ],
    ),
    (
        "[[stage]]",
        &[
            "component",
            "sha256",
            "inputs",
            "outputs",
            "on-rejected",
            "on-fault",
            "dead-letters",
            "dead-letter-order",
            "when-held",
            "retry",
            "breaker",
            "restart",
            "batch-messages",
            "batch-bytes",
            "stores",
            "config",
            "limits",
            "capabilities",
        ],
    ),
    ("[stage.limits]", limits::KEYS),
    (
        "[stage.capabilities]",
        &[
            "directories",
            "environment",
            "clocks",
            "network",
            "request-stop",
        ],
    ),
];

/// Reads a job file that is shown as `path` and whose relative paths are in `folder`.
pub(super) fn job(
    text: &str,
    path: &Path,
    folder: &Path,
    env: &Env<'_>,
    look: Look,
    policies: &[Policy],
) -> Result<Job, Diagnostics> {
    let cx = Context {
        text,
        folder,
        env,
        look,
        is_literal: false,
        policies,
        notes: RefCell::new(Vec::new()),
    };
    let job = opened(&cx, |document| decode(&cx, document, path));
    let (errors, warnings) = reported(cx, path);
    match job {
        Some(job) if errors.is_empty() => Ok(Job { warnings, ..job }),
        _ => Err(Diagnostics::new(errors)),
    }
}

/// Parses a file and decodes it, unless it is no TOML, which is noted.
fn opened<T>(cx: &Context<'_>, decode: impl FnOnce(&DeTable<'_>) -> Option<T>) -> Option<T> {
    let (document, errors) = DeTable::parse_recoverable(cx.text);
    if !errors.is_empty() {
        errors.iter().for_each(|error| syntax(cx, error));
        return None;
    }
    decode(document.get_ref())
}

/// What was found in a file: errors, and warnings.
fn reported(cx: Context<'_>, path: &Path) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let text = cx.text;
    let mut notes = cx.notes.into_inner();
    // Errors first, so that they are among those that are shown.
    notes.sort_by_key(|note| (note.severity == Severity::Warning, note.span.start));
    let more = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    notes.sort_by_key(|note| note.span.start);
    if let (Some(last), 1..) = (notes.last_mut(), more) {
        let help = last.problem.help.take().map(|help| format!("{help}; "));
        let help = help.unwrap_or_default();
        last.problem.help = Some(format!("{help}{more} more are not shown"));
    }
    notes
        .into_iter()
        .map(|note| diagnostic(note, text, path))
        .partition(|diagnostic| diagnostic.severity == Severity::Error)
}

/// The most findings that are shown.
const NOTES_MAX: usize = 100;

fn diagnostic(note: Note, text: &str, path: &Path) -> Diagnostic {
    Diagnostic {
        file: path.to_owned(),
        place: Some(Place::of(text, &note.span)),
        severity: note.severity,
        message: note.problem.message,
        help: note.problem.help,
    }
}

fn syntax(cx: &Context<'_>, error: &Error) {
    let span = error.span().unwrap_or(0..0);
    let piece = cx.text.get(span.clone()).unwrap_or_default();
    let plain = !piece.is_empty()
        && piece
            .chars()
            .all(|c| c.is_alphanumeric() || "./:_-".contains(c));
    let message = error.message();
    let problem = if message.starts_with("string values must be quoted") {
        match (piece.is_empty(), plain) {
            (true, _) => Problem::new("a value is missing"),
            (_, true) => {
                Problem::new("a string must be in quotes").help(format!("write \"{piece}\""))
            }
            _ => Problem::new("a string must be in quotes"),
        }
    } else if message == "duplicate key" && plain {
        Problem::new(format!("`{piece}` is here for the second time"))
    } else {
        Problem::new(message)
    };
    cx.error(&span, problem);
}

/// The whole document. `None` if something is missing or wrong, which has been noted.
fn decode<'a>(cx: &'a Context<'a>, document: &'a DeTable<'a>, path: &Path) -> Option<Job> {
    let mut root = Table::new(cx, "the job file", document, 0..0);
    let general = general::job(&mut root);
    let checkpoint = general::checkpoint(&mut root);
    let clusters = clusters(
        &mut root,
        general.as_ref().map(|general| general.name.as_str()),
    );
    let declared = streams(&mut root);
    let mut stages = stages(&mut root, &declared);
    root.finish(|key| at_home(key, "the job file"));

    let declared: Vec<_> = declared
        .into_iter()
        .map(|entry| stream::decode(&entry, &stages, &clusters))
        .collect();
    together::check(cx, &declared, &mut stages, checkpoint.as_ref());
    if let (Some(general), true) = (&general, cx.look != Look::Nothing) {
        grants::check(cx, general, &declared, &stages);
    }

    Some(Job {
        file: path.to_owned(),
        general: general?,
        checkpoint: checkpoint?.checkpoint,
        clusters: together::used_clusters(cx, clusters, &declared)?,
        streams: declared
            .into_iter()
            .map(|declared| Some((declared.name?.to_owned(), declared.stream?)))
            .collect::<Option<_>>()?,
        stages: stages
            .into_iter()
            .map(|draft| draft.stage)
            .collect::<Option<_>>()?,
        warnings: Vec::new(),
    })
}

/// The clusters of Kafka, in the order of the file.
fn clusters<'a>(root: &mut Table<'a>, job: Option<&str>) -> Vec<cluster::Declared<'a>> {
    let entries = root.table("clusters", "[clusters.NAME]");
    let entries = entries.map(Table::into_entries).unwrap_or_default();
    let clusters = entries.iter().map(|entry| cluster::decode(entry, job));
    clusters.collect()
}

/// The declarations of streams, in the order of the file.
fn streams<'a>(root: &mut Table<'a>) -> Vec<Entry<'a>> {
    root.table("streams", "[streams.NAME]")
        .map(Table::into_entries)
        .unwrap_or_default()
}

/// The stages. There can be one for now; all are read, so that all mistakes are reported at once.
fn stages<'a>(root: &mut Table<'a>, declared: &[Entry<'a>]) -> Vec<stage::Draft<'a>> {
    let Some(entry) = root.entry("stage") else {
        root.missing(
            "stage",
            "a job has a [[stage]] with a name, a component and inputs",
        );
        return Vec::new();
    };
    let Some(list) = entry.list("write [[stage]] in double brackets") else {
        return Vec::new();
    };
    if list.is_empty() {
        root.missing(
            "stage",
            "a job has a [[stage]] with a name, a component and inputs",
        );
    }
    let mut drafts: Vec<stage::Draft<'_>> = Vec::new();
    for (index, element) in list.iter().enumerate() {
        if index == 1 {
            element.error(
                Problem::new("a second stage is not supported yet")
                    .help("put it in a job file of its own"),
            );
        }
        let Some(table) = element.table("[[stage]]") else {
            continue;
        };
        drafts.push(stage::decode(table, declared));
    }
    drafts
}

/// Names the table that a misplaced key belongs to.
fn at_home(key: &str, here: &str) -> Option<Problem> {
    let (home, _) = HOMES
        .iter()
        .find(|(home, keys)| *home != here && keys.contains(&key))?;
    Some(
        Problem::new(format!("unknown key `{key}` in {here}"))
            .help(format!("`{key}` belongs in {home}")),
    )
}
