//! A topic that is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cluster::{ANSWER, Cluster, ClusterError, millis};
use super::mirror::{Author, author, metadata};
use super::native::{Committed, Found, Partition};
use super::offsets::offset_of;
use super::readers::{Lease, Readers};
use super::vanished::Vanished;
use crate::connectors::{
    FetchBounds, Fetched, Input, Lost, Mirror, OpenAt, PlaceError, Polled, Progress, ProgressUnit,
    Ready, Source, SourceError,
};
use crate::model::{Clock, Offset, PartitionId, Position, StartAt};

/// `rd_kafka_consume_start_queue`: at the first message there is.
const BEGINNING: i64 = -2;

/// For how long it is asked which offsets there are, when one is not, ms.
const RANGE_MS: i32 = 2000;

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
    /// The id of the topic, if brokers were asked.
    pub topic_id: Option<String>,
}

/// A topic as an input.
pub struct KafkaInput {
    readers: Arc<Readers>,
    options: KafkaInputOptions,
    clock: Arc<dyn Clock>,
    /// What the group has committed that it begins at, once it was asked for.
    of_group: Mutex<Option<Vec<Committed>>>,
    /// Partitions that have been opened.
    opened: Mutex<BTreeSet<u32>>,
    vanished: Arc<Vanished>,
}

impl KafkaInput {
    /// A topic of a cluster. Messages without a timestamp have the time of reading.
    pub fn new(
        readers: Arc<Readers>,
        options: KafkaInputOptions,
        clock: Arc<dyn Clock>,
    ) -> KafkaInput {
        readers.add_partitions(options.partitions);
        let id = options.topic_id.clone();
        let vanished = Vanished::new(&readers.cluster, &options.topic, id);
        KafkaInput {
            readers,
            options,
            clock,
            of_group: Mutex::default(),
            opened: Mutex::default(),
            vanished: Arc::new(vanished),
        }
    }

    /// Where reading begins, and whether another start would choose another place.
    fn begin(&self, partition: u32, start: StartAt) -> Result<(i64, Option<Offset>), ClusterError> {
        let topic = &self.options.topic;
        let latest = || Ok::<_, ClusterError>(self.cluster().watermarks(topic, partition)?.1);
        let chosen = match start {
            StartAt::Oldest => return Ok((BEGINNING, None)),
            StartAt::Offset(offset) => return Ok((signed(offset), None)),
            StartAt::Latest => latest()?,
            StartAt::Group => self.offset_of_group(partition)?,
            StartAt::Time(time) => match self.cluster().offset_at(topic, partition, time)? {
                Some(offset) => offset,
                None => latest()?,
            },
        };
        Ok((signed(chosen), Some(chosen)))
    }

    /// Where another group stands.
    fn offset_of_group(&self, partition: u32) -> Result<Offset, ClusterError> {
        let topic = &self.options.topic;
        let group = self.options.group.as_deref().unwrap_or_default();
        if let Some(offset) = self.committed_of_group(group, partition)? {
            return Ok(offset);
        }
        let (oldest, end) = self.cluster().watermarks(topic, partition)?;
        match oldest == end {
            true => Ok(end),
            false => Err(self.cluster().error(format!(
                "group {group:?} has no committed offset of topic {topic:?}, partition {partition}, which holds offsets {oldest} up to, not including, {end}: the group has never read it, or its offsets have expired. Choose another `start`"
            ))),
        }
    }

    /// What the group has committed of a partition. All are asked for at once, when the first needs it.
    fn committed_of_group(
        &self,
        group: &str,
        partition: u32,
    ) -> Result<Option<Offset>, ClusterError> {
        let (topic, partitions) = (&self.options.topic, self.options.partitions);
        let mut found = self.of_group.lock();
        let committed = match found.take() {
            Some(committed) => committed,
            None => self.cluster().committed(Some(group), topic, partitions)?,
        };
        let offset = offset_of(&committed, partition);
        *found = Some(committed);
        Ok(offset)
    }

    /// What is opened again may have failed because its topic was deleted, and there may be another of its name.
    fn check_is_same(&self, partition: u32) -> Result<(), SourceError> {
        if self.opened.lock().insert(partition) {
            return Ok(());
        }
        self.vanished.check().map_err(|what| {
            let place = self.cluster().place_of(&self.options.topic, partition);
            SourceError::Foreign(PlaceError::new(place, what))
        })
    }

