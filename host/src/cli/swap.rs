//! `swap`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::access::JobAccess;
use super::{Failure, Global, access, exit, job, output};
use crate::admin::swaps::{COMPONENT_BYTES, Shadow, Swap, Wanted};
use crate::config;
use crate::coordinator::{ASKED_FOR, SwapState};
use crate::runtime::{Limits, read_component};

/// Differences that a person is shown; JSON has more.
const SHOWN_DIFFERENCES: usize = 3;
/// Messages that a shadow compares, if nothing else is said.
const SHADOW_MESSAGES: u64 = 100_000;

#[derive(Args)]
pub(super) struct SwapArgs {
    /// The stage
    #[arg(value_name = "STAGE")]
    stage: String,
    /// The component; default: the one that the job file names
    #[arg(value_name = "COMPONENT")]
    component: Option<PathBuf>,
    /// A name for the code, shown with it
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    label: String,
    /// Also a component that was rolled back before
    #[arg(long)]
    force: bool,
    /// Check everything, and swap nothing
    #[arg(long)]
    dry_run: bool,
    /// How long the code before is at hand: a duration, a number of messages, of checkpoints (5cp), or none; default: as the job says
    #[arg(long, value_name = "LENGTH", value_parser = Length::parse)]
    probation: Option<Length>,
    /// How many times as much processor time a message may take as before (3x), or off; default: as the job says
    #[arg(long, value_name = "FACTOR", value_parser = config::slowdown)]
    max_slowdown: Option<u32>,
    /// Go back to the code before; where output is held, with all that the new code has done
    #[arg(long, conflicts_with_all = ["component", "dry_run"])]
    rollback: bool,
    /// Hold the output until the probation is over: what the new code does can then be taken back, with its state
    #[arg(long, conflicts_with = "rollback")]
    hold_output: bool,
    /// Only try the code beside the code that runs, on the same messages, and compare what both do
    #[arg(long, conflicts_with_all = ["hold_output", "rollback", "dry_run", "probation", "max_slowdown"])]
    shadow: bool,
    /// With --shadow: compare so many messages; default: 100000
    #[arg(long, value_name = "N", requires = "shadow", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// With --shadow: compare for so long
    #[arg(long = "for", value_name = "TIME", requires = "shadow", conflicts_with = "messages", value_parser = config::duration)]
    time: Option<Duration>,
    /// Let the new code stay now, and what it has held go out; after --shadow, swap it in
    #[arg(long, conflicts_with_all = ["component", "label", "force", "dry_run", "probation", "max_slowdown", "rollback", "hold_output", "shadow"])]
    promote: bool,
    /// End what --shadow has begun
    #[arg(long, conflicts_with_all = ["component", "label", "force", "dry_run", "probation", "max_slowdown", "rollback", "hold_output", "shadow", "promote", "wait"])]
    drop: bool,
    /// Wait until the probation is over: then the exit code is 3 if the code before is back
    #[arg(long)]
    wait: bool,
    /// Show the last swaps of the stage
    #[arg(long, conflicts_with_all = ["component", "label", "force", "dry_run", "probation", "max_slowdown", "rollback", "wait", "hold_output", "promote", "shadow", "drop"])]
    status: bool,
}

/// A probation, or none.
#[derive(Clone)]
struct Length(String);

impl Length {
    fn parse(text: &str) -> Result<Length, String> {
        let length = config::probation(text)?;
        let text = length.map_or_else(|| "none".to_owned(), |length| length.to_string());
        Ok(Length(text))
    }
}

