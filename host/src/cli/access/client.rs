//! Requests over the admin socket of a running job.

use std::error::Error;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::admin;
use crate::checkpoint::Holder;
use crate::cli::{Failure, exit, job};

/// The way to a running job. Each request has a connection of its own.
pub(super) struct Client {
    socket: PathBuf,
    io: tokio::runtime::Runtime,
}

/// What to do about a request that the job may have got, if its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It changes nothing, or may be repeated.
    AskAgain,
    /// It must not be repeated, so its outcome is unknown.
    Unknown,
}

/// An answer.
pub(super) struct Answer {
    status: StatusCode,
    body: Bytes,
    /// The header `wasm-host-unreadable`.
    unreadable: bool,
}

/// Why there is no answer.
enum Unanswered {
    /// The job has not got the request.
    Unsent(String),
    /// It may have got it.
    Sent(String),
}

impl Unanswered {
    fn unsent(error: impl Error) -> Unanswered {
        Unanswered::Unsent(exit::chain(&error))
    }

    fn sent(error: impl Error) -> Unanswered {
        Unanswered::Sent(exit::chain(&error))
    }
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
            io: job::io_runtime()?,
        })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(path)?.parse()
    }

    pub(super) fn ask(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, path, Vec::new(), Lost::AskAgain)
    }

    pub(super) fn post(&self, path: &str, body: Vec<u8>, lost: Lost) -> Result<Answer, Failure> {
        self.request(Method::POST, path, body, lost)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        lost: Lost,
    ) -> Result<Answer, Failure> {
        match self.io.block_on(self.exchange(method, path, body)) {
            Ok(answer) => answer.or_refusal(),
            // A job that does not answer has ended, or soon will.
            Err(Unanswered::Unsent(what)) => Err(self.unanswered(&what, true)),
            Err(Unanswered::Sent(what)) if lost == Lost::AskAgain => {
                Err(self.unanswered(&what, true))
            }
            Err(Unanswered::Sent(what)) => {
                let what = format!("{what}: the request was sent, and its outcome is unknown");
                Err(self.unanswered(&what, false))
            }
        }
    }

    fn unanswered(&self, what: &str, moved: bool) -> Failure {
        let text = format!("ask the running job at {}: {what}", self.socket.display());
        Failure {
            moved,
            ..Failure::new(exit::HOST, text)
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer, Unanswered> {
        let stream = tokio::net::UnixStream::connect(&self.socket)
            .await
            .map_err(Unanswered::unsent)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Unanswered::unsent)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "wasm-host")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(Unanswered::unsent)?;
        let response = sender.try_send_request(request).await;
        // The request comes back only if no byte of it was written.
        let response = response.map_err(|mut error| match error.take_message() {
            Some(_) => Unanswered::unsent(error.into_error()),
            None => Unanswered::sent(error.into_error()),
        })?;
        let status = response.status();
        let unreadable = response.headers().contains_key(admin::UNREADABLE);
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(Unanswered::sent)?
            .to_bytes();
        Ok(Answer {
            status,
            body,
            unreadable,
        })
    }
}

impl Answer {
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Answer::not_understood(&error))
    }

    pub(super) fn not_understood(error: &dyn Error) -> Failure {
        Failure::new(
            exit::HOST,
            format!(
                "the running job's answer is not understood: {}",
                exit::chain(error)
            ),
        )
    }

    /// The answer, unless the job refused the request: then the failure that the same request has on a stopped job.
    fn or_refusal(self) -> Result<Answer, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let said = said.and_then(|said| said.get("error")?.as_str().map(str::to_owned));
        let code = match (self.unreadable, self.status.is_client_error()) {
            (true, _) => exit::STATE,
            (false, true) => exit::USAGE,
            (false, false) => exit::HOST,
        };
        Err(Failure {
            // The job has ended, and nothing was done.
            moved: self.status == StatusCode::SERVICE_UNAVAILABLE,
            ..Failure::new(
                code,
                said.unwrap_or_else(|| format!("the running job answers {}", self.status)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::connectors::testing::Folder;

    /// Posts to a job that reads the request and answers with these bytes before it goes.
    fn post(answer: &'static [u8], lost: Lost) -> Result<Answer, Failure> {
        let folder = Folder::new();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let job = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"line\n") {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..read]);
            }
            stream.write_all(answer).unwrap();
        });
        let holder = Holder {
            pid: 1,
            socket: Some(socket),
        };
        let client = Client::new(&holder).unwrap();
        let posted = client.post("/logs/in", b"line\n".to_vec(), lost);
        job.join().unwrap();
        posted
    }

    #[test]
    fn a_request_is_repeated_only_if_the_job_cannot_have_taken_it() {
        let cut = b"HTTP/1.1 200 OK\r\n";
        for answer in [&b""[..], cut] {
            let failure = post(answer, Lost::Unknown).err().unwrap();
            assert!(!failure.moved, "{}", failure.text);
            assert!(failure.text.contains("its outcome is unknown"));
            let failure = post(answer, Lost::AskAgain).err().unwrap();
            assert!(failure.moved, "{}", failure.text);
        }
        let ended = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 32\r\n\r\n{\"error\":\"the job has ended!!!\"}";
        let failure = post(ended, Lost::Unknown).err().unwrap();
        assert!(failure.moved, "{}", failure.text);
        let done = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
        assert_eq!(post(done, Lost::Unknown).ok().unwrap().body(), b"[]");
        let gone = Holder {
            pid: 1,
            socket: Some("/nowhere/socket".into()),
        };
        let client = Client::new(&gone).unwrap();
        let failure = client.post("/logs/in", Vec::new(), Lost::Unknown);
        assert!(failure.err().unwrap().moved, "nothing was sent");
    }
}
