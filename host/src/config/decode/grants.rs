//! Granted folders, checked against the host's own folders: a guest could read other tasks' state, or write to committed data.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::stage::Draft;
use super::stream::Declared;
use crate::config::job::General;
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

/// Whether one folder lies in the other: by their paths, and by what is there, which may be mounted at several places.
fn meet(one: &Path, other: &Path) -> bool {
    let lies_in = |inner: &Path, outer: &Path| {
        let same = |place: &Path| identity(place) == identity(outer);
        inner.starts_with(outer) || outer.exists() && inner.ancestors().any(same)
    };
    lies_in(one, other) || lies_in(other, one)
}

/// What the kernel knows a folder by, if it is there.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(folder).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether a path leads into what the kernel tells of processes, `/proc` as a rule.
pub(in crate::config) fn is_of_processes(path: &Path) -> bool {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let found = path
        .ancestors()
        .find_map(|path| rustix::fs::statfs(path).ok());
    found.is_some_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

/// The real path, without symbolic links, even if the file does not exist yet.
pub(in crate::config) fn resolved(path: &Path) -> PathBuf {
    /// As many links as the kernel follows.
    const LINKS: usize = 40;
    let (mut missing, mut links) = (Vec::new(), 0);
    let mut there = path.to_owned();
    loop {
        if let Ok(mut found) = there.canonicalize() {
            found.extend(missing.iter().rev());
            return found;
        }
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
            // It ends with `..`, or nothing of it is there.
            return path.to_owned();
        };
        there = match there.read_link() {
            Ok(target) if links < LINKS => {
                links += 1;
                parent.join(target)
            }
            _ => {
                missing.push(name.to_owned());
                parent.to_owned()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_resolved_as_far_as_it_is() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("wasm-host-grants-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("real"))?;
        std::os::unix::fs::symlink("real", folder.join("link"))?;
        std::os::unix::fs::symlink("real/later", folder.join("dangling"))?;
        let real = folder.join("real").canonicalize()?;
        assert_eq!(resolved(&folder.join("link/a/b")), real.join("a/b"));
        assert_eq!(resolved(&folder.join("link")), real);
        assert_eq!(resolved(&folder.join("dangling/a")), real.join("later/a"));
        assert!(meet(&real, &real.join("a")) && meet(&real.join("a"), &real));
        assert!(!meet(&real.join("a"), &real.join("ab")));
        std::fs::remove_dir_all(folder)
    }
}
