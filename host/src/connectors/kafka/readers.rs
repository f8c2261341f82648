//! What reads a cluster: the clients that partitions are read with, and where their positions are mirrored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::cluster::{Cluster, ClusterError};
use super::mirror::Mirrored;
use super::native::Client;

/// What reads a cluster, for all streams in it.
pub struct Readers {
    pub(super) cluster: Arc<Cluster>,
    pub(super) mirrored: Mirrored,
    /// How many partitions the job reads.
    partitions: AtomicU32,
    clients: Mutex<Vec<Reading>>,
}

/// A client, and what it reads. It can read a partition once at a time.
struct Reading {
    client: Arc<Client>,
    partitions: BTreeSet<(String, u32)>,
}

impl Readers {
    /// Nothing is read yet.
    pub fn new(cluster: &Arc<Cluster>) -> Readers {
        Readers {
            cluster: Arc::clone(cluster),
            mirrored: Mirrored::new(cluster),
            partitions: AtomicU32::new(0),
            clients: Mutex::default(),
        }
    }

    /// The job reads so many more partitions, which share what may be fetched ahead.
    pub(super) fn add_partitions(&self, partitions: u32) {
        self.partitions.fetch_add(partitions, Ordering::AcqRel);
    }

    /// The right to read a partition, with a client that does not read it yet.
    pub(super) fn lease(
        self: &Arc<Readers>,
        topic: &str,
        partition: u32,
    ) -> Result<Lease, ClusterError> {
        Ok(Lease {
            client: self.client(topic, partition)?,
            readers: Arc::clone(self),
            topic: topic.to_owned(),
            partition,
        })
    }

    fn client(&self, topic: &str, partition: u32) -> Result<Arc<Client>, ClusterError> {
        let place = (topic.to_owned(), partition);
        let mut clients = self.clients.lock();
        for reading in clients.iter_mut() {
            if reading.partitions.insert(place.clone()) {
                return Ok(Arc::clone(&reading.client));
            }
        }
        let partitions = u64::from(self.partitions.load(Ordering::Acquire).max(1));
        let share = self.cluster.options().fetch_memory / partitions;
        let client = Arc::new(self.cluster.consumer(share)?);
        clients.push(Reading {
            client: Arc::clone(&client),
            partitions: BTreeSet::from([place]),
        });
        Ok(client)
    }
}

/// The right to read a partition with a client.
pub(super) struct Lease {
    pub(super) client: Arc<Client>,
    pub(super) topic: String,
    pub(super) partition: u32,
    readers: Arc<Readers>,
}

impl Lease {
    pub(super) fn cluster(&self) -> &Cluster {
        &self.readers.cluster
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut clients = self.readers.clients.lock();
        let mut reading = clients.iter_mut();
        let reading = reading.find(|reading| Arc::ptr_eq(&reading.client, &self.client));
        if let Some(reading) = reading {
            let place = (std::mem::take(&mut self.topic), self.partition);
            reading.partitions.remove(&place);
        }
        // The first stays: others come back to it.
        let mut at = 0;
        clients.retain(|reading| {
            at += 1;
            at == 1 || !reading.partitions.is_empty()
        });
    }
}