    /// An offset behind what is committed may be that of a transaction that is open, or of nothing.
    fn check_exists(&self, partition: u32, offset: Option<Offset>) -> Result<(), SourceError> {
        let Some(offset) = offset else { return Ok(()) };
        let topic = &self.options.topic;
        match self.cluster().watermarks(topic, partition)? {
            (_, end) if offset <= end => Ok(()),
            (oldest, end) => Err(SourceError::OffsetOutOfRange {
                place: Some(self.cluster().place_of(topic, partition)),
                offset,
                oldest,
                end,
            }),
        }
    }

    fn cluster(&self) -> &Cluster {
        &self.readers.cluster
    }

    fn foreign(&self, what: String) -> SourceError {
        let (cluster, group) = (self.cluster().name(), &self.cluster().options().group_id);
        let place = format!("Kafka cluster {cluster:?}, consumer group {group:?}");
        SourceError::Foreign(PlaceError::new(place, what))
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
        for committed in self.cluster().committed(None, topic, partitions)? {
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
        let topic = &self.options.topic;
        self.readers.mirrored.note(topic, partition.0, next);
    }

    fn settle(&self, state: &[u8; 16], epoch: u64) {
        self.readers.mirrored.settle(metadata(state, epoch));
    }

    fn finish(&self) {
        if !self.readers.mirrored.finish() {
            let cluster = self.cluster();
            tracing::warn!(
                "{}",
                cluster.error("the last positions were not committed in time: tools may show older ones; the job goes on with its own")
            );
        }
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
                Ok(self.cluster().watermarks(topic, partition.0)?.0)
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
        self.check_is_same(partition.0)?;
        let (offset, begins_at) = match at {
            OpenAt::Position(position) => (signed(position.next), None),
            OpenAt::Start(start) => self.begin(partition.0, start)?,
        };
        let topic = &self.options.topic;
        let lease = self.readers.lease(topic, partition.0)?;
        let client = Arc::clone(&lease.client);
        let failed = |why: String| lease.error(u64::try_from(offset).ok(), &why);
        let mut next = u64::try_from(offset).ok();
        let end = match self.options.end {
            InputEnd::Never => None,
            InputEnd::AtOpen => {
                let asked = client.ask_watermarks(topic, partition.0, millis(ANSWER));
                let (oldest, end) = asked.map_err(failed)?;
                // An empty partition ends where it begins.
                next = next.or((oldest == end).then_some(end));
                self.check_exists(partition.0, next.filter(|next| *next > end))?;
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
            vanished: Arc::clone(&self.vanished),
            partition: opened,
            lease,
        }))
    }
}

impl Lease {
    fn error(&self, at: Option<Offset>, why: &str) -> SourceError {
        let at = at.map(|at| format!(", offset {at}")).unwrap_or_default();
        let place = self.place() + &at;
        SourceError::Unavailable(PlaceError::new(place, self.cluster().error(why).what))
    }

    fn place(&self) -> String {
        self.cluster().place_of(&self.topic, self.partition)
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
    vanished: Arc<Vanished>,
    /// Before the lease, which gives the client back.
    partition: Partition,
    lease: Lease,
}

impl KafkaSource {
    /// The end, if everything before it has been read. What comes after it is another start's.
    fn reached_end(&self) -> Option<Polled> {
        let end = self.end.filter(|end| self.next >= Some(*end))?;
        let next = self.next.unwrap_or(end);
        let at = Position { next, detail: None };
        Some(Polled::End { at })
    }

    fn out_of_range(&self) -> SourceError {
        let Lease {
            client,
            topic,
            partition,
            ..
        } = &self.lease;
        // A broker has just answered, so this does not wait for long; and the task stops with it.
        let asked = client.ask_watermarks(topic, *partition, RANGE_MS);
        match (self.next, asked) {
            (Some(offset), Ok((oldest, end))) => SourceError::OffsetOutOfRange {
                place: Some(self.lease.place()),
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
        if let Some(why) = self.vanished.verdict() {
            return Err(self.lease.error(self.next, why));
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
            Found::Gone => {
                self.at_end = false;
                self.vanished.ask(&self.partition.filled);
                Ok(Polled::Idle)
            }
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

fn signed(offset: Offset) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