pub(super) fn swap(global: &Global, args: &SwapArgs) -> Result<(), Failure> {
    let job = job::load(&global.job)?;
    let mut job = access::of(&job);
    if args.status {
        return list(global, args, &mut job);
    }
    let wanted = Wanted {
        label: args.label.clone(),
        force: args.force,
        dry_run: args.dry_run,
        rollback: args.rollback,
        hold_output: args.hold_output,
        shadow_messages: match args.time {
            None if args.shadow => Some(args.messages.unwrap_or(SHADOW_MESSAGES)),
            _ => None,
        },
        shadow_ms: args
            .time
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        probation: args.probation.as_ref().map(|length| length.0.clone()),
        slowdown_percent: args.max_slowdown,
    };
    if let Some(why) = wanted.wrong() {
        return Err(Failure::new(exit::USAGE, why));
    }
    let component = args.component.as_deref().map(read).transpose()?;
    let mut swap = match (args.promote, args.drop) {
        (true, _) => job.ask(|job| job.promote(&args.stage))?,
        (_, true) => job.ask(|job| job.drop_shadow(&args.stage))?,
        _ => job.ask(|job| job.swap(&args.stage, component.as_deref(), &wanted))?,
    };
    // What was tried is swapped in: that is a swap of its own.
    let ends_probation = args.promote && !swap.is_before_cut();
    // Code that is watched, and no swap to what was before.
    let goes_back = args.rollback && !swap.is_before_cut();
    let waits = |swap: &Swap| match (args.wait || ends_probation, args.rollback) {
        (true, _) => !swap.is_over(),
        (false, true) if goes_back => !swap.is_over(),
        (false, true) => swap.is_before_cut() || swap.is_one_of(&[SwapState::RollingBack]),
        (false, false) => {
            swap.is_before_cut() || swap.is_one_of(&[SwapState::Migrating, SwapState::RollingBack])
        }
    };
    while waits(&swap) {
        let (later, runs) = job.ask(|job| Ok((job.swap_later(&swap)?, job.is_running())))?;
        swap = later;
        if !runs && waits(&swap) {
            let state = sentence(&swap);
            let is_forgotten = goes_back
                || ends_probation && swap.is_one_of(&[SwapState::Probation, SwapState::Holding]);
            let is_begun = swap.is_one_of(&[SwapState::RollingBack]);
            if swap.is_one_of(&[SwapState::Migrating]) {
                let why =
                    "the job has stopped meanwhile, and its next start begins with the old state";
                return Err(Failure::new(exit::HOST, format!("{why}: {state}")));
            }
            let why = match is_forgotten && !is_begun {
                true => format!(
                    "the job has stopped before that was written: start it, and ask again: {state}"
                ),
                false => format!(
                    "the job has stopped meanwhile, and goes on with this at its next start: {state}"
                ),
            };
            return Err(Failure::new(exit::HOST, why));
        }
    }
    tell(global, args, &swap)
}

/// What became of a swap, and the exit code.
fn tell(global: &Global, args: &SwapArgs, swap: &Swap) -> Result<(), Failure> {
    let differs = swap
        .shadow
        .as_ref()
        .is_some_and(|shadow| shadow.differing > 0);
    let code = if args.drop {
        0
    } else if args.shadow && args.wait && differs {
        exit::TASK
    } else if swap.is_one_of(&[SwapState::Refused]) {
        exit::USAGE
    } else if swap.is_one_of(&[SwapState::RolledBack]) && !is_meant(args, swap)
        || swap.is_one_of(&[SwapState::Dropped]) && !args.dry_run
    {
        exit::TASK
    } else {
        0
    };
    match (code, global.json) {
        (0, true) => output::json(swap),
        (0, false) => output::text(&(with_differences(swap) + "\n")),
        (code, true) => {
            output::json(swap)?;
            Err(Failure::new(code, String::new()))
        }
        (code, false) => Err(Failure::new(code, with_differences(swap))),
    }
}

/// Whether a way back is what was asked for: that of a probation, and not the end of one that a way back had itself.
fn is_meant(args: &SwapArgs, swap: &Swap) -> bool {
    args.rollback && swap.regressions == 0 && swap.reason == ASKED_FOR
}

