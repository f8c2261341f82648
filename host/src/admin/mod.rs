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
//! | `GET /logs/{stream}` | messages, one JSON object a line; `partition`, `from`, `limit`; socket only |
//! | `POST /checkpoints` | takes one and waits; socket only |
//! | `POST /logs/{stream}` | appends messages, one JSON object a line, all or nothing; socket only |
//!
//! The only JSON types of the host are here. Must never know wasm or RocksDB.

pub mod json;

mod metrics;
mod routes;
mod socket;

use std::future::Future;
use std::io;

pub(crate) use routes::UNREADABLE;
pub use socket::SocketPlace;

use crate::coordinator::Handle;

/// Serves everything on a bound Unix socket.
///
/// # Errors
/// The socket cannot be waited on.
pub fn serve_socket(
    listener: std::os::unix::net::UnixListener,
    handle: Handle,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(async move {
        if let Err(error) = axum::serve(listener, routes::all(handle)).await {
            tracing::warn!("the admin socket ended: {error}");
        }
    })
}

/// Serves what only reads over TCP.
pub async fn serve_tcp(listener: tokio::net::TcpListener, handle: Handle) {
    if let Err(error) = axum::serve(listener, routes::read_only(handle)).await {
        tracing::warn!("the status listener ended: {error}");
    }
}
