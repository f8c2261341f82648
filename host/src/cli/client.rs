//! Asks a running job over its admin socket.

use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::{Failure, exit, stopped};
use crate::admin;
use crate::checkpoint::Holder;

/// A connection to a running job.
pub(super) struct Client {
    socket: PathBuf,
    io: tokio::runtime::Runtime,
}

/// An answer.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// The header `wasm-host-next`.
    pub(super) next: Option<u64>,
    /// The header `wasm-host-unreadable`.
    unreadable: bool,
}

impl Client {
    pub(super) fn new(holder: &Holder) -> Result<Client, Failure> {
        let socket = holder.socket.clone().ok_or_else(|| {
            Failure::new(
                exit::HOST,
                format!(
                    "the job runs as process {} without an admin socket",
                    holder.pid
                ),
            )
        })?;
        Ok(Client {
            socket,
            io: stopped::io_runtime()?,
        })
    }

    /// Whether anybody answers.
    pub(super) fn answers(&self) -> Result<(), Failure> {
        self.ask(Method::GET, "/logs", Vec::new()).map(drop)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::GET, path, Vec::new())?;
        parse(&answer)
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let answer = self.ask(Method::POST, path, body)?;
        parse(&answer)
    }

    pub(super) fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        // Whoever does not answer has ended, or soon will.
        let failed = |what: String| Failure {
            moved: true,
            ..Failure::new(
                exit::HOST,
                format!("ask the running job at {}: {what}", self.socket.display()),
            )
        };
        let asked = self.io.block_on(async {
            let stream = tokio::net::UnixStream::connect(&self.socket)
                .await
                .map_err(|error| error.to_string())?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "wasm-host")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| error.to_string())?;
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let next = response
                .headers()
                .get("wasm-host-next")
                .and_then(|next| next.to_str().ok()?.parse().ok());
            let unreadable = response.headers().contains_key(admin::UNREADABLE);
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes();
            let answer = Answer {
                body,
                next,
                unreadable,
            };
            Ok::<_, String>((status, answer))
        });
        let (status, answer) = asked.map_err(failed)?;
        if status.is_success() {
            return Ok(answer);
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let said = said.and_then(|said| said.get("error")?.as_str().map(str::to_owned));
        // As with the state of a stopped job.
        let code = match (answer.unreadable, status.is_client_error()) {
            (true, _) => exit::STATE,
            (false, true) => exit::USAGE,
            (false, false) => exit::HOST,
        };
        Err(Failure {
            moved: status == StatusCode::SERVICE_UNAVAILABLE,
            ..Failure::new(
                code,
                said.unwrap_or_else(|| format!("the running job answers {status}")),
            )
        })
    }
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::new(
            exit::HOST,
            format!("the running job's answer is not understood: {error}"),
        )
    })
}
