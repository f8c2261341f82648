//! A topic that is read.

use std::sync::Arc;

use super::cluster::{ANSWER, Cluster, ClusterError, millis};
use super::mirror::{Author, author, metadata};
use super::native::{Client, Found, Partition};
use crate::connectors::{
    FetchBounds, Fetched, Input, Lost, Mirror, OpenAt, Polled, Progress, ProgressUnit, Ready,
    Source, SourceError,
};
use crate::model::{Clock, Offset, PartitionId, Position, StartAt};

/// `rd_kafka_consume_start_queue`: at the first message there is.
const BEGINNING: i64 = -2;

/// Where reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputEnd {
    /// Nowhere.
    Never,
    /// Where each partition ended when it was opened: everything that was committed by then is read.
    AtOpen,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct KafkaInputOptions {
    /// The topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Where it ends.
    pub end: InputEnd,
    /// The group whose committed offsets it begins at, if it is to begin at a group's.
    pub group: Option<String>,
    /// What the operator says of offsets that are not the job's.
    pub lost: Lost,
}

/// A topic as an input.
pub struct KafkaInput {
    cluster: Arc<Cluster>,
    options: Arc<KafkaInputOptions>,
    clock: Arc<dyn Clock>,
}

impl KafkaInput {
    /// A topic of a cluster. Messages without a timestamp have the time of reading.
    pub fn new(
        cluster: Arc<Cluster>,
        options: KafkaInputOptions,
        clock: Arc<dyn Clock>,
    ) -> KafkaInput {
        cluster.add_partitions(options.partitions);
        KafkaInput {
            cluster,
            options: Arc::new(options),
            clock,
        }
    }

    /// Where reading begins, and whether another start would choose another place.
    fn begin(&self, partition: u32, start: StartAt) -> Result<(i64, Option<Offset>), ClusterError> {
        let topic = &self.options.topic;
        let latest = || Ok::<_, ClusterError>(self.cluster.watermarks(topic, partition)?.1);
        let chosen = match start {
            StartAt::Oldest => return Ok((BEGINNING, None)),
            StartAt::Offset(offset) => return Ok((signed(offset), None)),
            StartAt::Latest => latest()?,
            StartAt::Group => self.offset_of_group(partition)?,
            StartAt::Time(time) => match self.cluster.offset_at(topic, partition, time)? {
                Some(offset) => offset,
                None => latest()?,
            },
        };
        Ok((signed(chosen), Some(chosen)))
    }
}

impl KafkaInput {
    /// Where another group stands.
    fn offset_of_group(&self, partition: u32) -> Result<Offset, ClusterError> {
        let topic = &self.options.topic;
        let group = self.options.group.as_deref().unwrap_or_default();
        let partitions = self.options.partitions;
        let committed = self.cluster.committed(Some(group), topic, partitions)?;
        let mut committed = committed.iter();
        if let Some(committed) = committed.find(|committed| committed.partition == partition) {
            return Ok(committed.offset);
        }
        let (oldest, end) = self.cluster.watermarks(topic, partition)?;
        match oldest == end {
            true => Ok(end),
            false => Err(self.cluster.error(format!(
                "group {group:?} has no committed offset of topic {topic:?}, partition {partition}, which holds offsets {oldest} up to, not including, {end}: the group has never read it, or its offsets have expired. Choose another `start`"
            ))),
        }
    }

    fn foreign(&self, what: String) -> SourceError {
        let (cluster, group) = (self.cluster.name(), &self.cluster.options().group_id);
        SourceError::Foreign {
            place: format!("Kafka cluster {cluster:?}, consumer group {group:?}"),
            what,
        }
    }
}

