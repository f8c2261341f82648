//! A running job over HTTP: on its Unix socket for the command line, and read-only over TCP where the job says so.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /status` | [`json::Status`] |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /checkpoints` | the last 100 |
//! | `GET /offsets` | committed positions |
//! | `GET /logs` | log streams |
//! | `GET /stores` | stores |
//! | `GET /logs/{stream}` | messages, one JSON object a line; `partition`, `from`, `limit`, `pass-over-deleted`; socket only |
//! | `GET /logs/{stream}/offset` | the first offset whose message is not older than a time; `partition`, `time`; socket only |
//! | `POST /checkpoints` | takes one and waits; socket only |
//! | `POST /tasks/{stage}/{partition}/resume`, `…/skip` | lets a held task go on; `past`; socket only |
//! | `POST /dead-letters/groups`, `…/list`, `…/show`, `…/replay`, `…/replay-lines`, `…/drop` | [`letters`]; socket only |
//! | `POST /stages/{stage}/swaps`, `GET` the same, `GET /swaps/{id}` | [`swaps`]; socket only |
//! | `POST /logs/{stream}` | appends messages, one JSON object a line, all or nothing; socket only |
//!
//! An answer 503 says that the job has ended and that nothing was done: the same can be asked of the stopped job.
//!
//! The only JSON types of the host are here; a message's JSON is in `connectors`. Must never know wasm or RocksDB.

pub mod json;
pub mod letters;
pub mod swaps;

mod metrics;
mod refused;
mod routes;
mod serving;
mod socket;

pub(crate) use refused::UNREADABLE;
pub use serving::Serving;
pub use socket::SocketPlace;

use crate::coordinator::Handle;

/// A batch of messages to append is sent once its JSON has this many bytes, however few they are.
pub(crate) const BATCH_BYTES: usize = 16 << 20;
/// What is typed in for one message must be shorter.
pub(crate) const LINE_BYTES: usize = 32 << 20;

/// Serves what only reads over TCP.
pub async fn serve_tcp(listener: tokio::net::TcpListener, handle: Handle) {
    if let Err(error) = axum::serve(listener, routes::read_only(handle)).await {
        tracing::warn!("the status listener ended: {error}");
    }
}
