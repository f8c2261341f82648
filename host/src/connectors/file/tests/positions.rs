//! Where reading goes on, and what has happened to the files in the meantime.

use std::collections::HashSet;

use super::*;
use crate::connectors::testing::drain;
use crate::connectors::{FetchBounds, Polled};

#[test]
fn a_pattern_without_files_or_with_a_folder_is_an_error() {
    let folder = Folder::new();
    let pattern = folder.pattern("*.log");
    let nothing = error(read(&lines(&folder, "*.log"), 0, oldest(), ALL));
    assert_eq!(nothing, format!("no file matches `{pattern}`"));
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    assert!(error(read(&lines(&folder, "sub"), 0, oldest(), ALL)).contains("is a folder"));
    assert_eq!(
        read(&following(&folder, "*.log"), 0, oldest(), ALL)
            .unwrap()
            .items,
        []
    );
    folder.write("sub/b.log", "2\n");
    folder.write("a.log", "1\n");
    assert_eq!(all(&lines(&folder, "**/*.log")).texts(), ["1", "2"]);
}

#[test]
fn grown_files_and_new_ones_go_on_after_the_end() {
    let folder = Folder::new();
    folder.write("b", "1\n2\n");
    folder.write("c.gz", gzip(b"3\n"));
    let input = lines(&folder, "*");
    let end = all(&input).end.unwrap();
    assert_eq!(end.next, 3);
    folder.write("a", "new\n");
    folder.append("b", "more\n");
    folder.append("c.gz", gzip(b"more gz\n"));
    let grown = from(&input, &end).unwrap();
    assert_eq!(grown.texts(), ["more", "more gz", "new"]);
    assert_eq!(grown.items[0].offset(), 3);
    assert_eq!(from(&input, &grown.end.unwrap()).unwrap().items, []);
    assert_eq!(
        all(&input).texts(),
        ["new", "1", "2", "more", "3", "more gz"]
    );
}

#[test]
fn a_last_line_without_line_end_must_not_be_continued() {
    let folder = Folder::new();
    folder.write("f", "1\n2");
    let input = lines(&folder, "f");
    let end = all(&input).end.unwrap();
    folder.append("f", "\n");
    let again = from(&input, &end).unwrap();
    assert_eq!(again.items, []);
    folder.append("f", "3\n");
    assert_eq!(from(&input, &end).unwrap().texts(), ["3"]);
    assert_eq!(from(&input, &again.end.unwrap()).unwrap().texts(), ["3"]);
    folder.write("f", "1\n22\n");
    assert!(error(from(&input, &end)).contains("has been continued"));
}

#[test]
fn changed_files_stop_the_reader() {
    let folder = Folder::new();
    folder.write("a", "11\n22\n");
    folder.write("b", "33\n44\n");
    let input = lines(&folder, "*");
    let reading = all(&input);
    let (half, end) = (&reading.positions[1], reading.end.unwrap());
    let bounds = FetchBounds {
        messages: 1,
        bytes: 100,
    };
    let parts = read(&input, 0, oldest(), bounds).unwrap();
    let in_b = parts
        .positions
        .iter()
        .rfind(|position| position.next == 3)
        .unwrap();
    folder.write("a", "11\n");
    assert!(error(from(&input, &end)).contains("shorter"));
    assert!(error(from(&input, in_b)).contains("shorter"));
    assert!(error(from(&input, half)).contains("no longer begins"));
    folder.write("a", "11\n2x\n");
    assert!(error(from(&input, &end)).contains("no longer begins"));
    folder.write("a", "11\n22\n");
    assert_eq!(from(&input, in_b).unwrap().texts(), ["44"]);
    folder.rename("b", "z");
    assert_eq!(
        from(&input, in_b).unwrap().texts(),
        ["44"],
        "a new name is the same file"
    );
    std::fs::create_dir(folder.path().join("away")).unwrap();
    folder.rename("z", "away/z");
    assert!(error(from(&input, in_b)).contains("is gone"));
    folder.remove("a");
    folder.write("c", "");
    assert_eq!(
        from(&input, &end).unwrap().items,
        [],
        "files that were read may go"
    );
}

