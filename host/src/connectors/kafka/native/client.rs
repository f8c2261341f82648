//! A client of librdkafka: its settings, the thread that serves its callbacks, and what these have noted.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientConfig;
use rdkafka::bindings as c;
use rdkafka::types::{RDKafkaRespErr, RDKafkaType};

use super::{c_string, meaning, text};
use crate::model::{Clock as _, Offset, SystemClock};

/// How long the thread of a client waits for callbacks, ms; it is woken when the client ends.
const SERVED_MS: c_int = 1000;
/// The API key of EndTxn in Kafka's protocol.
const END_TXN: i16 = 26;

thread_local! {
    /// The code of the last error that this thread was called back with: who takes from a queue is, for some of what the queue holds.
    pub(super) static CALLED_BACK: Cell<Option<c_int>> = const { Cell::new(None) };
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Role {
    /// Reading.
    Consumer,
    /// Writing.
    Producer,
}

/// Whether the brokers of a cluster can be reached, by what its clients were told last. They share it.
#[derive(Debug, Default)]
pub(in super::super) struct Health {
    now: Mutex<HealthNow>,
}

/// What is known of the brokers of a cluster.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct HealthNow {
    /// The connections that are open: client, and broker.
    up: BTreeSet<(usize, String)>,
    /// Since when none is, ms since the Unix epoch.
    pub(in super::super) away_since: Option<i64>,
    /// The last error, of any client.
    pub(in super::super) error: Option<String>,
    /// It was said that none is.
    said: bool,
}

/// For so long brokers may be away before that is said, ms: they are when one takes over from another.
const SILENT_MS: i64 = 1000;

impl Health {
    /// What is known now.
    pub(in super::super) fn now(&self) -> HealthNow {
        self.now.lock().clone()
    }

    /// What the brokers, or the way to them, have said last.
    pub(in super::super) fn last_error(&self) -> Option<String> {
        self.now.lock().error.clone()
    }

    /// Notes an error. With no connection open, it says that the brokers are away: a connection that is closed because it was idle is
    /// opened again only when it is needed.
    pub(in super::super) fn note_error(&self, error: String) {
        let is_closed = error.contains("Disconnected (after") && error.contains("in state UP");
        if is_closed {
            return;
        }
        let mut now = self.now.lock();
        if now.up.is_empty() {
            now.away_since.get_or_insert_with(|| SystemClock.now_ms());
        }
        now.error = Some(error);
    }

    /// Notes a line of a client's log. That a connection failed does not always come as an error, too.
    pub(in super::super) fn note_log(&self, facility: &str, line: &str) {
        if facility == "FAIL" {
            let (_, error) = line.split_once("]: ").unwrap_or(("", line));
            self.note_error(error.to_owned());
        }
    }

    fn note_connection(&self, connection: (usize, String), is_up: bool) {
        let mut now = self.now.lock();
        match is_up {
            true => {
                now.up.insert(connection);
                now.away_since = None;
                now.error = None;
            }
            false => {
                now.up.remove(&connection);
            }
        }
    }

    /// Says that no broker can be reached, once, and that one can be again.
    fn say(&self, cluster: &str) {
        let mut now = self.now.lock();
        match now.away_since {
            Some(since) if !now.said && SystemClock.now_ms() - since >= SILENT_MS => {
                now.said = true;
                let error = now.error.clone();
                drop(now);
                let why = error.map(|error| format!(": {error}")).unwrap_or_default();
                tracing::warn!(
                    "Kafka cluster {cluster:?}: no broker can be reached{why}; the job waits, and goes on by itself"
                );
            }
            None if now.said => {
                now.said = false;
                drop(now);
                tracing::info!("Kafka cluster {cluster:?}: brokers can be reached again");
            }
            _ => {}
        }
    }

    /// A client is gone, and its connections with it.
    fn forget(&self, client: usize) {
        self.now.lock().up.retain(|(of, _)| *of != client);
    }
}

/// What the callbacks of a client note.
#[derive(Debug)]
pub(super) struct Notes {
    cluster: String,
    health: Arc<Health>,
    /// How often EndTxn was sent.
    pub(super) end_txn_sent: AtomicU64,
    /// Messages that were sent and of which nothing was heard yet.
    pub(super) outstanding: AtomicU64,
    /// The first message of a transaction that was not delivered, and why.
    pub(super) undelivered: Mutex<Option<String>>,
    /// Why the client has given up a transaction, which it says in its log alone.
    pub(super) transaction_error: Mutex<Option<String>>,
}

/// A client of a cluster.
#[derive(Debug)]
pub(in super::super) struct Client {
    rk: NonNull<c::rd_kafka_t>,
    pub(super) notes: Arc<Notes>,
    ends: Arc<AtomicBool>,
    serving: Arc<Serving>,
    served: Option<JoinHandle<()>>,
}

