//! What defaults depend on: the cores and the memory that the process may use.

use std::fs;
use std::path::Path;

/// Cores, 1 at least.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory: those of the machine, or fewer if a control group of the process has a limit. `None`: not known.
pub(super) fn memory() -> Option<u64> {
    memory_in(Path::new("/"))
}

fn memory_in(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(root.join(path)).ok();
    let all = read(Path::new("proc/meminfo"))?;
    let all = all
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all = all.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let groups = read(Path::new("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/path` of version 2, `5:memory:/path` of version 1. In a container the path may be that of the machine: the limit
        // is then at the top.
        let (mount, file, group) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "", group] => ("sys/fs/cgroup", "memory.max", group),
            [_, "memory", group] => ("sys/fs/cgroup/memory", "memory.limit_in_bytes", group),
            _ => return Vec::new(),
        };
        let group = Path::new(group.trim_start_matches('/'));
        let above = group
            .ancestors()
            .map(|above| Path::new(mount).join(above).join(file));
        let limit = |path: std::path::PathBuf| read(&path)?.trim().parse::<u64>().ok();
        above.filter_map(limit).collect()
    });
    Some(limits.fold(all, u64::min))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a machine of 16 GiB with these files.
    fn memory_with(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root =
            std::env::temp_dir().join(format!("wasm-host-machine-{name}-{}", std::process::id()));
        let meminfo = (
            "proc/meminfo",
            "MemTotal:       16777216 kB\nMemFree:  1 kB\n",
        );
        for (path, text) in files.iter().chain([&meminfo]) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let found = memory_in(&root);
        fs::remove_dir_all(&root).expect("the folder");
        found
    }

    #[test]
    fn memory_is_that_of_the_machine_or_the_least_of_the_limits_of_its_control_groups() {
        let all = Some(16 << 30);
        assert_eq!(memory_with("none", &[]), all);
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(memory_with("max", &[group, unlimited]), all);
        let above = ("sys/fs/cgroup/a/memory.max", "1073741824\n");
        assert_eq!(
            memory_with("above", &[group, unlimited, above]),
            Some(1 << 30)
        );
        let top = ("sys/fs/cgroup/memory.max", "536870912\n");
        assert_eq!(memory_with("top", &[group, top]), Some(512 << 20));
        let old = [
            ("proc/self/cgroup", "5:memory:/a\n4:cpu:/a\n"),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "2147483648\n",
            ),
        ];
        assert_eq!(memory_with("old", &old), Some(2 << 30));
        let large = (
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(memory_with("large", &[old[0], large]), all);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory().is_some_and(|bytes| bytes > 64 << 20));
    }
}