#[test]
fn a_place_in_a_late_file_is_told_before_and_after_others_have_gone() {
    let one = FetchBounds {
        messages: 1,
        bytes: usize::MAX,
    };
    for follow in [false, true] {
        let folder = Folder::new();
        for file in 0..200 {
            folder.write(&format!("f-{file:03}"), format!("{file}/0\n{file}/1\n"));
        }
        let options = options(&folder, "f-*", FileFormat::Lines);
        let input = input(FileInputOptions { follow, ..options });
        let whole = read(&input, 0, oldest(), one).unwrap();
        for file in [70, 130, 199] {
            let offset = file * 2 + 1;
            let in_file = |position: &&Position| position.next == offset;
            let at = whole.positions.iter().rfind(in_file).unwrap();
            // The first position that a reader returns.
            let again = from(&input, at).unwrap();
            let rest = from(&input, &again.positions[0]).unwrap();
            assert_eq!(rest.texts()[0], format!("{file}/1"), "follow = {follow}");
        }
    }
}

#[test]
fn what_is_made_for_a_place_does_not_grow_with_the_files() {
    let one = FetchBounds {
        messages: 1,
        bytes: usize::MAX,
    };
    for files in [20, 4000] {
        let folder = Folder::new();
        for file in 0..files {
            folder.write(&format!("f-{file:04}"), "1\n");
        }
        let input = lines(&folder, "f-*");
        let mut source = input.open(PartitionId(0), oldest()).unwrap();
        let (mut kept, mut seen, mut most) = (Vec::new(), HashSet::new(), 0);
        while let Polled::Messages(fetched) = source.poll(one).unwrap() {
            for detail in [fetched.start_detail, fetched.end_detail] {
                let detail = detail.unwrap();
                let made = detail.new_parts(&mut seen);
                // The first is of all files.
                most = usize::max(most, if kept.is_empty() { 0 } else { made });
                kept.push(detail);
            }
        }
        assert_eq!(kept.len(), files * 2);
        // Of each file its beginning, its name and numbers: some 60 bytes.
        assert!(most < 4000, "{most} for one of {files} files");
    }
}

#[test]
fn a_file_that_is_replaced_or_gone_before_it_is_opened_is_looked_for_again() {
    for follow in [false, true] {
        let folder = Folder::new();
        for name in ["a", "b", "c", "d"] {
            folder.write(name, format!("{name}\n"));
        }
        let options = options(&folder, "?", FileFormat::Lines);
        let input = input(FileInputOptions { follow, ..options });
        let mut source = input.open(PartitionId(0), oldest()).unwrap();
        folder.write("new", "new\n");
        folder.rename("new", "a");
        folder.rename("b", "renamed");
        folder.remove("c");
        let mut texts = drain(source.as_mut(), ALL).unwrap();
        texts.items.sort_by(|a, b| a.text().cmp(b.text()));
        // A follower holds what it has found.
        let expected: &[&str] = match follow {
            false => &["b", "d", "new"],
            true => &["a", "b", "c", "d", "new"],
        };
        assert_eq!(texts.texts(), expected);
    }
}

#[test]
fn a_detail_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    folder.write("f", "1\n");
    let input = lines(&folder, "f");
    let at = |detail: &[u8]| Position {
        next: 0,
        detail: Some(detail.to_vec().into()),
    };
    let end = all(&input).end.unwrap().detail.unwrap().to_vec();
    assert!(error(from(&input, &at(b""))).contains("empty"));
    assert!(error(from(&input, &at(&[2]))).contains("version 2"));
    assert!(from(&input, &at(&end)).is_ok());
    // Older hosts wrote no times of birth: a byte for their number, and of each nine.
    let (older, times) = end.split_at(end.len() - 10);
    assert_eq!(times[0], 1);
    assert!(from(&input, &at(older)).is_ok());
    for length in (1..end.len()).filter(|length| *length != older.len()) {
        assert!(
            error(from(&input, &at(&end[..length]))).contains("cannot be used"),
            "{length}"
        );
    }
}
