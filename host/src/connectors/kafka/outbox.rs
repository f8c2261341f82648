//! Topics that are written: what an epoch has for all of them is one transaction, with a mark as its last record.
//!
//! The mark is read before the transactional id is taken, so that a job that lives elsewhere is not disturbed; and again after that,
//! when nobody else can write another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cluster::{Cluster, set_unless_set};
use super::marker::{self, Marker, Verdict, verdict};
use super::marks::Marks;
use super::native::{Client, Producer, Role};
use super::parcel::{self, Damaged};
use super::transaction::{Failed, Plain, State, Transactions};
use crate::connectors::{
    Carrier, Lost, Output, Parcel, PlaceError, SinkError, TransactionTook, Writers,
};
use crate::disk::Disk;
use crate::model::{Account, Clock as _, Mark, MessageBounds, MessageRef, Messages, SystemClock};

/// How often a message is written that was sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Once, for readers of committed records.
    ExactlyOnce,
    /// Once, or again after a crash.
    AtLeastOnce,
}

/// How a carrier is made.
pub struct CarrierOptions {
    /// The id of the cluster, as its brokers say it.
    pub cluster_id: String,
    /// Of all topics that it writes.
    pub guarantee: Guarantee,
    /// What the operator says of a mark that is lost or foreign.
    pub lost: Lost,
    /// Told of each step.
    pub disk: Disk,
}

/// Delivers to the topics of a cluster.
pub struct KafkaCarrier {
    name: String,
    cluster: Arc<Cluster>,
    options: CarrierOptions,
    /// The topics of streams.
    topics: Mutex<BTreeMap<String, WrittenTopic>>,
    now: Mutex<Now>,
    marks: Marks,
    figures: Figures,
}

/// A topic that is written.
#[derive(Debug, Clone)]
pub struct WrittenTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What it refuses.
    pub bounds: MessageBounds,
}

/// What a carrier has done, for any thread to read.
#[derive(Debug, Default)]
pub struct Figures {
    /// Transactions that were committed.
    pub transactions: AtomicU64,
    /// Producers that were replaced because EndTxn was sent more than once.
    pub stale: AtomicU64,
    /// Producers that were replaced because something failed.
    pub broken: AtomicU64,
    waiting: Mutex<Option<Waiting>>,
    took: Mutex<Option<TransactionTook>>,
}

/// A delivery that does not succeed.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Since when.
    pub since: Instant,
    /// The same by the wall clock, ms since the Unix epoch.
    pub since_ms: i64,
    /// Why the last attempt failed.
    pub why: String,
}

impl Figures {
    /// The delivery that does not succeed, if there is one.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().clone()
    }

    /// How long the parts of the last transaction took.
    pub fn took(&self) -> Option<TransactionTook> {
        *self.took.lock()
    }
}

/// What it is at.
#[derive(Default)]
struct Now {
    transactions: Option<Transactions>,
    /// A producer without transactions.
    plain: Option<Producer>,
    /// It has delivered something.
    has_delivered: bool,
    /// The largest batch that the producer sends.
    batch: u64,
    /// The state directory, once it was recovered.
    account: Option<Account>,
    /// The last mark that was seen, or written: another one is somebody else's.
    last: Option<Marker>,
}

/// The largest batch. Readers have whole batches in memory, and larger ones cost brokers hardly less.
const BATCH: u64 = 256 << 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);

impl KafkaCarrier {
    /// A carrier. Nobody is asked yet.
    pub fn new(cluster: Arc<Cluster>, options: CarrierOptions) -> KafkaCarrier {
        let kind = match options.guarantee {
            Guarantee::ExactlyOnce => "",
            Guarantee::AtLeastOnce => "/at-least-once",
        };
        KafkaCarrier {
            name: format!("{}{kind}", options.cluster_id),
            marks: Marks::new(&cluster),
            cluster,
            options,
            topics: Mutex::default(),
            now: Mutex::default(),
            figures: Figures::default(),
        }
    }

