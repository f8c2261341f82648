//! What `run` shows while it runs: on a terminal a line that moves, without one a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::config::Job;
use crate::coordinator::{Handle, Report, Status};

/// How often the line on a terminal moves.
const MOVE: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const SAY: Duration = Duration::from_secs(5);

/// The bars of the running job, so that log lines are written above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Standard error, above the bars if there are any.
pub(super) fn log_writer() -> Box<dyn Write> {
    match BARS.get() {
        Some(bars) => Box::new(AboveBars(bars.clone())),
        None => Box::new(io::stderr()),
    }
}

struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What is being shown.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    task: tokio::task::JoinHandle<()>,
}

/// Starts showing.
pub(super) fn start(io: &tokio::runtime::Runtime, handle: Handle, job: &Job) -> Shown {
    if !io::stderr().is_terminal() {
        return Shown {
            bar: None,
            task: io.spawn(say(handle)),
        };
    }
    let bars = BARS.get_or_init(MultiProgress::new);
    let bar = bars.add(ProgressBar::new(0));
    bar.set_style(style("{prefix} {spinner} {wide_msg}"));
    bar.set_prefix(job.general.name.clone());
    Shown {
        task: io.spawn(draw(handle, bar.clone())),
        bar: Some(bar),
    }
}

impl Shown {
    /// Stops showing.
    pub(super) fn finish(self, report: &Report) {
        self.task.abort();
        if let Some(bar) = self.bar {
            let _ = report;
            bar.finish_and_clear();
        }
    }
}

/// What changed between two looks.
struct Rate {
    at: Instant,
    processed: u64,
}

impl Rate {
    fn new() -> Rate {
        Rate {
            at: Instant::now(),
            processed: 0,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
    fn next(&mut self, status: &Status) -> f64 {
        let processed = status.tasks.iter().map(|task| task.processed).sum();
        let passed = self.at.elapsed().as_secs_f64().max(0.001);
        let rate = processed_since(self.processed, processed) as f64 / passed;
        *self = Rate {
            at: Instant::now(),
            processed,
        };
        rate
    }
}

fn processed_since(before: u64, now: u64) -> u64 {
    match before {
        0 => 0,
        before => now.saturating_sub(before),
    }
}

async fn draw(handle: Handle, bar: ProgressBar) {
    let mut rate = Rate::new();
    while let Ok(status) = handle.status().await {
        let line = line(&status, rate.next(&status));
        match progress(&status) {
            Some((done, total)) if total > 0 => {
                bar.set_style(style("{prefix} {bar:30} {percent:>3}%  {wide_msg}"));
                bar.set_length(total);
                bar.set_position(done);
            }
            _ => bar.set_style(style("{prefix} {spinner} {wide_msg}")),
        }
        bar.set_message(line);
        bar.tick();
        tokio::time::sleep(MOVE).await;
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

async fn say(handle: Handle) {
    let mut rate = Rate::new();
    let mut last = String::new();
    loop {
        tokio::time::sleep(SAY).await;
        let Ok(status) = handle.status().await else {
            return;
        };
        let per_second = rate.next(&status);
        let line = line(&status, per_second);
        // A job without work says so once.
        if line != last {
            tracing::info!("{line}");
            last = line;
        }
    }
}

/// How far bounded inputs have come, if all of them say.
fn progress(status: &Status) -> Option<(u64, u64)> {
    let inputs = status.tasks.iter().flat_map(|task| &task.inputs);
    let mut sum = (0, 0);
    for input in inputs {
        let (done, total, _) = input.progress?;
        sum.0 += done.min(total);
        sum.1 += total;
    }
    Some(sum)
}

fn line(status: &Status, rate: f64) -> String {
    let sum =
        |of: fn(&crate::coordinator::TaskStatus) -> u64| status.tasks.iter().map(of).sum::<u64>();
    let lag: Option<u64> = status
        .tasks
        .iter()
        .flat_map(|task| &task.inputs)
        .map(|input| input.lag)
        .try_fold(0, |sum, lag| lag.map(|lag| sum + lag));
    let mut line = format!("{} messages, {rate:.0}/s", sum(|task| task.processed));
    if let Some(lag) = lag {
        line += &format!(", lag {lag}");
    }
    line += &format!(", checkpoint {}", status.epoch);
    if let Some(last) = &status.last_checkpoint {
        line += &format!(" ({} ms)", last.duration_us / 1000);
    }
    let rejected = sum(|task| task.rejected);
    if rejected > 0 {
        line += &format!(", {rejected} rejected");
    }
    if !status.failures.is_empty() {
        line += &format!(", {} tasks failed", status.failures.len());
    }
    if status.failed_attempts > 0 {
        line += &format!(", {} checkpoint attempts failed", status.failed_attempts);
    }
    line
}
