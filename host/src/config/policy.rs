//! A policy: ceilings that an operator sets, and that no job file can widen.
//!
//! A policy is a file of its own, `--policy FILE`, beside `/etc/wasm-host/policy.toml` if that exists: a job keeps within both. What a policy
//! does not name is free.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::decode;
use super::decode::limits::Given;
use super::diagnostics::Diagnostics;
use super::paths::is_of_processes;
use super::stage::Remote;
use super::substitute::From;
use super::{absolute_folder_of, text_of};

/// The policy of a machine.
const OF_THE_MACHINE: &str = "/etc/wasm-host/policy.toml";

/// Ceilings for every stage of every job.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// The file.
    pub(super) file: PathBuf,
    /// `[limits]`.
    pub(super) limits: Given,
    /// `[capabilities]`.
    pub(super) capabilities: Allowed,
}

/// What stages may be granted; `None`: anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowed {
    /// A granted folder is one of these or lies in one; with `true` also to write in.
    pub(super) directories: Option<Vec<(PathBuf, bool)>>,
    /// Environment variables.
    pub(super) environment: Option<Vec<String>>,
    /// Hosts and ports.
    pub(super) network: Option<Vec<Remote>>,
    /// Whether a component may stop its task.
    pub(super) request_stop: Option<bool>,
}

impl Allowed {
    /// What a job must not take from there, if it must not.
    pub(super) fn refuses(&self, from: &From) -> Option<String> {
        match from {
            From::Variable(name) => {
                let allowed = self.environment.as_ref()?;
                let is_allowed = allowed.iter().any(|allowed| allowed == name);
                (!is_allowed).then(|| format!("the environment variable {name}"))
            }
            From::File(path) => {
                let is_of_a_process = || is_of_processes(path);
                let allowed = match &self.directories {
                    Some(allowed) => Allowed::covers(allowed, path, false),
                    // The environment can be read there.
                    None => self.environment.is_none() || !is_of_a_process(),
                };
                (!allowed).then(|| format!("the file {}", path.display()))
            }
        }
    }

    /// Whether a folder may be granted. Both paths are real ones.
    pub(super) fn covers(allowed: &[(PathBuf, bool)], folder: &Path, write: bool) -> bool {
        // Where nothing is yet, `..` could not be resolved.
        let is_plain = folder.components().all(|part| part != Component::ParentDir);
        let mut allowed = allowed.iter();
        is_plain
            && allowed
                .any(|(parent, may_write)| folder.starts_with(parent) && (*may_write || !write))
    }
}

/// The policy of the machine, if there is one, and this one.
pub(super) fn read(given: Option<&Path>) -> Result<Vec<Policy>, Diagnostics> {
    let machine = Path::new(OF_THE_MACHINE);
    // One that cannot be looked at is there: it is read, and the error is the answer.
    let looked = std::fs::symlink_metadata(machine);
    let is_there = looked.map_or_else(|error| error.kind() != ErrorKind::NotFound, |_| true);
    let machine = is_there.then_some(machine);
    machine.into_iter().chain(given).map(read_one).collect()
}

fn read_one(file: &Path) -> Result<Policy, Diagnostics> {
    let missing = ("no such policy", "name the policy's file");
    let text = text_of(file, "a policy", "name a policy's file", missing)?;
    decode::policy::policy(&text, file, &absolute_folder_of(file)?)
}
