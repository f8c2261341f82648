//! `job.toml` → a validated, typed [`Job`]; every default and its reason.
//!
//! It reads one file. Of the files that this one names it checks only that they exist and where, and only for commands that are
//! about to run the job ([`Look`]). It must never know RocksDB, wasmtime or the options of another module, and only the command line imports it.
//! Invariants:
//!
//! - Everything that is wrong with a file is reported at once, each finding with its place and what to do.
//! - A key is used, refused or warned about; none is ignored.
//! - What came from the environment is in the [`Job`], but never in anything printed: not in a finding, not in
//!   [`Job::render`], not in `Debug`.
//!
//! Read on in `job`, `stream`, `stage` (what there is), `systems` (a file for each), then `decode` (the rules).

mod cluster;
mod decode;
mod diagnostics;
mod faults;
mod job;
mod limits;
mod machine;
mod names;
mod paths;
mod policy;
mod setting;
mod stage;
mod stream;
mod substitute;
mod swap;
mod systems;
mod table;
mod units;
mod words;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use cluster::{Cluster, Mechanism, Sasl, Security, Tls};
pub use diagnostics::{Diagnostic, Diagnostics, Place, Severity};
pub use faults::{Breaker, DeadLetterOrder, OnFault, OnRejected, Restart, Retry, WhenHeld};
pub use job::{Checkpoint, CheckpointMode, Durability, General, Job};
pub use limits::Limits;
pub use setting::{Setting, Written};
pub use stage::{
    Capabilities, Clocks, Directory, InputPort, OutputPort, Remote, Sha256, Stage, Start, StartEnd,
    Store, StoreKind,
};
pub use stream::Stream;
pub use swap::{duration, probation, slowdown};
pub use systems::{
    CreateTopic, Delivery, Distribution, FileInput, FileOutput, Generate, InputFormat, KafkaStream,
    LogStream, OutputFormat, Retention, Stdin, Stdout, System, SystemName, TimestampField,
    TimestampFormat, Until,
};
pub use units::{ByteSize, Per, Rate, Share};

/// The name of a job file in a folder.
const JOB_FILE: &str = "job.toml";

/// A longer file is not a job file: a component or data was given by mistake.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is checked in addition to the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing: the command only asks about the job.
    Nothing,
    /// Whether granted folders overlap the host's own.
    Folders,
    /// The same, and whether the components exist.
    Components,
}

/// Reads the job file at `path`, or `job.toml` in the folder at `path`. `env` answers for environment variables. The
/// job's paths are absolute. A job that is about to run keeps within the policy of the machine, and within `policy`.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file; or why it cannot be read.
pub fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    look: Look,
    policy: Option<&Path>,
) -> Result<Job, Diagnostics> {
    let policies = match look {
        Look::Nothing => Vec::new(),
        Look::Folders | Look::Components => policy::read(policy)?,
    };
    let given_folder = path.is_dir();
    let file = if given_folder {
        path.join(JOB_FILE)
    } else {
        path.to_owned()
    };
    let missing = match given_folder {
        true => ("the folder has no job.toml", "name the job file"),
        false => (
            "no such file",
            "name the job file, or the folder of its job.toml",
        ),
    };
    let other = "name the job.toml, not a component or data";
    let text = text_of(&file, "a job file", other, missing)?;
    let folder = absolute_folder_of(&file)?;
    decode::job(&text, &file, &folder, env, look, &policies)
}

/// The text of a file. `what` it should be; `other`: what to do if it is something else; `missing`: what to say and to do if there is
/// none.
fn text_of(
    file: &Path,
    what: &str,
    other: &str,
    missing: (&str, &str),
) -> Result<String, Diagnostics> {
    let refuse = |message: String, help: &str| {
        let help = (!help.is_empty()).then(|| help.to_owned());
        Err(Diagnostics::unreadable(file, message, help))
    };
    let read = File::open(file).and_then(|opened| {
        let mut bytes = Vec::new();
        opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read.map(String::from_utf8) {
        Ok(Err(error)) => refuse(
            format!(
                "is not {what}: byte {} is not UTF-8",
                error.utf8_error().valid_up_to()
            ),
            other,
        ),
        Ok(Ok(text)) if text.len() as u64 > FILE_BYTES_MAX => {
            refuse(format!("is not {what}: it is too large"), other)
        }
        Ok(Ok(text)) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            refuse(missing.0.to_owned(), missing.1)
        }
        Err(error) => refuse(format!("cannot be read: {error}"), ""),
    }
}

fn absolute_folder_of(file: &Path) -> Result<PathBuf, Diagnostics> {
    match std::path::absolute(file) {
        Ok(absolute) => Ok(folder_of(&absolute).to_owned()),
        Err(error) => {
            let message = format!("has no absolute path: {error}");
            Err(Diagnostics::unreadable(file, message, None))
        }
    }
}

/// Reads `text` as the job file at `path`, which is not touched. The job's paths are joined to the folder of `path`.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn parse(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Job, Diagnostics> {
    decode::job(text, path, folder_of(path), env, Look::Nothing, &[])
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}