    /// What it has done.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    fn transactional_id(&self) -> String {
        format!("{}.outbox", self.cluster.options().group_id)
    }

    fn unavailable(&self, what: impl Into<String>) -> SinkError {
        self.cluster.error(what).into()
    }

    fn before(&self, step: &'static str) -> Result<(), SinkError> {
        let answer = self.options.disk.before(step);
        answer.map_err(|error| self.unavailable(error.to_string()))
    }

    /// A topic refuses a batch that is larger than a record may be.
    fn batch_bytes(&self) -> u64 {
        let topics = self.topics.lock();
        let least = topics.values().map(|topic| topic.bounds.bytes).min();
        least.unwrap_or(u64::MAX).clamp(1, BATCH)
    }

    fn new_producer(&self) -> Result<Producer, SinkError> {
        let options = self.cluster.options();
        let timeout = options.transaction_timeout.as_millis().to_string();
        // The client holds a copy of what is being delivered.
        let queue = (options.epoch_bytes.saturating_mul(2) >> 10).clamp(65_536, 2_097_151);
        let mut config = self.cluster.settings();
        // Batches grow until they are full: what is left at the end is flushed.
        set_unless_set(&mut config, "linger.ms", "100");
        let wanted = config
            .get("batch.size")
            .and_then(|wanted| wanted.parse().ok());
        let batch = self.batch_bytes().min(wanted.unwrap_or(u64::MAX));
        config
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", &timeout)
            .set("queue.buffering.max.kbytes", queue.to_string())
            .set("queue.buffering.max.messages", "10000000")
            .set("message.max.bytes", "100000000")
            .set("batch.size", batch.to_string());
        if self.options.guarantee == Guarantee::ExactlyOnce {
            config
                .set("transactional.id", self.transactional_id())
                .set("transaction.timeout.ms", &timeout);
        }
        let (name, health) = (self.cluster.name(), self.cluster.health());
        let client = Client::new(&config, Role::Producer, name, health);
        Ok(Producer::new(client.map_err(|why| self.unavailable(why))?))
    }

    /// A producer that has the transactional id.
    fn take_id(&self, gives_up: &dyn Fn() -> bool) -> Result<Transactions, SinkError> {
        self.before("kafka.init")?;
        let timeout = self.cluster.options().transaction_timeout;
        let mut transactions = Transactions::new(
            self.new_producer()?,
            timeout,
            !self.options.disk.trusts_ends(),
        );
        transactions
            .init(gives_up)
            .map_err(|why| self.unavailable(why))?;
        Ok(transactions)
    }

    /// The last mark, now that nobody else can write one: transactions that were left open end.
    fn last_mark_of_mine(&self, gives_up: &dyn Fn() -> bool) -> Result<Option<Marker>, SinkError> {
        self.before("kafka.marker")?;
        match self.marks.last(true) {
            Err(SinkError::Unavailable(_)) if !gives_up() => {
                // A broker may have forgotten to end one, and does so with the next that touches the partition.
                self.touch()?;
                self.marks.last(true)
            }
            last => last,
        }
    }

    /// A transaction over the topic of the marks, without effect.
    fn touch(&self) -> Result<(), SinkError> {
        let failed = |why: Failed| self.unavailable(why);
        let mut lone = self.take_id(&|| false)?;
        lone.begin().map_err(failed)?;
        let nothing = MessageRef::new(Some(marker::KEY), Some(b""), SystemClock.now_ms());
        lone.send(&self.marks.topic(), 0, &nothing)
            .map_err(failed)?;
        lone.drain(&|| false).map_err(failed)?;
        lone.abort().map_err(failed)
    }

    /// One attempt.
    fn attempt(
        &self,
        now: &mut Now,
        (mark, parcels): (&Mark, &[Parcel<'_>]),
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), SinkError> {
        let account = now.account.unwrap_or_default();
        let marker = Marker::new(&account.state, mark);
        if now.last.as_ref().is_some_and(|last| last.is_of(&marker)) {
            return Ok(());
        }
        let mut transactions = match now.transactions.take() {
            // A topic that came since may take less at a time.
            Some(ready) if ready.is_ready() && now.batch <= self.batch_bytes() => ready,
            _ => {
                now.batch = self.batch_bytes();
                let ready = self.take_id(gives_up)?;
                let last = self.last_mark_of_mine(gives_up)?;
                if last.as_ref().is_some_and(|last| last.is_of(&marker)) {
                    now.last = last;
                    now.transactions = Some(ready);
                    return Ok(());
                }
                if last != now.last {
                    let host = last.map(|last| last.host).unwrap_or_default();
                    return Err(self.marks.foreign(format!(
                        "another host has delivered for this job since ({host}): this one stops, and what it has not delivered stays in its state directory"
                    )));
                }
                ready
            }
        };
        let sent = self.transact(&mut transactions, &marker, parcels, gives_up);
        match transactions.state() {
            State::Stale => {
                self.figures.stale.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    cluster = self.cluster.name(),
                    "the end of a transaction was sent more than once: its producer is replaced"
                );
            }
            State::Broken => {
                self.figures.broken.fetch_add(1, Ordering::Relaxed);
            }
            _ => now.transactions = Some(transactions),
        }
        sent.map_err(|why| self.unavailable(why))?;
        now.last = Some(marker);
        self.figures.transactions.fetch_add(1, Ordering::Relaxed);
        self.before("kafka.committed")
    }

    fn transact(
        &self,
        transactions: &mut Transactions,
        marker: &Marker,
        parcels: &[Parcel<'_>],
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), Failed> {
        let text = |error: SinkError| error.to_string();
        self.before("kafka.begin").map_err(text)?;
        transactions.begin()?;
        self.before("kafka.send").map_err(text)?;
        let begun = Instant::now();
        self.send(parcels, &mut |topic, partition, message| {
            transactions.send(topic, partition, message)
        })?;
        let encoded = marker.encode();
        let mark = MessageRef::new(Some(marker::KEY), Some(&encoded), SystemClock.now_ms());
        transactions.send(&self.marks.topic(), 0, &mark)?;
        let sent = Instant::now();
        self.before("kafka.drain").map_err(text)?;
        transactions.drain(gives_up)?;
        let drained = Instant::now();
        self.before("kafka.commit").map_err(text)?;
        transactions.commit()?;
        let took = TransactionTook {
            send: sent - begun,
            drain: drained - sent,
            commit: drained.elapsed(),
        };
        *self.figures.took.lock() = Some(took);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(
            cluster = self.cluster.name(),
            epoch = marker.epoch,
            send_us = micros(took.send),
            drain_us = micros(took.drain),
            commit_us = micros(took.commit),
            "transaction"
        );
        Ok(())
    }

    fn send(
        &self,
        parcels: &[Parcel<'_>],
        send: &mut dyn FnMut(&str, i32, &MessageRef<'_>) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let topics = self.topics.lock();
        for parcel in parcels {
            let Some(topic) = topics.get(parcel.stream) else {
                return Err(format!("stream {:?} is no topic of it", parcel.stream));
            };
            let partition = parcel.partition.0.cast_signed();
            parcel::each(parcel.encoded, &mut |message| {
                send(&topic.name, partition, message)
            })?;
        }
        Ok(())
    }

    /// Whether what a state directory holds for delivery can be read.
    fn verify(&self, parcels: &[Parcel<'_>]) -> Result<(), SinkError> {
        let mut parcels = parcels.iter();
        let damaged = |parcel: &&Parcel<'_>| {
            parcel::each::<Damaged>(parcel.encoded, &mut |_| Ok(())).is_err()
        };
        match parcels.find(damaged) {
            None => Ok(()),
            Some(parcel) => Err(SinkError::Foreign(PlaceError::new(
                format!("stream {:?}, partition {}", parcel.stream, parcel.partition),
                "what the state directory holds for delivery is damaged, or of a newer version: restore a copy of the directory, or run the newer wasm-host",
            ))),
        }
    }

    /// The first partition that is written and has lost copies: brokers may refuse to write to it, and the client does not say so.
    fn short_of_copies(&self) -> Option<String> {
        let names: Vec<String> = {
            let topics = self.topics.lock();
            topics.values().map(|topic| topic.name.clone()).collect()
        };
        let marks = (self.options.guarantee == Guarantee::ExactlyOnce).then(|| self.marks.topic());
        let mut names = names.into_iter().chain(marks);
        names.find_map(|name| self.cluster.short_of_copies(&name))
    }

    /// Sends without a transaction, and waits until the brokers have it.
    fn send_plainly(
        &self,
        producer: &mut Producer,
        parcels: &[Parcel<'_>],
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), SinkError> {
        self.before("kafka.send")?;
        let timeout = self.cluster.options().transaction_timeout;
        let failed = |why: Failed| self.unavailable(why);
        let mut plain = Plain { producer, timeout };
        self.send(parcels, &mut |topic, partition, message| {
            plain.send(topic, partition, message)
        })
        .map_err(failed)?;
        self.before("kafka.drain")?;
        plain.drain(gives_up).map_err(failed)
    }

    /// Attempts until one succeeds, with growing pauses.
    fn until_delivered(
        &self,
        mut attempt: impl FnMut() -> Result<(), SinkError>,
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), SinkError> {
        let mut pause = BACKOFF_FIRST;
        loop {
            let error = match attempt() {
                Ok(()) => break,
                Err(error @ SinkError::Unavailable(_)) if !gives_up() => error,
                Err(SinkError::Unavailable(error)) => return Err(self.given_up(error)),
                Err(error) => return Err(error),
            };
            self.note_waiting(error, self.short_of_copies());
            let until = Instant::now() + pause;
            while Instant::now() < until && !gives_up() {
                std::thread::sleep(Duration::from_millis(20));
            }
            pause = (pause * 2).min(BACKOFF_MOST);
        }
        if let Some(waiting) = self.figures.waiting.lock().take() {
            let took = waiting.since.elapsed().as_secs_f64();
            tracing::info!(
                "Kafka cluster {:?}: output is delivered again, after {took:.1} s",
                self.cluster.name()
            );
        }
        Ok(())
    }

    /// Why nothing was delivered before the job stopped: rather what it waited for than that it waits no more.
    fn given_up(&self, error: PlaceError) -> SinkError {
        let why = self.figures.waiting().map(|waiting| waiting.why);
        let why = why.unwrap_or_else(|| error.to_string());
        SinkError::Unavailable(PlaceError::new(
            why,
            "the job stops, and the next start delivers it",
        ))
    }

    fn note_waiting(&self, error: SinkError, more: Option<String>) {
        let more = more.map(|more| format!("; {more}")).unwrap_or_default();
        let why = error.to_string() + &more;
        let mut waiting = self.figures.waiting.lock();
        match &mut *waiting {
            Some(waiting) => waiting.why = why,
            None => {
                tracing::warn!(
                    "{why}; output waits, and is delivered as soon as the cluster takes it"
                );
                *waiting = Some(Waiting {
                    since: Instant::now(),
                    since_ms: SystemClock.now_ms(),
                    why,
                });
            }
        }
    }
}

impl Carrier for KafkaCarrier {
    fn name(&self) -> &str {
        &self.name
    }

    fn encode(&self, messages: &Messages, into: &mut Vec<u8>) {
        parcel::encode(messages, into);
    }

    fn check(&self, account: &Account) -> Result<(), SinkError> {
        // While it delivers it is open, and that may take long.
        let is_open = self.now.try_lock().is_none_or(|now| now.account.is_some());
        if is_open || self.options.guarantee == Guarantee::AtLeastOnce {
            return Ok(());
        }
        let last = self.marks.last(false)?;
        match verdict(account, last.as_ref(), self.options.lost) {
            Verdict::Refuse(why) => Err(self.marks.foreign(why)),
            Verdict::Deliver | Verdict::Delivered => Ok(()),
        }
    }

    fn recover(&self, account: &Account) -> Result<bool, SinkError> {
        let mut now = self.now.lock();
        if self.options.guarantee == Guarantee::AtLeastOnce {
            now.account = Some(*account);
            return Ok(false);
        }
        self.marks.make_topic()?;
        let batch = self.batch_bytes();
        let transactions = self.take_id(&|| false)?;
        let last = self.last_mark_of_mine(&|| false)?;
        let verdict = verdict(account, last.as_ref(), self.options.lost);
        let is_lost = last.is_none() && account.delivered.is_some();
        *now = Now {
            transactions: Some(transactions),
            plain: None,
            has_delivered: false,
            batch,
            account: Some(*account),
            last,
        };
        // The operator has said what is to become of it: the next start has a mark again.
        let pending = account.pending.filter(|_| verdict == Verdict::Delivered);
        if let (true, Some(mark)) = (is_lost, pending.or(account.delivered))
            && !matches!(verdict, Verdict::Refuse(_))
        {
            self.attempt(&mut now, (&mark, &[]), &|| false)?;
        }
        match verdict {
            Verdict::Refuse(why) => Err(self.marks.foreign(why)),
            Verdict::Deliver => Ok(false),
            Verdict::Delivered => Ok(true),
        }
    }

    fn deliver(
        &self,
        mark: &Mark,
        parcels: &[Parcel<'_>],
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), SinkError> {
        let mut now = self.now.lock();
        // What comes later was encoded by this process.
        if !std::mem::replace(&mut now.has_delivered, true) {
            self.verify(parcels)?;
        }
        match self.options.guarantee {
            Guarantee::ExactlyOnce => self.until_delivered(
                || self.attempt(&mut now, (mark, parcels), gives_up),
                gives_up,
            ),
            Guarantee::AtLeastOnce => self.until_delivered(
                || {
                    // One that has failed is not used again.
                    let producer = now.plain.take();
                    let mut producer = producer.map_or_else(|| self.new_producer(), Ok)?;
                    self.send_plainly(&mut producer, parcels, gives_up)?;
                    now.plain = Some(producer);
                    Ok(())
                },
                gives_up,
            ),
        }
    }
}

/// A topic that is written.
pub struct KafkaOutput {
    carrier: Arc<dyn Carrier>,
    topic: WrittenTopic,
    guarantee: Guarantee,
}

impl KafkaOutput {
    /// A stream that is a topic.
    pub fn new(carrier: &Arc<KafkaCarrier>, stream: &str, topic: WrittenTopic) -> KafkaOutput {
        let mut topics = carrier.topics.lock();
        topics.insert(stream.to_owned(), topic.clone());
        drop(topics);
        KafkaOutput {
            guarantee: carrier.options.guarantee,
            carrier: Arc::clone(carrier) as Arc<dyn Carrier>,
            topic,
        }
    }
}

impl Output for KafkaOutput {
    fn partitions(&self) -> u32 {
        self.topic.partitions
    }

    fn bounds(&self) -> Option<MessageBounds> {
        Some(self.topic.bounds)
    }

    fn may_repeat(&self) -> bool {
        self.guarantee == Guarantee::AtLeastOnce
    }

    fn writers(&self) -> Writers<'_> {
        Writers::Together(&self.carrier)
    }
}
