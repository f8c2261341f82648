//! Topics that brokers say are not there. A broker that has just begun to serve may not know one yet, so that is asked for a while before
//! it is believed.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cluster::Cluster;

/// For so long brokers must say it, without being away in between.
const BELIEVED: Duration = Duration::from_secs(10);
/// How often they are asked.
const EVERY: Duration = Duration::from_millis(500);

/// Whether a topic that is read is gone.
#[derive(Default)]
pub(super) struct Vanished {
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// Brokers are being asked.
    asks: bool,
    /// It is gone, and how.
    verdict: Option<&'static str>,
    /// Told when it is.
    readers: Vec<Arc<Notify>>,
}

impl Vanished {
    /// How the topic is gone, if it is.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        self.now.lock().verdict
    }

    /// It is there.
    pub(super) fn clear(&self) {
        self.now.lock().verdict = None;
    }

    /// A reader was told that it is not there. `id`: which topic it is.
    pub(super) fn ask(
        self: &Arc<Vanished>,
        cluster: &Arc<Cluster>,
        (topic, id): (&str, Option<&str>),
        reader: &Arc<Notify>,
    ) {
        let mut now = self.now.lock();
        now.readers.push(Arc::clone(reader));
        if std::mem::replace(&mut now.asks, true) {
            return;
        }
        let (own, cluster) = (Arc::downgrade(self), Arc::clone(cluster));
        let (topic, id) = (topic.to_owned(), id.map(str::to_owned));
        let asks = move || {
            let verdict = look(&own, &cluster, &topic, id.as_deref());
            if let Some(own) = own.upgrade() {
                own.conclude(verdict);
            }
        };
        let thread = thread::Builder::new().name("kafka-topic".to_owned());
        if thread.spawn(asks).is_err() {
            now.asks = false;
        }
    }

    fn conclude(&self, verdict: Option<&'static str>) {
        let mut now = self.now.lock();
        now.asks = false;
        now.verdict = verdict;
        now.readers.drain(..).for_each(|reader| reader.notify_one());
    }
}

/// Asks until it is there again, gone for good, or nobody wants to know.
fn look(
    own: &Weak<Vanished>,
    cluster: &Cluster,
    topic: &str,
    id: Option<&str>,
) -> Option<&'static str> {
    let mut since = Instant::now();
    loop {
        thread::sleep(EVERY);
        if own.strong_count() == 0 {
            return None;
        }
        match cluster
            .topics(&[topic])
            .map(|mut found| found.pop().flatten())
        {
            Ok(Some(found)) if id.is_none_or(|id| id == found.id) => return None,
            Ok(Some(_)) => {
                return Some(
                    "the topic was deleted and made anew: offsets mean other messages there",
                );
            }
            Ok(None) if since.elapsed() >= BELIEVED => {
                return Some("the topic does not exist any more");
            }
            Ok(None) => {}
            Err(_) => since = Instant::now(),
        }
    }
}