// SAFETY: librdkafka's handles may be used by any thread at any time.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// Who serves callbacks: the thread of the client, or who has taken the turn from it.
#[derive(Debug, Default)]
struct Serving {
    turn: Mutex<()>,
    /// Somebody waits for the turn.
    wanted: AtomicBool,
}

/// A handle that the serving thread may have.
struct Served(NonNull<c::rd_kafka_t>);

// SAFETY: as for `Client`.
unsafe impl Send for Served {}

impl Client {
    /// Starts a client. It connects by itself, now and again after a loss.
    ///
    /// # Errors
    /// A setting is unknown or has no such value; or what it needs of the system is not there. In words.
    pub(in super::super) fn new(
        config: &ClientConfig,
        role: Role,
        cluster: &str,
        health: &Arc<Health>,
    ) -> Result<Client, String> {
        let config = config
            .create_native_config()
            .map_err(|error| error.to_string())?;
        let notes = Arc::new(Notes {
            cluster: cluster.to_owned(),
            health: Arc::clone(health),
            end_txn_sent: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            undelivered: Mutex::new(None),
            transaction_error: Mutex::new(None),
        });
        let opaque = Arc::as_ptr(&notes).cast_mut().cast::<c_void>();
        let kind = match role {
            Role::Consumer => RDKafkaType::RD_KAFKA_CONSUMER,
            Role::Producer => RDKafkaType::RD_KAFKA_PRODUCER,
        };
        let mut why = [0 as c_char; 512];
        // SAFETY: the settings are valid until `rd_kafka_new` takes them, which it does only if it succeeds; `notes` lives until the
        // client is destroyed, which is when the last callback has ended.
        let rk = unsafe {
            let conf = config.ptr();
            c::rd_kafka_conf_set_opaque(conf, opaque);
            c::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            c::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            if role == Role::Producer {
                c::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
            }
            c::rd_kafka_conf_interceptor_add_on_new(conf, NAME.as_ptr(), Some(on_new), opaque);
            let config = ManuallyDrop::new(config);
            let rk = c::rd_kafka_new(kind, conf, why.as_mut_ptr(), why.len());
            if rk.is_null() {
                drop(ManuallyDrop::into_inner(config));
            }
            NonNull::new(rk)
        };
        let Some(rk) = rk else {
            // SAFETY: librdkafka has written a string with a zero at its end.
            return Err(unsafe { text(why.as_ptr()) });
        };
        let mut client = Client {
            rk,
            notes,
            ends: Arc::default(),
            serving: Arc::default(),
            served: None,
        };
        let served = client.serve();
        client.served =
            Some(served.map_err(|error| format!("a thread cannot be started: {error}"))?);
        Ok(client)
    }

    /// Starts the thread that serves callbacks.
    fn serve(&self) -> io::Result<JoinHandle<()>> {
        let (served, notes) = (Served(self.rk), Arc::clone(&self.notes));
        let (ends, serving) = (Arc::clone(&self.ends), Arc::clone(&self.serving));
        let serve = move || {
            let served = served;
            while !ends.load(Ordering::Acquire) {
                let turn = serving.turn.lock();
                if !serving.wanted.load(Ordering::Acquire) {
                    // SAFETY: the client joins this thread before it destroys the handle.
                    unsafe { c::rd_kafka_poll(served.0.as_ptr(), SERVED_MS) };
                }
                MutexGuard::unlock_fair(turn);
                notes.health.say(&notes.cluster);
            }
        };
        thread::Builder::new().name("kafka".to_owned()).spawn(serve)
    }

    pub(super) fn ptr(&self) -> *mut c::rd_kafka_t {
        self.rk.as_ptr()
    }

