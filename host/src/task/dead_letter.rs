//! Dead letters: the original message, with headers that say where it came from and why it is here.

use super::{DeadLetters, Task};
use crate::model::{HeadersColumn, InputIndex, MessageRef, Offset, PartitionId};
use crate::runtime::sha256;

/// Why a message goes to the dead letters.
pub(super) struct Reason<'a> {
    /// A word: `rejected`, or that of a fault.
    pub(super) kind: &'a str,
    /// For a person.
    pub(super) reason: &'a str,
    /// The guest's own detail.
    pub(super) detail: Option<&'a [u8]>,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// How many bytes the value has, if it may have been cut before.
    pub(super) length: Option<u64>,
}

impl Task {
    /// Stages a message as a dead letter. It belongs to the batch like everything that the guest sends.
    pub(super) fn stage_dead_letter(
        &mut self,
        to: &DeadLetters,
        input: InputIndex,
        offset: Offset,
        message: MessageRef<'_>,
        why: &Reason<'_>,
    ) {
        let info = &self.options.info;
        let partition = info.id.partition;
        let now = self.options.clock.now_ms();
        let text = [
            ("wasm-host.job", info.job.clone()),
            ("wasm-host.stage", info.stage.clone()),
            ("wasm-host.task", info.name()),
            ("wasm-host.stream", self.stream_of(input).0.clone()),
            ("wasm-host.partition", partition.to_string()),
            ("wasm-host.offset", offset.to_string()),
            ("wasm-host.kind", why.kind.to_owned()),
            ("wasm-host.reason", why.reason.to_owned()),
            ("wasm-host.attempts", why.attempts.to_string()),
            ("wasm-host.time", now.to_string()),
        ];
        let limit = self.guest.component().limits().value_bytes;
        let cut = message.value.and_then(|value| {
            let short = &value[..value.len().min(limit)];
            match why.length {
                // What follows has not been read together with it, so its hash is not known.
                Some(length) if length > value.len() as u64 => Some((short, format!("{length};"))),
                _ if short.len() < value.len() => {
                    Some((short, format!("{};{}", value.len(), sha256(value))))
                }
                _ => None,
            }
        });
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = message.headers().collect();
        headers.extend(
            text.iter()
                .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))),
        );
        if let Some(detail) = why.detail {
            headers.push((b"wasm-host.detail", Some(detail)));
        }
        if let Some((_, note)) = &cut {
            headers.push((b"wasm-host.cut", Some(note.as_bytes())));
        }
        let mut column = HeadersColumn::default();
        column.push(headers.into_iter());
        let value = cut.as_ref().map_or(message.value, |(value, _)| Some(value));
        let letter =
            MessageRef::new(message.key, value, message.timestamp).with_headers(&column, 0);
        let partition = match message.key {
            Some(key) => crate::model::partition_of_key(key, to.partitions),
            None => partition.0 % to.partitions,
        };
        let port = to.port;
        self.guest
            .context_mut()
            .send(port, PartitionId(partition), letter);
    }
}
