//! Files that are written.

use super::*;
use crate::connectors::{OutputFormat, SinkError, Sinks as _};
use crate::disk::Disk;

fn sink(folder: &Folder, partitions: u32) -> Box<dyn crate::connectors::Sink> {
    let options = FileOutputOptions {
        folder: folder.path().to_owned(),
        stream: "s".to_owned(),
        partitions,
        format: OutputFormat::Lines,
    };
    FileOutput::new(options, Disk::default()).sink(PartitionId(0))
}

#[test]
fn a_first_start_refuses_files_of_the_stream() {
    for (name, content, partitions) in [
        ("s-0-0", "x", 1),
        ("s-0-3", "", 1),
        ("s-1-0", "", 1),
        ("s-2-0", "x", 2),
    ] {
        let folder = Folder::new();
        folder.write(name, content);
        let refused = sink(&folder, partitions).recover(None, 0).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(refused.to_string().contains("move them aside"), "{refused}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing was changed"
        );
    }
    for (name, content) in [
        ("s-0-0", ""),
        ("s-1-0", "x"),
        ("s-0-0-0", "x"),
        ("s-00-0", "x"),
        ("t-0-0", "x"),
        ("s", "x"),
    ] {
        let folder = Folder::new();
        folder.write(name, content);
        assert!(sink(&folder, 2).recover(None, 0).is_ok(), "{name}");
    }
}

#[test]
fn a_restart_refuses_what_the_job_has_not_written() {
    let folder = Folder::new();
    let mut writer = sink(&folder, 1);
    writer.recover(None, 0).unwrap();
    let state = writer.deliver(b"one\n").unwrap();
    assert_eq!((state.len(), state[0]), (25, 1));
    let refuse = |state: &[u8], undelivered, expected: &str| {
        let before = std::fs::read(folder.path().join("s-0-0")).ok();
        let refused = sink(&folder, 1)
            .recover(Some(state), undelivered)
            .unwrap_err();
        assert!(matches!(refused, SinkError::Refused { .. }));
        assert!(refused.to_string().contains(expected), "{refused}");
        assert_eq!(
            std::fs::read(folder.path().join("s-0-0")).ok(),
            before,
            "nothing was changed"
        );
    };
    folder.append("s-0-0", "two\n");
    refuse(
        &state,
        3,
        "it has 8 bytes, but the job can have written 7 at most",
    );
    let refused = writer.deliver(b"x").unwrap_err().to_string();
    assert!(refused.contains("something else writes to it"), "{refused}");
    assert_eq!(sink(&folder, 1).recover(Some(&state), 4).unwrap(), state);
    assert_eq!(
        std::fs::read(folder.path().join("s-0-0")).unwrap(),
        b"one\n"
    );
    folder.write("s-0-1", "");
    refuse(&state, 0, "s-0-1");
    folder.remove("s-0-1");
    folder.write("s-0-0", "on");
    refuse(&state, 0, "it has 2 bytes, but the job has written 4");
    folder.write("copy", "one\n");
    folder.rename("copy", "s-0-0");
    refuse(&state, 0, "another of that name");
    folder.remove("s-0-0");
    refuse(&state, 0, "it is gone");
    refuse(&[2, 0], 0, "version 2");
    refuse(&state[..24], 0, "24 bytes");
    assert!(sink(&folder, 1).deliver(b"x").is_err());
}