/// The component's bytes. What is in them is looked at by the job.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let limits = Limits {
        component_bytes: COMPONENT_BYTES as u64,
        ..Limits::default()
    };
    let bytes = read_component(path, &limits, None)?;
    match bytes.is_empty() {
        true => Err(Failure::new(
            exit::USAGE,
            format!("component {}: it is empty", path.display()),
        )),
        false => Ok(bytes),
    }
}

fn list(
    global: &Global,
    args: &SwapArgs,
    job: &mut access::Access<'_, dyn JobAccess + '_>,
) -> Result<(), Failure> {
    let status = job.ask(|job| job.status())?;
    if !status.stages.iter().any(|stage| stage.stage == args.stage) {
        let why = format!("the job has no stage {:?}", args.stage);
        return Err(Failure::new(exit::USAGE, why));
    }
    let swaps = status.swaps.iter();
    let of_stage: Vec<_> = swaps.filter(|swap| swap.stage == args.stage).collect();
    if global.json {
        return of_stage.into_iter().try_for_each(output::json);
    }
    let head = [
        "SWAP",
        "TIME",
        "STATE",
        "FROM",
        "TO",
        "LABEL",
        "CHECKPOINT",
        "PAUSE",
        "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let last = of_stage.last().copied();
    rows.extend(of_stage.into_iter().map(row));
    output::table(&rows)?;
    match last.and_then(|swap| swap.shadow.as_ref()) {
        Some(shadow) if !shadow.differences.is_empty() => {
            output::text(&(differences(shadow) + "\n"))
        }
        _ => Ok(()),
    }
}

/// What became of a swap, and what a shadow has found.
fn with_differences(swap: &Swap) -> String {
    let mut text = sentence(swap);
    if let Some(shadow) = &swap.shadow {
        text += &differences(shadow);
    }
    text
}

/// The differences that a shadow has found, each with what both codes make of the message.
fn differences(shadow: &Shadow) -> String {
    let mut text = String::new();
    let shown = shadow.differences.iter().take(SHOWN_DIFFERENCES);
    for difference in shown {
        let key = difference.key.as_ref();
        text += &format!(
            "\n{}, stream {}, offset {}{}: {}",
            difference.task,
            difference.stream,
            difference.offset,
            key.map(|key| format!(", key {key}")).unwrap_or_default(),
            difference.kinds.join(", ")
        );
        for (who, made) in [("runs", &difference.from), ("new", &difference.to)] {
            text += &format!("\n  {who:<5}{}", made.outcome);
            for [stream, key, value] in &made.sent {
                text += &format!("; sends {stream} {key} {value}");
            }
            for [store, key, value] in &made.state {
                text += &format!("; {store} {key} = {value}");
            }
        }
    }
    text
}

fn row(swap: &Swap) -> Vec<String> {
    let or_none = |text: &str| match text.is_empty() {
        true => "-".to_owned(),
        false => text.to_owned(),
    };
    vec![
        swap.id.to_string(),
        output::time(swap.time),
        swap.state.clone(),
        output::short(&swap.from),
        or_none(&output::short(&swap.to)),
        or_none(&swap.label),
        match swap.epoch {
            0 => "-".to_owned(),
            epoch => epoch.to_string(),
        },
        format!("{:.1} ms", swap.pause_us as f64 / 1e3),
        or_none(&swap.reason),
    ]
}

/// What became of a swap, or what it does.
pub(super) fn sentence(swap: &Swap) -> String {
    let label = match &*swap.label {
        "" => String::new(),
        label => format!(" ({label})"),
    };
    let (from, to) = (output::short(&swap.from), output::short(&swap.to));
    let mut text = format!(
        "swap {} of stage {}: {}: {from} to {to}{label}",
        swap.id, swap.stage, swap.state
    );
    if swap.epoch > 0 {
        text += &format!(", at checkpoint {}", swap.epoch);
    }
    if !swap.reason.is_empty() {
        text += &format!(": {}", swap.reason);
    }
    text
}
