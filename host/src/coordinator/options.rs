//! What a job is made of, typed and ready: the coordinator reads no files and knows no text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::letters::StageLetters;
use crate::checkpoint::catalog::{Drops, JobShape, StageShape, StreamShape};
use crate::checkpoint::decide::{CadenceOptions, Wanted};
use crate::checkpoint::logs::{LogStream, Retention};
use crate::checkpoint::outputs::ExternalStream;
use crate::connectors::log::Unread;
use crate::connectors::{Input, Output, Remote};
use crate::disk::Disk;
use crate::model::{Clock, MessageBounds, ProbationLength, StartAt, StreamId};
use crate::records::{StreamRecord, SwapState, TopicRecord};
use crate::runtime::Component;
use crate::state::{DbOptions, Durability, StoreKind};
use crate::task::Rules;

/// Ends the process after a time, if it has not ended by itself.
pub type LastResort = Arc<dyn Fn(Duration) + Send + Sync>;

/// A job.
pub struct JobOptions {
    /// Its name.
    pub name: String,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Bytes that must be free on its file system.
    pub disk_reserve: u64,
    /// The database's settings.
    pub db: DbOptions,
    /// Bytes of committed values at hand.
    pub cache_bytes: u64,
    /// Threads that run guests at a time.
    pub workers: usize,
    /// Instances that may live at a time.
    pub instances_max: usize,
    /// When to checkpoint.
    pub cadence: CadenceOptions,
    /// Consecutive failed attempts tolerated.
    pub tolerate_failures: u32,
    /// Of one attempt.
    pub checkpoint_timeout: Duration,
    /// From the wish to stop to the interruption of running calls.
    pub drain_timeout: Duration,
    /// What a checkpoint survives.
    pub durability: Durability,
    /// The streams that stages use, by name.
    pub streams: BTreeMap<String, StreamOptions>,
    /// The stages.
    pub stages: Vec<StageOptions>,
    /// What the operator allows to be deleted.
    pub drops: Drops,
    /// End when all inputs are read and nothing is to be done.
    pub until_idle: bool,
    /// Only this task is there, by its name. It passes over the message that it is held at, and ends.
    pub skips: Option<String>,
    /// Places that it depends on, for those who ask how they are.
    pub remotes: Vec<Arc<dyn Remote>>,
    /// Reads a stage again, for other code. `None`: its code stays.
    pub loader: Option<Arc<dyn StageLoader>>,
    /// Called once when the job is asked to stop, or a task has failed, with the time that the end may take at most.
    pub last_resort: LastResort,
    /// Told of each durable step.
    pub disk: Disk,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Reads stages of a job that runs.
pub trait StageLoader: Send + Sync {
    /// A stage as the job declares it now, with this component, or with the one that the job names. `enter` is told what it does.
    ///
    /// # Errors
    /// Why it cannot be used, as a sentence.
    fn load(
        &self,
        stage: &str,
        component: Option<Vec<u8>>,
        enter: &dyn Fn(SwapState),
    ) -> Result<LoadedStage, String>;
}

/// A stage as the job declares it now.
pub struct LoadedStage {
    /// The stage.
    pub options: StageOptions,
    /// The streams that it uses.
    pub streams: BTreeMap<String, StreamOptions>,
}

/// A stream.
pub struct StreamOptions {
    /// The name of its system, as it is recorded in the state directory.
    pub system: String,
    /// Its partitions.
    pub partitions: u32,
    /// How it is read. `None`: it cannot be.
    pub reads: Option<Reads>,
    /// How it is written. `None`: it cannot be.
    pub writes: Option<Writes>,
    /// The topic that it is, if it is one.
    pub topic: Option<TopicRecord>,
    /// Messages a second that are read of it, all partitions together.
    pub max_rate: Option<f64>,
}

impl StreamOptions {
    /// A stream of the embedded log, which is read and written.
    pub fn log(partitions: u32, retention: Retention, max_rate: Option<f64>) -> StreamOptions {
        let unread = match retention.drop_unread {
            true => Unread::Dropped,
            false => Unread::Kept,
        };
        StreamOptions {
            system: StreamRecord::LOG.to_owned(),
            partitions,
            reads: Some(Reads::Log(unread)),
            writes: Some(Writes::Log(retention)),
            topic: None,
            max_rate,
        }
    }

    /// What the state directory must fit.
    pub fn shape(&self) -> StreamShape {
        StreamShape {
            partitions: self.partitions,
            system: self.system.clone(),
            topic: self.topic.clone(),
        }
    }

    /// Whether its place can be moved back.
    pub fn is_rewindable(&self) -> bool {
        self.input().is_none_or(|input| input.rewindable())
    }

    /// Why what was read of it may not be there when it is to be read again, if that may be.
    pub fn why_not_again(&self) -> Option<&'static str> {
        let drops_unread =
            matches!(&self.writes, Some(Writes::Log(retention)) if retention.drop_unread);
        if !self.is_rewindable() {
            Some("cannot be read again, which a way back needs")
        } else if drops_unread {
            Some(
                "may be deleted before it is read (`drop-unread`), and a way back would not find it again",
            )
        } else {
            None
        }
    }

    /// How it is written in the embedded log, if it is.
    pub fn log_of(&self, id: StreamId, letters: bool) -> Option<LogStream> {
        match &self.writes {
            Some(Writes::Log(retention)) => Some(LogStream {
                id,
                partitions: self.partitions,
                retention: *retention,
                letters,
            }),
            Some(Writes::Outbox(_)) | None => None,
        }
    }

