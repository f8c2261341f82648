//! Committed offsets with their metadata, which may be any bytes.

use std::ffi::c_void;

use rdkafka::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::{meaning, text};
use crate::model::Offset;

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Committed {
    pub(in super::super) topic: String,
    pub(in super::super) partition: u32,
    pub(in super::super) offset: Offset,
    pub(in super::super) metadata: Vec<u8>,
}

/// What a list of committed offsets says; partitions without one are left out.
///
/// # Errors
/// One of them could not be had. In words.
pub(in super::super) fn committed(list: &TopicPartitionList) -> Result<Vec<Committed>, String> {
    let mut found = Vec::new();
    // SAFETY: the list lives during the call, and so do its elements.
    let elements = unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        match list.elems.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(list.elems, count),
        }
    };
    for element in elements {
        // SAFETY: as above.
        let topic = unsafe { text(element.topic) };
        if element.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            let why = meaning(element.err);
            return Err(format!(
                "topic {topic:?}, partition {}: {why}",
                element.partition
            ));
        }
        let (Ok(offset), Ok(partition)) = (
            u64::try_from(element.offset),
            u32::try_from(element.partition),
        ) else {
            continue;
        };
        found.push(Committed {
            topic,
            partition,
            offset,
            // SAFETY: as above.
            metadata: unsafe { bytes(element.metadata, element.metadata_size) }.to_vec(),
        });
    }
    Ok(found)
}

/// # Safety
/// It is null, or has so many bytes, and lives as long as what is returned.
unsafe fn bytes<'a>(data: *const c_void, size: usize) -> &'a [u8] {
    match data.is_null() {
        true => &[],
        // SAFETY: as this function's.
        false => unsafe { std::slice::from_raw_parts(data.cast(), size) },
    }
}
