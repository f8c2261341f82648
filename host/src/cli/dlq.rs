//! `dlq list`, `show`, `replay`, `drop`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, Global, access, exit, job, output, stderr};
use crate::admin::letters::{Group, Letter, WholeLetter};
use crate::config::Job;
use crate::coordinator::{LetterFilter, LetterId, LetterState, Outcome};
use crate::disk::Disk;
use crate::model::TimestampMs;

#[derive(Subcommand)]
pub(super) enum DlqCommand {
    /// The groups of equal errors, or with --letters the letters
    List(ListArgs),
    /// One letter with its message, what the guest wrote, and its backtrace
    Show {
        /// The letter
        #[arg(value_name = "STREAM/PARTITION/OFFSET")]
        id: LetterId,
    },
    /// Process letters again, each once, in their order; those that fail again are new letters
    Replay(ReplayArgs),
    /// Give letters up
    Drop(DropArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// List letters instead of groups
    #[arg(long)]
    letters: bool,
    #[command(flatten)]
    which: Which,
    /// What became of them; default: groups of open letters, letters in every state
    #[arg(long)]
    state: Option<State>,
}

#[derive(Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Letters from a file, one JSON object a line as `log consume --json` prints them, perhaps edited; `-`: standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = Which::NAMES)]
    jsonl: Option<PathBuf>,
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    which: Which,
    /// All of them
    #[arg(long, conflicts_with_all = Which::NAMES)]
    all: bool,
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Which letters are meant.
#[derive(Args)]
struct Which {
    /// These
    #[arg(value_name = "STREAM/PARTITION/OFFSET")]
    ids: Vec<LetterId>,
    /// Of this stage
    #[arg(long)]
    stage: Option<String>,
    /// Of this group
    #[arg(long)]
    group: Option<String>,
    /// Of this kind: trap, deadline, rejected, undecodable, …
    #[arg(long)]
    kind: Option<String>,
    /// Of the component whose SHA-256 begins like this
    #[arg(long, value_name = "SHA256")]
    component: Option<String>,
    /// With this key
    #[arg(long)]
    key: Option<String>,
    /// That became letters at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<TimestampMs>,
    /// That became letters before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<TimestampMs>,
    /// At most so many
    #[arg(long, value_name = "LETTERS")]
    limit: Option<u64>,
}

impl Which {
    const NAMES: [&'static str; 9] = [
        "ids",
        "stage",
        "group",
        "kind",
        "component",
        "key",
        "since",
        "until",
        "limit",
    ];

    fn filter(&self) -> LetterFilter {
        LetterFilter {
            ids: self.ids.clone(),
            stage: self.stage.clone(),
            group: self.group.clone(),
            kind: self.kind.clone(),
            component: self.component.clone(),
            key: self.key.clone(),
            since: self.since,
            until: self.until,
            limit: self.limit,
            ..LetterFilter::default()
        }
    }

    fn is_all(&self) -> bool {
        let texts = [
            &self.stage,
            &self.group,
            &self.kind,
            &self.component,
            &self.key,
        ];
        let numbers = self.since.is_none() && self.until.is_none() && self.limit.is_none();
        self.ids.is_empty() && numbers && texts.iter().all(|text| text.is_none())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Open,
    Queued,
    Done,
    Dropped,
}

impl State {
    fn wanted(self) -> LetterState {
        match self {
            State::Open => LetterState::Open,
            State::Queued => LetterState::Queued,
            State::Done => LetterState::Done,
            State::Dropped => LetterState::Dropped,
        }
    }
}

fn time(text: &str) -> Result<TimestampMs, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write a time as 2026-01-31T12:00:00Z (RFC 3339)".to_owned())?;
    Ok(time.as_millisecond())
}

pub(super) fn dlq(global: &Global, command: &DlqCommand, disk: &Disk) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let mut letters = access::letters(&job, disk);
    match command {
        DlqCommand::List(args) if args.letters => list(global, &job, disk, args),
        DlqCommand::List(args) => {
            let filter = LetterFilter {
                state: Some(args.state.map_or(LetterState::Open, State::wanted)),
                ..args.which.filter()
            };
            groups(global, &letters.ask(|letters| letters.groups(&filter))?)
        }
        DlqCommand::Show { id } => show(global, &letters.ask(|letters| letters.whole(id))?),
        DlqCommand::Replay(args) => {
            let outcome = match &args.jsonl {
                Some(file) => {
                    let lines = read(file)?;
                    letters.ask(|letters| letters.replay_lines(&lines, args.dry_run))?
                }
                None => {
                    let filter = args.which.filter();
                    letters.ask(|letters| letters.replay(&filter, args.dry_run))?
                }
            };
            say(global, &outcome, "queued", args.dry_run)
        }
        DlqCommand::Drop(args) => {
            if args.which.is_all() && !args.all {
                let why = "say which letters to drop, or --all";
                return Err(Failure::new(exit::USAGE, why.to_owned()));
            }
            let filter = args.which.filter();
            let outcome = letters.ask(|letters| letters.drop(&filter, args.dry_run))?;
            say(global, &outcome, "dropped", args.dry_run)
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().lock().read_to_end(&mut lines).map(drop),
        false => std::fs::read(file).map(|read| lines = read),
    };
    read.map_err(|error| {
        Failure::new(exit::USAGE, format!("--jsonl {}: {error}", file.display()))
    })?;
    Ok(lines)
}

fn say(global: &Global, outcome: &Outcome, what: &str, dry_run: bool) -> Result<(), Failure> {
    if global.json {
        output::json(&serde_json::json!({
            what: outcome.done,
            "already": outcome.already,
            "refused": outcome.refused,
            "refused-count": outcome.refused_count,
            "dry-run": dry_run,
        }))?;
    } else {
        let would = if dry_run { " would be" } else { "" };
        let letters = if outcome.done == 1 {
            "letter"
        } else {
            "letters"
        };
        let mut text = format!("{} {letters}{would} {what}", outcome.done);
        if outcome.already > 0 {
            text += &format!(
                "; {} were queued, replayed or dropped before",
                outcome.already
            );
        }
        output::text(&(text + "\n"))?;
    }
    if outcome.refused_count == 0 {
        return Ok(());
    }
    for refused in &outcome.refused {
        stderr::say(format_args!("{}: {}", refused.id, refused.why));
    }
    let why = format!("{} letters cannot be {what}", outcome.refused_count);
    Err(Failure::new(exit::USAGE, why))
}

fn groups(global: &Global, groups: &[Group]) -> Result<(), Failure> {
    if global.json {
        return groups.iter().try_for_each(output::json);
    }
    let head = [
        "GROUP",
        "COUNT",
        "KIND",
        "STAGE",
        "FIRST",
        "LAST",
        "COMPONENT",
        "EXAMPLE",
        "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(groups.iter().map(|group| {
        vec![
            group.group.clone(),
            group.count.to_string(),
            group.kind.clone(),
            group.stage.clone(),
            output::time(group.first),
            output::time(group.last),
            output::short(&group.component),
            group.example.clone(),
            short(&group.reason),
        ]
    }));
    output::table(&rows)?;
    if let Some(group) = groups.first() {
        stderr::say(format_args!(
            "to see one: wasm-host dlq show {}; to process a group again: wasm-host dlq replay --group {}",
            group.example, group.group
        ));
    }
    Ok(())
}

