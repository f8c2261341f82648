//! What `run` shows while it runs: on a terminal a line that moves, without one a line every few seconds.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use parking_lot::Mutex;

use super::stderr;
use crate::config::Job;
use crate::coordinator::{Handle, Report, Status};

/// How often the line on a terminal moves.
const MOVE: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const SAY: Duration = Duration::from_secs(5);

/// The bars of the running job, so that log lines are written above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Writes to standard error, above the bars if there are any.
pub(super) fn above_bars(bytes: Vec<u8>) {
    match BARS.get() {
        Some(bars) => bars.suspend(|| stderr::write(bytes)),
        None => stderr::write(bytes),
    }
}

/// The terminal that bars are drawn on: it waits for nothing, as all of standard error.
#[derive(Debug, Default)]
struct Terminal {
    /// What is drawn and not yet handed over.
    drawn: Mutex<String>,
}

impl Terminal {
    fn draw(&self, text: impl Display) -> io::Result<()> {
        use std::fmt::Write as _;
        let _ = write!(self.drawn.lock(), "{text}");
        Ok(())
    }

    /// Moves by so many places, as ANSI terminals do.
    fn step(&self, places: usize, to: char) -> io::Result<()> {
        match places {
            0 => Ok(()),
            places => self.draw(format_args!("\u{1b}[{places}{to}")),
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        columns().unwrap_or(80)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.step(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.step(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.step(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.step(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(format_args!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn.lock());
        if !drawn.is_empty() {
            stderr::write(drawn.into_bytes());
        }
        Ok(())
    }
}

/// How wide the terminal behind standard error is.
fn columns() -> Option<u16> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: this request writes a `winsize` to where the third argument points, and nothing else.
    #[expect(unsafe_code, reason = "no safe function asks for it here")]
    let asked = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then_some(size.ws_col)
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
    let bars = BARS.get_or_init(|| {
        let terminal = Box::new(Terminal::default());
        MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(terminal, 20))
    });
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

/// What changed between two looks. Messages of earlier runs are counted too, so the first look gives no rate.
#[derive(Default)]
struct Rate(Option<(Instant, u64)>);

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
    fn next(&mut self, status: &Status) -> f64 {
        let processed = status.tasks.iter().map(|task| task.processed).sum();
        match self.0.replace((Instant::now(), processed)) {
            None => 0.0,
            Some((at, before)) => {
                let passed = at.elapsed().as_secs_f64().max(0.001);
                processed.saturating_sub(before) as f64 / passed
            }
        }
    }
}

async fn draw(handle: Handle, bar: ProgressBar) {
    let mut rate = Rate::default();
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
    let mut rate = Rate::default();
    let mut last = String::new();
    while let Ok(status) = handle.status().await {
        let first = rate.0.is_none();
        let line = line(&status, rate.next(&status));
        // A job without work says so once.
        if !first && line != last {
            tracing::info!("{line}");
            last = line;
        }
        tokio::time::sleep(SAY).await;
    }
}

/// How far bounded inputs have come, if all of them say, in the same unit.
fn progress(status: &Status) -> Option<(u64, u64)> {
    let inputs = status.tasks.iter().flat_map(|task| &task.inputs);
    let (mut sum, mut unit) = ((0, 0), None);
    for input in inputs {
        let (done, total, bytes) = input.progress?;
        if *unit.get_or_insert(bytes) != bytes {
            return None;
        }
        sum.0 += done.min(total);
        sum.1 += total;
    }
    Some(sum)
}

fn line(status: &Status, rate: f64) -> String {
    let sum =
        |of: fn(&crate::coordinator::TaskStatus) -> u64| status.tasks.iter().map(of).sum::<u64>();
    let inputs = || status.tasks.iter().flat_map(|task| &task.inputs);
    let lag: Option<u64> = inputs()
        .map(|input| input.lag)
        .try_fold(0, |sum, lag| lag.map(|lag| sum + lag));
    let position: u64 = inputs().map(|input| input.position).sum();
    let processed = sum(|task| task.processed);
    let mut line = format!("{processed} messages, {rate:.0}/s, position {position}");
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
