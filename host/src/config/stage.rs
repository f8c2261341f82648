//! `[[stage]]`: a component, its bindings and its bounds, with defaults and their reasons.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::faults::{Breaker, DeadLetterOrder, OnFault, OnRejected, Restart, Retry, WhenHeld};
use super::limits::Limits;
use super::setting::{FromText, Problem, Setting, Written};
use super::swap::Swap;
use super::units::ByteSize;
use super::words::words;
use crate::model::{Offset, StartAt};

/// One component with its inputs, outputs and stores.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// Names the stage; recorded in the state directory. Required.
    pub name: String,
    /// The component's file. Required.
    pub component: Setting<PathBuf>,
    /// The hash that the component's file must have. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Setting<Sha256>>,
    /// How many tasks there are: as many as every input has partitions. `None`: brokers know.
    #[serde(skip)]
    pub partitions: Option<u32>,
    /// The ports that the component reads, in the order of the file; at least one.
    #[serde(serialize_with = "inputs_by_port")]
    pub inputs: Vec<InputPort>,
    /// The ports that the component writes, in the order of the file. Default: none.
    #[serde(serialize_with = "outputs_by_port")]
    pub outputs: Vec<OutputPort>,
    /// What happens to a message that the component rejects. Default: `dead-letter` where `dead-letters` is declared, else `fail`,
    /// because anything else silently drops it from the result.
    pub on_rejected: Setting<OnRejected>,
    /// What happens to a message on which the component traps or breaks a limit, and to a record that is no message. Default: by
    /// the same rule.
    pub on_fault: Setting<OnFault>,
    /// The stream that takes dead letters; set if one of the two is `dead-letter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// What becomes of the later messages of a key that has a dead letter. Default: `message`, because most failures concern one
    /// message.
    pub dead_letter_order: Setting<DeadLetterOrder>,
    /// What becomes of the job when a task is held. Default: `stop`, because a task that waits is easily overlooked.
    pub when_held: Setting<WhenHeld>,
    /// How often a message is tried.
    pub retry: Retry,
    /// When too many messages fail.
    pub breaker: Breaker,
    /// How often a task that cannot go on, and no message is to blame, tries again.
    pub restart: Restart,
    /// How new code is watched.
    pub swap: Swap,
    /// The most messages of a batch. Default: 500, beyond which the cost of a call no longer matters.
    pub batch_messages: u32,
    /// A batch ends at this many bytes, and has at least one message. Default: 1 MiB, which fits in any guest.
    pub batch_bytes: Setting<ByteSize>,
    /// The stores of the component, by name. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<String, Store>,
    /// The configuration of the component. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Setting<String>>,
    /// `[stage.limits]`.
    pub limits: Limits,
    /// `[stage.capabilities]`.
    pub capabilities: Capabilities,
}

impl Stage {
    /// The default of [`Stage::batch_messages`].
    pub(super) const BATCH_MESSAGES: u32 = 500;
    /// The default of [`Stage::batch_bytes`].
    pub(super) const BATCH_BYTES: ByteSize = ByteSize::mib(1);
}

/// An input of a component.
#[derive(Debug, Clone)]
pub struct InputPort {
    /// The name that the component knows.
    pub port: String,
    /// A declared stream.
    pub stream: String,
    /// Where to begin while no position is stored. Default: at the oldest message, so that nothing is skipped.
    pub start: Start,
}

/// An output of a component.
#[derive(Debug, Clone)]
pub struct OutputPort {
    /// The name that the component knows.
    pub port: String,
    /// A declared stream.
    pub stream: String,
}

/// Where to begin to read.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Start {
    /// `"oldest"` or `"latest"`.
    End(Setting<StartEnd>),
    /// `{ offset = N }`.
    Offset {
        /// The offset.
        offset: Offset,
    },
    /// `{ time = "…" }`.
    Time {
        /// The first message that is not older than this.
        time: Setting<Timestamp>,
    },
    /// `{ group = "…" }`.
    Group {
        /// A consumer group of Kafka: its committed offsets.
        group: Setting<String>,
    },
}

impl Start {
    /// As the type that readers take.
    pub fn at(&self) -> StartAt {
        match self {
            Start::End(end) => match **end {
                StartEnd::Oldest => StartAt::Oldest,
                StartEnd::Latest => StartAt::Latest,
            },
            Start::Offset { offset } => StartAt::Offset(*offset),
            Start::Time { time } => StartAt::Time(time.as_millisecond()),
            Start::Group { .. } => StartAt::Group,
        }
    }
}

