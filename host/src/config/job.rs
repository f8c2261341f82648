//! What a job file says, typed, with every default filled in and its reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::cluster::Cluster;
use super::diagnostics::Diagnostic;
use super::machine;
use super::setting::Setting;
use super::stage::Stage;
use super::stream::Stream;
use super::units::ByteSize;
use super::words::words;

/// A job: valid, complete, and ready to be mapped to the options of the modules that run it.
///
/// Paths are joined to the job file's folder. `Serialize` gives the shape of a job file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// The job file.
    #[serde(skip)]
    pub file: PathBuf,
    /// `[job]`.
    #[serde(rename = "job")]
    pub general: General,
    /// `[checkpoint]`.
    pub checkpoint: Checkpoint,
    /// `[clusters.*]`, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, Cluster>,
    /// `[streams.*]`, by name; also those that no stage uses.
    pub streams: BTreeMap<String, Stream>,
    /// `[[stage]]`, in the order of the file.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
    /// Warnings: the job can run, but a person should look at them.
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
}

impl Job {
    /// The resolved job as the text of a job file, with all defaults shown. What came from the environment is shown as
    /// the reference in the job file.
    ///
    /// # Panics
    /// Never: every part of a job can be written in TOML.
    pub fn render(&self) -> String {
        match toml::to_string(self) {
            Ok(text) => text,
            Err(error) => panic!("a job cannot be written as TOML: {error}"),
        }
    }
}

/// `[job]`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct General {
    /// Names the job; recorded in the state directory, so that another job is not run on this one's state. Required.
    pub name: String,
    /// The state directory. Default: `.wasm-host/<name>` next to the job file, so that the command line finds it by the
    /// job file alone and two jobs of one folder do not share it.
    pub state_dir: Setting<PathBuf>,
    /// Worker threads on which guests run. Default: the number of cores, because guests compute and do not wait.
    pub workers: u32,
    /// Memory for committed entries that are kept at hand, for all tasks together. Default: 256 MiB, which most
    /// machines can spare and which holds some million small entries.
    pub cache: Setting<ByteSize>,
    /// Free space on the disk of the state directory below which no epoch is begun. Default: 256 MiB, so that there is
    /// room to commit the open epoch and to compact.
    pub disk_reserve: Setting<ByteSize>,
    /// How long a drain waits for running calls. Default: 30 s, what service managers grant before they kill.
    pub drain_timeout: Setting<Duration>,
    /// Where metrics and the read-only status are served. Default: nowhere, because opening a port must be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Setting<SocketAddr>>,
    /// Swap a component in when its file changes. Default: `false`, because a deploy should be meant.
    pub watch: bool,
}

impl General {
    /// The default of [`General::cache`].
    pub(super) const CACHE: ByteSize = ByteSize::mib(256);
    /// The default of [`General::disk_reserve`].
    pub(super) const DISK_RESERVE: ByteSize = ByteSize::mib(256);
    /// The default of [`General::drain_timeout`].
    pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
}

/// `[checkpoint]`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// Whether there are checkpoints by time. Default: yes.
    pub enabled: bool,
    /// The longest time from one checkpoint to the next. Default: 1 s, which bounds what a crash repeats and how late
    /// output is seen, and costs little: a checkpoint does not stop the guests.
    pub interval: Setting<Duration>,
    /// Whether a checkpoint comes before `interval` while checkpoints take less than a twentieth of the time. Default: yes, so that
    /// the output of a job that does little is seen within milliseconds.
    pub early: bool,
    /// State and output that may be uncommitted, for all tasks together; a checkpoint is due at half of it, and at all
    /// of it no new batch starts. Default: see [`Checkpoint::bytes_for`].
    pub bytes: Setting<ByteSize>,
    /// When a checkpoint is written. Default: `elided`.
    pub mode: Setting<CheckpointMode>,
    /// The shortest time from the end of one checkpoint to the beginning of the next. Default: none, because at most
    /// one is being committed anyway.
    pub min_pause: Setting<Duration>,
    /// How long one attempt may take before it counts as failed. Default: 10 min, far beyond any healthy one.
    pub timeout: Setting<Duration>,
    /// The most consecutive attempts that may fail before the job stops. Default: 3, so that a passing shortage is
    /// survived and a lasting one is noticed.
    pub tolerate_failures: u32,
    /// What a checkpoint survives. Default: `sync`, because that is what people mean by durable.
    pub durability: Setting<Durability>,
}

impl Checkpoint {
    /// The default of `bytes` for so much memory: a 64th of it, because a job may take three times as much, but 64 MiB at least.
    /// 256 MiB at most: one epoch then takes a keyed job some hundred milliseconds, and more brings nothing.
    pub(super) fn bytes_for(memory: Option<u64>) -> ByteSize {
        let share = memory.map_or(0, |bytes| bytes / 64) >> 20;
        ByteSize::mib(share.clamp(64, 256))
    }
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        Checkpoint {
            enabled: true,
            interval: Duration::from_secs(1).into(),
            early: true,
            bytes: Checkpoint::bytes_for(machine::memory()).into(),
            mode: CheckpointMode::Elided.into(),
            min_pause: Duration::ZERO.into(),
            timeout: Duration::from_secs(600).into(),
            tolerate_failures: 3,
            durability: Durability::Sync.into(),
        }
    }
}

words! {
    /// When a checkpoint is written.
    CheckpointMode, "checkpoint mode", "a checkpoint mode" {
        /// At each interval, and only what changed; nothing if nothing changed.
        Elided = "elided",
    } later ["priority", "scheduled"]
}

words! {
    /// What a checkpoint survives.
    Durability, "durability", "a durability" {
        /// A power cut.
        Sync = "sync",
        /// A crash of the process, not of the machine.
        Process = "process",
    } later []
}