    /// The right to serve callbacks, which the thread of the client gives away until it is dropped.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.serving.wanted.store(true, Ordering::Release);
        self.wake_server();
        let turn = self.serving.turn.lock();
        self.serving.wanted.store(false, Ordering::Release);
        turn
    }

    /// Whoever serves callbacks returns at once, now or when it begins.
    fn wake_server(&self) {
        // SAFETY: the client lives, and the queue is ours until it is destroyed here.
        unsafe {
            let main = c::rd_kafka_queue_get_main(self.ptr());
            c::rd_kafka_queue_yield(main);
            c::rd_kafka_queue_destroy(main);
        }
    }

    /// The first offset of a partition, and the one after the last that this client would read. Asks the brokers.
    ///
    /// # Errors
    /// In words.
    pub(in super::super) fn ask_watermarks(
        &self,
        topic: &str,
        partition: u32,
        timeout_ms: i32,
    ) -> Result<(Offset, Offset), String> {
        let (topic, mut low, mut high) = (c_string(topic), -1, -1);
        // SAFETY: the name and the numbers live during the call.
        let code = unsafe {
            c::rd_kafka_query_watermark_offsets(
                self.ptr(),
                topic.as_ptr(),
                partition.cast_signed(),
                &raw mut low,
                &raw mut high,
                timeout_ms,
            )
        };
        let offset = |offset: i64| u64::try_from(offset).unwrap_or_default();
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((offset(low), offset(high))),
            code => Err(format!("its ends are not known: {}", meaning(code))),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        self.wake_server();
        if let Some(thread) = self.served.take() {
            // It cannot panic.
            let _ = thread.join();
        }
        // SAFETY: the handle is valid until it is destroyed here, when nothing else uses it any more: what borrows from the client
        // holds it, and the thread has ended.
        unsafe { c::rd_kafka_destroy_flags(self.ptr(), RDKAFKA_NO_CLOSE) };
        self.notes.health.forget(Arc::as_ptr(&self.notes).addr());
    }
}

/// There is no group to leave.
const RDKAFKA_NO_CLOSE: c_int = 0x8;

const NAME: &std::ffi::CStr = c"wasm-host";

/// # Safety
/// `opaque` is that of a client that lives.
unsafe fn notes_of<'a>(opaque: *mut c_void) -> &'a Notes {
    // SAFETY: a client's opaque is its notes, and lives as long.
    unsafe { &*opaque.cast::<Notes>() }
}

unsafe extern "C" fn on_new(
    rk: *mut c::rd_kafka_t,
    _: *const c::rd_kafka_conf_t,
    opaque: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> RDKafkaRespErr {
    // SAFETY: this is the place where interceptors are added, before any thread of the client runs.
    unsafe {
        c::rd_kafka_interceptor_add_on_request_sent(rk, NAME.as_ptr(), Some(on_request), opaque);
        c::rd_kafka_interceptor_add_on_broker_state_change(
            rk,
            NAME.as_ptr(),
            Some(on_broker),
            opaque,
        );
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

unsafe extern "C" fn on_request(
    _: *mut c::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    api_key: i16,
    _: i16,
    _: i32,
    _: usize,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    if api_key == END_TXN {
        // SAFETY: callbacks have the opaque of their client.
        let notes = unsafe { notes_of(opaque) };
        notes.end_txn_sent.fetch_add(1, Ordering::AcqRel);
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

unsafe extern "C" fn on_broker(
    _: *mut c::rd_kafka_t,
    _: i32,
    _: *const c_char,
    name: *const c_char,
    port: c_int,
    state: *const c_char,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    // SAFETY: callbacks have the opaque of their client, and strings that live during the call.
    let (notes, name, state) = unsafe { (notes_of(opaque), text(name), text(state)) };
    let connection = (std::ptr::from_ref(notes).addr(), format!("{name}:{port}"));
    match state.as_str() {
        "UP" => notes.health.note_connection(connection, true),
        "DOWN" | "TRY_CONNECT" | "INIT" => notes.health.note_connection(connection, false),
        _ => {}
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

unsafe extern "C" fn on_log(
    rk: *const c::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: callbacks are of a client that lives, and have strings that live during the call.
    let (notes, facility, line) =
        unsafe { (notes_of(c::rd_kafka_opaque(rk)), text(facility), text(line)) };
    notes.health.note_log(&facility, &line);
    if facility == "TXNERR" {
        notes.transaction_error.lock().get_or_insert(line.clone());
    }
    tracing::debug!(cluster = %notes.cluster, level, "{facility}: {line}");
}

unsafe extern "C" fn on_error(
    _: *mut c::rd_kafka_t,
    code: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: callbacks have the opaque of their client, and strings that live during the call.
    let (notes, reason) = unsafe { (notes_of(opaque), text(reason)) };
    // A thread that ends has nobody to tell.
    let _ = CALLED_BACK.try_with(|noted| noted.set(Some(code)));
    // "All brokers are down" says less than what came before it.
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int {
        notes.health.note_error(reason);
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut c::rd_kafka_t,
    message: *const c::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: callbacks have the opaque of their client, and a message that lives during the call.
    let (notes, message) = unsafe { (notes_of(opaque), &*message) };
    if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: a message of a producer has a topic.
        let topic = unsafe { text(c::rd_kafka_topic_name(message.rkt)) };
        let why = format!(
            "a message to topic {topic:?}, partition {}: {}",
            message.partition,
            meaning(message.err)
        );
        notes.undelivered.lock().get_or_insert(why);
    }
    notes.outstanding.fetch_sub(1, Ordering::AcqRel);
}
