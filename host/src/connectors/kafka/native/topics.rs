//! What identifies a topic: its id, which another topic of the same name does not have.

use std::ffi::c_int;
use std::ptr::NonNull;

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaRespErr;

use super::{c_string, meaning, text};

/// A topic, as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum DescribedTopic {
    /// It is there.
    Known {
        /// Its id, as Kafka's tools print it.
        id: String,
        /// How many partitions it has.
        partitions: u32,
    },
    /// There is none.
    Missing,
    /// It may not be looked at, or is unavailable. In words.
    Refused(String),
}

/// Asks the brokers for topics; answers in the order of the names.
///
/// # Errors
/// They did not answer in time, or not as a whole. In words.
pub(in super::super) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    timeout_ms: c_int,
) -> Result<Vec<DescribedTopic>, String> {
    let owned: Vec<_> = names.iter().map(|name| c_string(name)).collect();
    let mut pointers: Vec<_> = owned.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: everything that is made here lives until it is destroyed below; the descriptions live as long as the event.
    unsafe {
        let queue = c::rd_kafka_queue_new(client.native_ptr());
        let options = c::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut why = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(
            options,
            timeout_ms,
            why.as_mut_ptr(),
            why.len(),
        );
        let topics =
            c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        c::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        let event = NonNull::new(c::rd_kafka_queue_poll(
            queue,
            timeout_ms.saturating_add(1000),
        ));
        let described = match event {
            None => Err("the brokers did not answer in time".to_owned()),
            Some(event) => {
                let described = described(event.as_ptr());
                c::rd_kafka_event_destroy(event.as_ptr());
                described
            }
        };
        c::rd_kafka_TopicCollection_destroy(topics);
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_queue_destroy(queue);
        described
    }
}

/// # Safety
/// It is an event of `rd_kafka_DescribeTopics`, and lives.
unsafe fn described(event: *mut c::rd_kafka_event_t) -> Result<Vec<DescribedTopic>, String> {
    // SAFETY: the result and its parts live as long as the event.
    unsafe {
        let code = c::rd_kafka_event_error(event);
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            let detail = text(c::rd_kafka_event_error_string(event));
            return Err(format!("{} ({detail})", meaning(code)));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let list = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let one = |at: usize| {
            let topic = *list.add(at);
            let error = c::rd_kafka_TopicDescription_error(topic);
            let code = c::rd_kafka_error_code(error);
            match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let mut partitions = 0;
                    c::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
                    let id = c::rd_kafka_TopicDescription_topic_id(topic);
                    DescribedTopic::Known {
                        id: text(c::rd_kafka_Uuid_base64str(id)),
                        partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
                    }
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => DescribedTopic::Missing,
                code => DescribedTopic::Refused(meaning(code)),
            }
        };
        Ok((0..count).map(one).collect())
    }
}
