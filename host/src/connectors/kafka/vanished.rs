//! Topics that brokers say are not there. A broker that has just begun to serve may not know one yet, so that is asked for a while before
//! it is believed.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cluster::{Cluster, ClusterError};

/// For so long brokers must say it, without being away in between.
const BELIEVED: Duration = Duration::from_secs(10);
/// How often they are asked.
const EVERY: Duration = Duration::from_millis(500);

/// How a topic is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Anew,
    Missing,
}

impl Gone {
    fn why(self) -> &'static str {
        match self {
            Gone::Anew => "the topic was deleted and made anew: offsets mean other messages there",
            Gone::Missing => "the topic does not exist any more",
        }
    }
}

/// A topic that is read, and whether it is gone.
pub(super) struct Vanished {
    cluster: Arc<Cluster>,
    topic: String,
    /// Its id, if it is known: another topic of the same name is not it.
    id: Option<String>,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// Brokers are being asked.
    asks: bool,
    verdict: Option<Gone>,
    /// Told when it is.
    readers: Vec<Arc<Notify>>,
}

impl Vanished {
    pub(super) fn new(cluster: &Arc<Cluster>, topic: &str, id: Option<String>) -> Vanished {
        Vanished {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            id,
            now: Mutex::default(),
        }
    }

    /// How the topic is gone, if it is.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        self.now.lock().verdict.map(Gone::why)
    }

    /// Asks now. Without an id, nothing can be said of another topic of the name.
    ///
    /// # Errors
    /// It is gone. In words.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.id.is_none() {
            return Ok(());
        }
        match self.look() {
            // Brokers that are away are waited for by the client.
            Err(_) => Ok(()),
            Ok(Some(gone)) => Err(gone.why()),
            Ok(None) => {
                self.now.lock().verdict = None;
                Ok(())
            }
        }
    }

    /// A reader was told that it is not there.
    pub(super) fn ask(self: &Arc<Vanished>, reader: &Arc<Notify>) {
        let mut now = self.now.lock();
        now.readers.push(Arc::clone(reader));
        if std::mem::replace(&mut now.asks, true) {
            return;
        }
        let own = Arc::downgrade(self);
        let thread = thread::Builder::new().name("kafka-topic".to_owned());
        if thread.spawn(move || until_known(&own)).is_err() {
            now.asks = false;
        }
    }

    fn look(&self) -> Result<Option<Gone>, ClusterError> {
        let mut found = self.cluster.topics(&[&self.topic])?;
        Ok(match (found.pop().flatten(), &self.id) {
            (None, _) => Some(Gone::Missing),
            (Some(found), Some(id)) if found.id != *id => Some(Gone::Anew),
            (Some(_), _) => None,
        })
    }

    fn conclude(&self, verdict: Option<Gone>) {
        let mut now = self.now.lock();
        now.asks = false;
        now.verdict = verdict;
        now.readers.drain(..).for_each(|reader| reader.notify_one());
    }
}

/// Asks until it is there again, gone for good, or nobody wants to know.
fn until_known(vanished: &Weak<Vanished>) {
    let mut since = Instant::now();
    loop {
        thread::sleep(EVERY);
        let Some(vanished) = vanished.upgrade() else {
            return;
        };
        match vanished.look() {
            Err(_) => since = Instant::now(),
            Ok(Some(Gone::Missing)) if since.elapsed() < BELIEVED => {}
            Ok(known) => return vanished.conclude(known),
        }
    }
}