words! {
    /// An end of a stream.
    StartEnd, "start", "a start" {
        /// The first message there is.
        Oldest = "oldest",
        /// After the last message there is.
        Latest = "latest",
    } later []
}

impl Written for Timestamp {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl FromText for Timestamp {
    const WHAT: &'static str = "a time";

    fn from_text(text: &str) -> Result<Timestamp, Problem> {
        text.parse().map_err(|_| {
            Problem::new(format!("{text:?} is not a time with an offset from UTC"))
                .help("such as \"2026-01-31T12:00:00Z\" or \"2026-01-31T13:00:00+01:00\"")
        })
    }
}

/// A store of a stage.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Store {
    /// Default: `rocksdb`, which has no need to fit in memory.
    #[serde(rename = "type")]
    pub kind: Setting<StoreKind>,
}

words! {
    /// How a store is kept at hand.
    StoreKind, "store type", "a store type" {
        /// On disk, with a cache.
        Rocksdb = "rocksdb",
        /// All in memory, counted against the job's cache; as durable as the other.
        Memory = "memory",
    } later []
}

/// `[stage.capabilities]`: what the component may reach. Default: nothing.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capabilities {
    /// Folders of the host.
    pub directories: Vec<Directory>,
    /// Names of environment variables of the host that the component sees.
    pub environment: Vec<String>,
    /// Which time the component sees. Default: `real`.
    pub clocks: Setting<Clocks>,
    /// Hosts and ports that the component may connect to over TCP.
    pub network: Vec<Setting<Remote>>,
    /// Whether the component may stop its task.
    pub request_stop: bool,
}

words! {
    /// Which time a component sees.
    Clocks, "clocks", "a clocks" {
        /// That of the machine.
        Real = "real",
        /// The store time of the batch, so that the same messages see the same time.
        StoreTime = "store-time",
    } later []
}

impl Default for Setting<Clocks> {
    fn default() -> Setting<Clocks> {
        Clocks::Real.into()
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Written for Remote {
    fn written(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromText for Remote {
    const WHAT: &'static str = "a host and a port";

    fn from_text(text: &str) -> Result<Remote, Problem> {
        let wrong = || {
            Problem::new(format!("{text:?} is not a host and a port"))
                .help("such as \"db.example:5432\" or \"[::1]:5432\"")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) => address,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || port == 0 || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        Ok(Remote {
            host: host.to_owned(),
            port,
        })
    }
}

/// A folder of the host that a component may use.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Directory {
    /// The folder. Required.
    pub host: Setting<PathBuf>,
    /// What it was when it was checked, without links.
    #[serde(skip)]
    pub real: PathBuf,
    /// Where the component finds it: an absolute path. Required.
    pub guest: Setting<String>,
    /// Whether the component may change what is in it. Default: no.
    pub write: bool,
}

/// A SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl Written for Sha256 {
    fn written(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromText for Sha256 {
    const WHAT: &'static str = "a hash";

    fn from_text(text: &str) -> Result<Sha256, Problem> {
        let wrong = |found: String| {
            Problem::new(format!(
                "a SHA-256 hash has 64 hexadecimal digits, this has {found}"
            ))
            .help("`sha256sum FILE` prints it")
        };
        if text.len() != 64 {
            return Err(wrong(format!("{} characters", text.chars().count())));
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(text.as_bytes().as_chunks().0) {
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(wrong("a character that is not one".to_owned()));
            };
            *byte = u8::try_from(high * 16 + low)
                .map_err(|_| wrong("a character that is not one".to_owned()))?;
        }
        Ok(Sha256(hash))
    }
}

fn inputs_by_port<S: Serializer>(inputs: &[InputPort], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Binding<'a> {
        stream: &'a str,
        start: &'a Start,
    }
    let mut map = serializer.serialize_map(Some(inputs.len()))?;
    for InputPort {
        port,
        stream,
        start,
    } in inputs
    {
        map.serialize_entry(port, &Binding { stream, start })?;
    }
    map.end()
}

fn outputs_by_port<S: Serializer>(
    outputs: &[OutputPort],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(outputs.iter().map(|output| (&output.port, &output.stream)))
}
