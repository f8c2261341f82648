//! Appending to log streams for callers outside: where each message goes, and who hears of it.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::model::{Messages, Offset, PartitionId, partition_of_key};

/// Why messages were not appended.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// They cannot be: nothing was.
    #[error("{0}")]
    Refused(String),
    /// Whether they were is unknown.
    #[error("{0}")]
    Unknown(String),
}

/// Where each message is.
pub type Produced = Result<Vec<(PartitionId, Offset)>, ProduceError>;

/// A message to be appended to a log stream.
pub struct Produce {
    /// Where to; `None`: by key, or round robin.
    pub partition: Option<PartitionId>,
    /// One message.
    pub message: Messages,
}

/// Messages by partition, and where each of them is among those of its partition.
pub struct Placed {
    /// What to append.
    pub by_partition: BTreeMap<PartitionId, Messages>,
    /// For each message in order: its partition, and its index among that partition's.
    pub places: Vec<(PartitionId, u64)>,
}

/// Gives each message its partition: the one it names, else by key, else round robin.
///
/// # Errors
/// A message names a partition that does not exist.
pub fn place(
    messages: Vec<Produce>,
    partitions: u32,
    round_robin: &mut u64,
) -> Result<Placed, String> {
    let mut placed = Placed {
        by_partition: BTreeMap::new(),
        places: Vec::with_capacity(messages.len()),
    };
    for produce in messages {
        let partition = match (produce.partition, produce.message.key(0)) {
            (Some(partition), _) if partition.0 < partitions => partition,
            (Some(partition), _) => {
                return Err(format!(
                    "partition {partition} does not exist: the stream has {partitions}"
                ));
            }
            (None, Some(key)) => PartitionId(partition_of_key(key, partitions)),
            (None, None) => {
                *round_robin += 1;
                PartitionId(u32::try_from((*round_robin - 1) % u64::from(partitions)).unwrap_or(0))
            }
        };
        let into = placed.by_partition.entry(partition).or_default();
        placed.places.push((partition, into.len() as u64));
        into.push(produce.message.get(0));
    }
    Ok(placed)
}

/// An append for a caller outside. Its caller is answered whatever becomes of it: an append that is dropped before it has begun
/// answers that the job has ended, because nothing was appended.
pub(super) struct PendingAppend {
    places: Vec<(PartitionId, u64)>,
    reply: oneshot::Sender<Produced>,
}

impl PendingAppend {
    pub(super) fn new(
        places: Vec<(PartitionId, u64)>,
        reply: oneshot::Sender<Produced>,
    ) -> PendingAppend {
        PendingAppend { places, reply }
    }

    /// The write begins: from here on a caller without an answer must not assume that nothing was appended.
    pub(super) fn begin(self) -> BegunAppend {
        BegunAppend {
            places: self.places,
            reply: Some(self.reply),
        }
    }
}

/// An append whose write has begun.
pub(super) struct BegunAppend {
    places: Vec<(PartitionId, u64)>,
    reply: Option<oneshot::Sender<Produced>>,
}

impl BegunAppend {
    /// The messages are durable (the first offset in each partition), or why that is unknown.
    pub(super) fn answer(mut self, appended: Result<BTreeMap<PartitionId, Offset>, String>) {
        let places = std::mem::take(&mut self.places);
        self.send(match appended {
            Ok(first) => {
                let offset = |(partition, index): (PartitionId, u64)| {
                    let first = first.get(&partition).copied().unwrap_or_default();
                    (partition, first + index)
                };
                Ok(places.into_iter().map(offset).collect())
            }
            Err(why) => Err(ProduceError::Unknown(why)),
        });
    }

    fn send(&mut self, produced: Produced) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(produced);
        }
    }
}

impl Drop for BegunAppend {
    fn drop(&mut self) {
        let why = "the job ended while the messages were being appended";
        self.send(Err(ProduceError::Unknown(why.into())));
    }
}
