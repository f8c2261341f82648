//! Granted folders, checked against the host's own folders: a guest could read other tasks' state, or write to committed data.

use std::path::PathBuf;

use super::stage::Draft;
use super::stream::Declared;
use crate::config::job::General;
use crate::config::paths::{is_of_processes, meet, resolved};
use crate::config::setting::Problem;
use crate::config::systems::System;
use crate::config::table::Context;

/// Refuses grants that cover, or lie in, the state directory, and grants to write that do so with the folder of an output.
pub(super) fn check(
    cx: &Context<'_>,
    general: &General,
    declared: &[Declared<'_>],
    stages: &[Draft<'_>],
) {
    let state = resolved(&general.state_dir);
    let outputs: Vec<(&str, PathBuf)> = declared
        .iter()
        .filter_map(|declared| match &declared.stream.as_ref()?.system {
            System::FileOutput(file) => Some((declared.key, resolved(&file.path))),
            _ => None,
        })
        .collect();
    for stage in stages {
        let grants = stage
            .stage
            .iter()
            .flat_map(|stage| &stage.capabilities.directories);
        for (grant, span) in grants.zip(&stage.grant_spans) {
            let folder = &grant.real;
            let problem = if meet(folder, &state) {
                Problem::new(
                    "the guest would reach the state directory, where the state of all tasks is",
                )
                .help("grant another folder, or give the job another `state-dir`")
            } else if is_of_processes(folder) {
                Problem::new("the guest would reach what the kernel tells of processes: the host's memory and environment")
                    .help("grant another folder")
            } else if let Some((stream, _)) = outputs
                .iter()
                .find(|(_, output)| grant.write && meet(folder, output))
            {
                Problem::new(format!(
                    "the guest could write to the files of output \"{stream}\""
                ))
                .help("grant another folder, or leave `write` out")
            } else {
                continue;
            };
            cx.error(span, problem);
        }
    }
}