impl Mirror for KafkaInput {
    fn check(
        &self,
        state: Option<&[u8; 16]>,
        recorded: &[(PartitionId, Offset)],
    ) -> Result<(), SourceError> {
        let (topic, partitions) = (&self.options.topic, self.options.partitions);
        if self.options.lost == Lost::TakeOver {
            return Ok(());
        }
        for committed in self.cluster.committed(None, topic, partitions)? {
            let (partition, offset) = (committed.partition, committed.offset);
            let own = recorded.iter().find(|(of, _)| of.0 == partition);
            let own = own.map(|(_, offset)| *offset);
            let at = format!("topic {topic:?}, partition {partition}: offset {offset}");
            let what = match author(&committed.metadata, state) {
                Author::Own => continue,
                Author::Stranger if own == Some(offset) => continue,
                Author::Another => format!(
                    "another state directory reads for this job, and has committed {at}: give this job another `group-id`; or, once the other has stopped for good, `run --take-over` begins with what this directory has"
                ),
                Author::Stranger => {
                    let own = own.map_or("has not read it".to_owned(), |own| {
                        format!("goes on at offset {own}")
                    });
                    format!(
                        "something else has committed {at}, and the job {own}: positions are the job's. `wasm-host offsets set` moves them; `run --take-over` leaves them as they are, and overwrites what was committed"
                    )
                }
            };
            return Err(self.foreign(what));
        }
        Ok(())
    }

    fn note(&self, partition: PartitionId, next: Offset) {
        let (mirrored, topic) = (&self.cluster.mirrored, &self.options.topic);
        mirrored.note(topic, partition.0, next);
    }

    fn settle(&self, state: &[u8; 16], epoch: u64) {
        let (cluster, metadata) = (&*self.cluster, metadata(state, epoch));
        cluster.mirrored.settle(cluster, metadata);
    }

    fn finish(&self) {
        self.cluster.mirrored.finish(&self.cluster);
    }
}

impl Input for KafkaInput {
    fn mirror(&self) -> Option<&dyn Mirror> {
        Some(self)
    }

    fn offset_of(&self, partition: PartitionId, place: StartAt) -> Result<Offset, SourceError> {
        let (offset, chosen) = self.begin(partition.0, place)?;
        match (chosen, u64::try_from(offset)) {
            (Some(offset), _) | (None, Ok(offset)) => Ok(offset),
            (None, Err(_)) => {
                let topic = &self.options.topic;
                Ok(self.cluster.watermarks(topic, partition.0)?.0)
            }
        }
    }

    fn partitions(&self) -> u32 {
        self.options.partitions
    }

    fn bounded(&self) -> bool {
        self.options.end != InputEnd::Never
    }

    fn rewindable(&self) -> bool {
        true
    }

    fn polls_may_block(&self) -> bool {
        false
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let (offset, begins_at) = match at {
            OpenAt::Position(position) => (signed(position.next), None),
            OpenAt::Start(start) => self.begin(partition.0, start)?,
        };
        let topic = &self.options.topic;
        let client = self.cluster.reader(topic, partition.0)?;
        let lease = Lease {
            cluster: Arc::clone(&self.cluster),
            client: Arc::clone(&client),
            topic: topic.clone(),
            partition: partition.0,
        };
        let failed = |why: String| lease.error(u64::try_from(offset).ok(), &why);
        let mut next = u64::try_from(offset).ok();
        let end = match self.options.end {
            InputEnd::Never => None,
            InputEnd::AtOpen => {
                let asked = client.ask_watermarks(topic, partition.0, millis(ANSWER));
                let (oldest, end) = asked.map_err(failed)?;
                // An empty partition ends where it begins.
                next = next.or((oldest == end).then_some(end));
                Some(end)
            }
        };
        let opened = Partition::open(client, topic, partition.0.cast_signed(), offset);
        let opened = opened.map_err(failed)?;
        Ok(Box::new(KafkaSource {
            next,
            passed: None,
            at_end: false,
            end,
            begins_at: begins_at.map(|next| Position { next, detail: None }),
            clock: Arc::clone(&self.clock),
            partition: opened,
            lease,
        }))
    }
}

/// The right to read a partition with a client.
struct Lease {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    topic: String,
    partition: u32,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cluster
            .leave(&self.client, &self.topic, self.partition);
    }
}

