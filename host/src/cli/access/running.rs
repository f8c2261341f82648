//! A job that runs, asked over its admin socket.

use super::client::{Answer, Client, Lost};
use super::{Append, JobAccess, TaskAccess};
use crate::admin::{json, swaps};
use crate::checkpoint::Holder;
use crate::cli::{Failure, exit};
use crate::config::Job;
use crate::connectors::JsonMessage;
use crate::connectors::log::LogRead;
use crate::coordinator::{Deleted, View};
use crate::model::{Clock, Offset, PartitionId, SystemClock, TimestampMs};

/// A job that runs.
pub(super) struct Running<'a> {
    job: &'a Job,
    pid: u32,
    client: Client,
}

impl Running<'_> {
    pub(super) fn new<'a>(job: &'a Job, holder: &Holder) -> Result<Running<'a>, Failure> {
        Ok(Running {
            job,
            pid: holder.pid,
            client: Client::new(holder)?,
        })
    }
}

impl JobAccess for Running<'_> {
    fn is_running(&self) -> bool {
        true
    }

    fn status(&self) -> Result<json::Status, Failure> {
        self.client.get("/status")
    }

    fn offsets(&self) -> Result<Vec<json::Offset>, Failure> {
        self.client.get("/offsets")
    }

    fn checkpoints(&self) -> Result<Vec<json::Checkpoint>, Failure> {
        self.client.get("/checkpoints")
    }

    fn checkpoint(&self) -> Result<json::Taken, Failure> {
        // Asked twice it takes two, which is harmless.
        self.client
            .post("/checkpoints", Vec::new(), Lost::AskAgain)?
            .parse()
    }

    fn swap(
        &self,
        stage: &str,
        component: Option<&[u8]>,
        wanted: &swaps::Wanted,
    ) -> Result<swaps::Swap, Failure> {
        let query = serde_urlencoded::to_string(wanted);
        let query = query.map_err(|error| Failure::of(exit::USAGE, &error))?;
        let path = format!("/stages/{stage}/swaps?{query}");
        let body = component.unwrap_or_default().to_vec();
        self.client.post(&path, body, Lost::Unknown)?.parse()
    }

    fn promote(&self, stage: &str) -> Result<swaps::Swap, Failure> {
        let path = format!("/stages/{stage}/promote");
        self.client.post(&path, Vec::new(), Lost::Unknown)?.parse()
    }

    fn drop_shadow(&self, stage: &str) -> Result<swaps::Swap, Failure> {
        let path = format!("/stages/{stage}/drop");
        self.client.post(&path, Vec::new(), Lost::Unknown)?.parse()
    }

    fn swap_later(&self, known: &swaps::Swap) -> Result<swaps::Swap, Failure> {
        let (id, state) = (known.id, &known.state);
        self.client
            .get(&format!("/swaps/{id}?wait=10s&state={state}"))
    }

    fn stores(&self) -> Result<Vec<json::Store>, Failure> {
        self.client.get("/stores")
    }

    fn committed(&self) -> Result<&View, Failure> {
        Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} runs as process {}; looking into the state of a running job is not supported yet: stop it first",
                self.job.general.name, self.pid
            ),
        ))
    }

    fn logs(&self) -> Result<Vec<json::LogPartition>, Failure> {
        self.client.get("/logs")
    }

    fn log_read(
        &self,
        stream: &str,
        partition: PartitionId,
        from: Offset,
        deleted: Deleted,
        limit: u64,
    ) -> Result<LogRead, Failure> {
        let passed_over = deleted == Deleted::PassedOver;
        let path = format!(
            "/logs/{stream}?partition={partition}&from={from}&limit={limit}&pass-over-deleted={passed_over}"
        );
        let answer = self.client.ask(&path)?;
        let mut read = LogRead {
            first: from,
            ..LogRead::default()
        };
        for (_, parsed) in JsonMessage::parse_lines(answer.body()) {
            let message = parsed.map_err(|error| Answer::not_understood(&error))?;
            if read.messages.is_empty() {
                read.first = message.offset.unwrap_or(from);
            }
            message.push_to(&mut read.messages, 0);
        }
        Ok(read)
    }

    fn log_offset_at(
        &self,
        stream: &str,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, Failure> {
        let path = format!("/logs/{stream}/offset?partition={partition}&time={time}");
        let found: json::OffsetAt = self.client.get(&path)?;
        Ok(found.offset)
    }
}

impl TaskAccess for Running<'_> {
    fn resume(&mut self, task: &str, past: u64) -> Result<json::Resumed, Failure> {
        let path = format!("/tasks/{task}/resume?past={past}");
        self.client.post(&path, Vec::new(), Lost::Unknown)?.parse()
    }

    fn skip(&mut self, task: &str) -> Result<json::Resumed, Failure> {
        let path = format!("/tasks/{task}/skip");
        self.client.post(&path, Vec::new(), Lost::Unknown)?.parse()
    }
}

/// A log stream of a running job.
pub(super) struct Appender<'a> {
    client: Client,
    stream: &'a str,
}

impl Appender<'_> {
    pub(super) fn new<'a>(holder: &Holder, stream: &'a str) -> Result<Appender<'a>, Failure> {
        Ok(Appender {
            client: Client::new(holder)?,
            stream,
        })
    }
}

impl Append for Appender<'_> {
    fn ready(&mut self) -> Result<(), Failure> {
        self.client.ask("/logs").map(drop)
    }

    fn append(&mut self, messages: &[JsonMessage]) -> Result<(), Failure> {
        let now = SystemClock.now_ms();
        let mut body = Vec::new();
        for message in messages {
            message.write_line(now, &mut body);
        }
        let path = format!("/logs/{}", self.stream);
        self.client.post(&path, body, Lost::Unknown).map(drop)
    }
}