/// The beginning of a reason, on a line.
fn short(reason: &str) -> String {
    crate::model::shown::line(reason, 120)
}

fn list(global: &Global, job: &Job, disk: &Disk, args: &ListArgs) -> Result<(), Failure> {
    let head = [
        "ID", "STATE", "TIME", "KIND", "GROUP", "TASK", "STREAM", "OFFSET", "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut filter = LetterFilter {
        state: args.state.map(State::wanted),
        ..args.which.filter()
    };
    let mut left = filter.limit.unwrap_or(u64::MAX);
    let mut letters = access::letters(job, disk);
    while left > 0 {
        filter.limit = Some(left);
        let page = letters.ask(|letters| letters.page(&filter))?;
        let Some(last) = page.last() else { break };
        filter.after = last.id.parse().ok();
        left -= page.len() as u64;
        match global.json {
            true => page.iter().try_for_each(output::json)?,
            false => rows.extend(page.iter().map(row)),
        }
        // Of those that are named there is one page.
        if !filter.ids.is_empty() {
            break;
        }
    }
    match global.json {
        true => Ok(()),
        false => output::table(&rows),
    }
}

fn row(letter: &Letter) -> Vec<String> {
    vec![
        letter.id.clone(),
        word(letter.state).to_owned(),
        output::time(letter.time),
        letter.kind.clone(),
        letter.group.clone(),
        letter.task.clone(),
        letter.stream.clone(),
        letter.offset.to_string(),
        short(&letter.reason),
    ]
}

fn word(state: LetterState) -> &'static str {
    match state {
        LetterState::Open => "open",
        LetterState::Queued => "queued",
        LetterState::Done => "done",
        LetterState::Dropped => "dropped",
    }
}

fn show(global: &Global, whole: &WholeLetter) -> Result<(), Failure> {
    if global.json {
        return output::json(whole);
    }
    let letter = &whole.letter;
    let mut text = format!(
        "letter {} ({}), {}\n  from: stage {}, task {}, stream {:?}, partition {}, offset {}\n  why: {} ({} attempts, group {}, {} replays)\n  reason: {}\n  component: {}\n",
        letter.id,
        word(letter.state),
        output::time(letter.time),
        letter.stage,
        letter.task,
        letter.stream,
        letter.partition,
        letter.offset,
        letter.kind,
        letter.attempts,
        letter.group,
        letter.replays,
        letter.reason,
        letter.component,
    );
    if !whole.detail.is_null() {
        text += &format!("  detail: {}\n", whole.detail);
    }
    if let Some(cut) = &whole.cut {
        text += &format!("  the value is cut: {cut}\n");
    }
    text += &format!(
        "  timestamp: {}\n  key: {}\n",
        output::time(whole.timestamp),
        whole.key
    );
    for (name, value) in &whole.headers {
        text += &format!("  header {name:?}: {value}\n");
    }
    text += &format!("  value: {}\n", whole.value);
    for (title, lines) in [
        ("guest's standard error", &whole.stderr),
        ("backtrace", &whole.backtrace),
    ] {
        if let Some(lines) = lines {
            text += &format!("  {title}:\n");
            for line in lines.lines() {
                text += &format!("    {line}\n");
            }
        }
    }
    output::text(&text)
}
