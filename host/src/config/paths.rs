//! Paths as the kernel takes them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether one folder lies in the other: by their paths, and by what is there, which may be mounted at several places.
pub(super) fn meet(one: &Path, other: &Path) -> bool {
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
pub(super) fn is_of_processes(path: &Path) -> bool {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let found = path
        .ancestors()
        .find_map(|path| rustix::fs::statfs(path).ok());
    found.is_some_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

/// The real path, without symbolic links, even if the file does not exist yet.
pub(super) fn resolved(path: &Path) -> PathBuf {
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
        let folder = std::env::temp_dir().join(format!("wasm-host-paths-{}", std::process::id()));
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
