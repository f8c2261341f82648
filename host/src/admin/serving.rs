//! Serving the admin socket, and ending it: no request is left without an answer because the process ends.
//!
//! When the job has ended, every request is refused with 503. A process that closed its socket at that moment would cut off
//! clients that have already connected, and an append that was cut off has an unknown outcome. So [`Serving::finish`] answers all
//! of them first.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::routes;
use crate::coordinator::Handle;

/// The longest that the end of the process waits for clients that have connected and do not go.
const LINGER: Duration = Duration::from_secs(2);
/// How long accepting pauses after it failed, for lack of file descriptors say.
const PAUSE: Duration = Duration::from_secs(1);

/// An admin socket that is being served.
pub struct Serving {
    accepting: JoinHandle<()>,
    /// The same socket, for those whom `accepting` did not accept before it ended.
    listener: UnixListener,
    connections: Connections,
    /// Closed once there are no connections.
    all_closed: mpsc::Receiver<()>,
}

impl Serving {
    /// Serves everything on a bound Unix socket, on the runtime that is entered.
    ///
    /// # Errors
    /// The socket cannot be waited on.
    pub fn start(listener: UnixListener, handle: Handle) -> io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let accepts = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
        let (open, all_closed) = mpsc::channel(1);
        let connections = Connections {
            router: routes::all(handle),
            open,
        };
        Ok(Serving {
            accepting: tokio::spawn(accept(accepts, connections.clone())),
            listener,
            connections,
            all_closed,
        })
    }

    /// Answers everyone who has connected. Called when the job has ended and the file of the socket is removed, so that nobody
    /// else can connect.
    pub async fn finish(mut self) {
        self.accepting.abort();
        let _ = self.accepting.await;
        while let Ok((stream, _)) = self.listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| UnixStream::from_std(stream));
            match stream {
                Ok(stream) => self.connections.serve(stream),
                Err(error) => tracing::debug!("a client of the admin socket is lost: {error}"),
            }
        }
        drop(self.connections);
        if tokio::time::timeout(LINGER, self.all_closed.recv())
            .await
            .is_err()
        {
            tracing::debug!("clients of the admin socket are still connected");
        }
    }
}

async fn accept(listener: tokio::net::UnixListener, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.serve(stream),
            Err(error) => {
                tracing::warn!("the admin socket cannot accept a client: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What serves a connection. Each connection holds a clone of `open`.
#[derive(Clone)]
struct Connections {
    router: Router,
    open: mpsc::Sender<()>,
}

impl Connections {
    fn serve(&self, stream: UnixStream) {
        let Connections { router, open } = self.clone();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(router);
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!("a connection to the admin socket ended: {error}");
            }
            drop(open);
        });
    }
}
