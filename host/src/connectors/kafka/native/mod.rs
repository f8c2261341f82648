//! The calls of librdkafka that the crate `rdkafka` has no safe form for: reading partitions by queues of their own, in batches;
//! counting requests; sending without an allocation for each message; what identifies a topic. All `unsafe` code is here.
//!
//! Invariants:
//!
//! - A pointer of librdkafka's lives no longer than its [`Client`]: what borrows from it holds the client.
//! - Callbacks only note what they are told; they call nothing that waits, and cannot panic.

#![expect(unsafe_code, reason = "librdkafka is a library in C")]

mod client;
mod offsets;
mod partition;
mod producer;
mod topics;

pub(super) use client::{Client, Health, Role};
pub(super) use offsets::{Commits, Committed, committed};
pub(super) use partition::{Found, Partition};
pub(super) use producer::{Producer, SendError, TransactionError};
pub(super) use topics::{DescribedTopic, describe_topics};

use std::ffi::{CStr, CString, c_char};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

/// The text of a string of C's; empty if there is none.
///
/// # Safety
/// It is null, or ends with a zero and lives during the call.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: as this function's.
    let string = unsafe { CStr::from_ptr(string) };
    string.to_string_lossy().into_owned()
}

/// A name for C. Names of topics and settings have been checked before.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

/// What an error of librdkafka means, with the code by which it can be looked up.
pub(super) fn meaning(code: RDKafkaRespErr) -> String {
    let code = RDKafkaErrorCode::from(code);
    format!("{code:?}: {code}")
}