    /// How it is written outside of the database, if it is.
    pub fn external(&self, id: StreamId, name: &str) -> Option<ExternalStream> {
        let output = Arc::clone(self.output()?);
        let name = name.to_owned();
        Some(ExternalStream { id, name, output })
    }

    /// How it is read from outside of the database, if it is.
    pub fn input(&self) -> Option<&Arc<dyn Input>> {
        match &self.reads {
            Some(Reads::External(input)) => Some(input),
            Some(Reads::Log(_)) | None => None,
        }
    }

    /// What is refused of what is written to it.
    pub fn bounds(&self) -> Option<MessageBounds> {
        self.output().and_then(|output| output.bounds())
    }

    /// How it is written outside of the database, if it is.
    pub fn output(&self) -> Option<&Arc<dyn Output>> {
        match &self.writes {
            Some(Writes::Outbox(output)) => Some(output),
            Some(Writes::Log(_)) | None => None,
        }
    }
}

/// Where the messages of a stream are read.
#[derive(Clone)]
pub enum Reads {
    /// In the embedded log.
    Log(Unread),
    /// Outside of the database.
    External(Arc<dyn Input>),
}

/// When the messages that an epoch sends to a stream are written.
#[derive(Clone)]
pub enum Writes {
    /// In the write that commits the epoch: to the embedded log.
    Log(Retention),
    /// After that write: they are in the checkpoint until the output has them.
    Outbox(Arc<dyn Output>),
}

/// How new code of a stage is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwapOptions {
    /// How long. `None`: it is not.
    pub probation: Option<ProbationLength>,
    /// How many times as much processor time a message may take as before, percent; 0: any.
    pub slowdown_percent: u32,
    /// How many bytes of output and of old state may be held.
    pub hold_bytes: u64,
    /// How long a migration of the state may take.
    pub migration_timeout: Duration,
}

/// A stage.
#[derive(Clone)]
pub struct StageOptions {
    /// Its name.
    pub name: String,
    /// Its code.
    pub component: Arc<Component>,
    /// The SHA-256 of the component in the job's file, if it was looked at.
    pub file: Option<String>,
    /// Why this code is to run.
    pub wanted: Wanted,
    /// The code before, which may come back: that of a probation that goes on, or the recorded one if this one is another.
    pub before: Option<Arc<Component>>,
    /// How new code is watched.
    pub swap: SwapOptions,
    /// The version of the state that its code reads and writes; 0: it names none.
    pub state_version: u32,
    /// Code that takes over before anything is processed, because the state has to be migrated for it.
    pub successor: Option<Box<StageOptions>>,
    /// Its tasks.
    pub partitions: u32,
    /// Its inputs in order.
    pub inputs: Vec<InputOptions>,
    /// Its output ports in order: port, stream.
    pub outputs: Vec<(String, String)>,
    /// Its rules for what goes wrong.
    pub rules: Rules,
    /// The stream of dead letters.
    pub dead_letters: Option<String>,
    /// The log of dead letters that are to be processed again, with a partition for each task.
    pub replay_queue: Option<String>,
    /// The store for the keys that wait for a dead letter, if their order is kept. Guests do not know it.
    pub parked_store: Option<String>,
    /// Messages of a batch at most.
    pub batch_messages: usize,
    /// A batch ends when it has this many bytes.
    pub batch_bytes: usize,
    /// Its stores in order.
    pub stores: Vec<(String, StoreKind)>,
    /// Whether its guests may ask to be stopped.
    pub may_request_stop: bool,
}

/// An input of a stage.
#[derive(Clone)]
pub struct InputOptions {
    /// The name that guests use.
    pub port: String,
    /// The stream.
    pub stream: String,
    /// Where to begin if no position is stored.
    pub start: StartAt,
}

impl JobOptions {
    /// The stages that have dead letters.
    pub fn letters(&self) -> Vec<StageLetters> {
        let stages = self.stages.iter().filter_map(|stage| {
            let stream = stage.dead_letters.as_ref()?;
            let writes = self.streams[stream].writes.as_ref();
            let inputs = stage.inputs.iter().map(|input| input.stream.clone());
            Some(StageLetters {
                stage: stage.name.clone(),
                inputs: inputs.collect(),
                partitions: stage.partitions,
                stream: stream.clone(),
                in_log: matches!(writes, Some(Writes::Log(_))),
                in_order: stage.parked_store.is_some(),
            })
        });
        stages.collect()
    }

    /// What the state directory must fit.
    pub fn shape(&self) -> JobShape {
        let stage = |stage: &StageOptions| {
            let shape = StageShape {
                partitions: stage.partitions,
                component: stage.component.sha256().to_owned(),
                state_version: stage.state_version,
                file: stage.file.clone(),
                wanted: stage.wanted,
                stores: {
                    let own = stage.stores.iter().map(|(name, _)| name);
                    own.chain(&stage.parked_store).cloned().collect()
                },
            };
            (stage.name.clone(), shape)
        };
        let stream = |(name, stream): (&String, &StreamOptions)| (name.clone(), stream.shape());
        JobShape {
            stages: self.stages.iter().map(stage).collect(),
            streams: self.streams.iter().map(stream).collect(),
        }
    }
}