impl Lease {
    fn error(&self, at: Option<Offset>, why: &str) -> SourceError {
        let (cluster, topic, partition) = (self.cluster.name(), &self.topic, self.partition);
        let at = at.map(|at| format!(", offset {at}")).unwrap_or_default();
        SourceError::Kafka {
            place: format!("Kafka cluster {cluster:?}, topic {topic:?}, partition {partition}{at}"),
            what: self.cluster.error(why).what,
        }
    }
}

struct KafkaSource {
    /// Where reading goes on. `None`: at the first message there is, wherever that is.
    next: Option<Offset>,
    /// The same, if it has changed without a message.
    passed: Option<Offset>,
    /// Everything that there is has been read.
    at_end: bool,
    /// Where it ends.
    end: Option<Offset>,
    begins_at: Option<Position>,
    clock: Arc<dyn Clock>,
    /// Before the lease, which gives the client back.
    partition: Partition,
    lease: Lease,
}

impl KafkaSource {
    /// The end, if everything before it has been read. What comes after it is another start's.
    fn reached_end(&self) -> Option<Polled> {
        let end = self.end.filter(|end| self.next >= Some(*end))?;
        let at = Position {
            next: end,
            detail: None,
        };
        Some(Polled::End { at })
    }

    fn out_of_range(&self) -> SourceError {
        match (self.next, self.partition.watermarks()) {
            (Some(offset), Some((oldest, end))) => SourceError::OffsetOutOfRange {
                offset,
                oldest,
                end,
            },
            _ => self
                .lease
                .error(self.next, "the offset does not exist (any more)"),
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        if let Some(end) = self.reached_end() {
            return Ok(end);
        }
        let mut fetched = Fetched::default();
        let found = self.partition.read(
            (bounds.messages, bounds.bytes),
            self.clock.now_ms(),
            &mut fetched.offsets,
            &mut fetched.messages,
        );
        match found {
            Found::Messages => {
                self.at_end = false;
                self.passed = None;
                self.next = fetched.offsets.last().map(|last| last + 1);
                if let Some(end) = self.end {
                    let within = fetched.offsets.partition_point(|offset| *offset < end);
                    drop(fetched.split_off(within));
                    if within == 0 {
                        return self.poll(bounds);
                    }
                }
                Ok(Polled::Messages(fetched))
            }
            Found::Nothing => Ok(Polled::Idle),
            Found::End(at) => {
                self.at_end = true;
                if self.next != Some(at) {
                    self.next = Some(at);
                    self.passed = Some(at);
                }
                Ok(self.reached_end().unwrap_or(Polled::Idle))
            }
            Found::Undecodable {
                offset,
                raw,
                length,
                reason,
            } => {
                self.next = Some(offset + 1);
                self.passed = None;
                Ok(Polled::Undecodable {
                    offset,
                    raw,
                    length,
                    reason,
                    start_detail: None,
                    end_detail: None,
                })
            }
            Found::Failed {
                out_of_range: true, ..
            } => Err(self.out_of_range()),
            Found::Failed { why, .. } => Err(self.lease.error(self.next, &why)),
        }
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.partition.filled.notified())
    }

    fn has_read_all(&self) -> bool {
        self.at_end
    }

    fn progress(&self) -> Option<Progress> {
        let (oldest, end) = self.partition.watermarks()?;
        Some(Progress {
            done: self.next.unwrap_or(oldest),
            total: end,
            unit: ProgressUnit::Messages,
        })
    }

    fn begins_at(&self) -> Option<Position> {
        self.begins_at.clone()
    }

    fn passed(&mut self) -> Result<Option<Position>, SourceError> {
        let passed = self.passed.take();
        Ok(passed.map(|next| Position { next, detail: None }))
    }
}

impl From<ClusterError> for SourceError {
    fn from(error: ClusterError) -> SourceError {
        SourceError::Kafka {
            place: format!("Kafka cluster {:?}", error.cluster),
            what: error.what,
        }
    }
}

fn signed(offset: Offset) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
