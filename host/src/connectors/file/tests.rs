//! What files in particular must do.

use std::sync::Arc;

use super::*;
use crate::connectors::testing::{ALL, Folder, Item, Reading, drain, gzip, oldest, read};
use crate::connectors::{FetchBounds, Output, OutputFormat, Polled, SinkError};
use crate::model::{ManualClock, Position, StartAt};

fn options(folder: &Folder, name: &str, format: FileFormat) -> FileInputOptions {
    FileInputOptions {
        path: folder.pattern(name),
        format,
        key: None,
        timestamp: None,
        partitions: 1,
        follow: false,
        record_bytes: RECORD_BYTES_DEFAULT,
    }
}

fn lines(folder: &Folder, name: &str) -> FileInput {
    input(options(folder, name, FileFormat::Lines))
}

fn following(folder: &Folder, name: &str) -> FileInput {
    let options = options(folder, name, FileFormat::Lines);
    input(FileInputOptions {
        follow: true,
        ..options
    })
}

fn input(options: FileInputOptions) -> FileInput {
    FileInput::new(options, Arc::new(ManualClock::new(9))).unwrap()
}

fn all(input: &FileInput) -> Reading {
    read(input, 0, oldest(), ALL).unwrap()
}

fn from(input: &FileInput, position: &Position) -> Result<Reading, SourceError> {
    read(input, 0, OpenAt::Position(position.clone()), ALL)
}

fn error(result: Result<Reading, SourceError>) -> String {
    result.unwrap_err().to_string()
}

/// The values and, of what is no message, the reasons, without the folder's path.
fn texts(folder: &Folder, reading: &Reading) -> Vec<String> {
    let prefix = folder.pattern("");
    reading
        .texts()
        .into_iter()
        .map(|text| text.replace(&prefix, ""))
        .collect()
}

fn csv(text: &str) -> Vec<String> {
    let folder = Folder::new();
    folder.write("f.csv", text);
    texts(
        &folder,
        &all(&input(options(&folder, "f.csv", FileFormat::Csv))),
    )
}

#[test]
fn csv_rows_become_objects() {
    let text = "\u{feff}a,\"b \"\"x\"\"\",c\r\n1,\"two\r\nlines, and \"\"quotes\"\"\",\r\n\r\n\n\"\",é\\,\t\n x ,a\"b,\"q\"z";
    assert_eq!(
        csv(text),
        [
            r#"{"a":"1","b \"x\"":"two\r\nlines, and \"quotes\"","c":""}"#,
            r#"{"a":"","b \"x\"":"é\\","c":"\t"}"#,
            r#"{"a":" x ","b \"x\"":"a\"b","c":"qz"}"#,
        ]
    );
    assert_eq!(csv("a,b\n"), [""; 0]);
    assert_eq!(csv("a,b"), [""; 0]);
    assert_eq!(csv("\n\na\n\n1\n"), [r#"{"a":"1"}"#]);
}

#[test]
fn what_is_no_row_is_given_with_file_line_and_reason() {
    let folder = Folder::new();
    folder.write(
        "f.csv",
        b"a,b\n\"1\n2\",3\n4\n5,\xff\n6,7,8\n9,\"x\ny\n".as_slice(),
    );
    let reading = all(&input(options(&folder, "f.csv", FileFormat::Csv)));
    assert_eq!(
        texts(&folder, &reading),
        [
            r#"{"a":"1\n2","b":"3"}"#,
            "f.csv, line 4: 1 fields, but the header has 2",
            "f.csv, line 5: column `b` is not UTF-8",
            "f.csv, line 6: 3 fields, but the header has 2",
            "f.csv, line 7: a quoted field is not closed before the end of the file",
        ]
    );
    let offsets: Vec<u64> = reading.items.iter().map(Item::offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    assert!(matches!(&reading.items[2], Item::Undecodable { raw, .. } if raw == b"5,\xff"));
    assert_eq!(csv("a,a\n1,2\n").len(), 1);
    assert!(csv("a,a\n1,2\n")[0].contains("column `a` twice"));
}

#[test]
fn keys_and_timestamps_are_found_or_missed() {
    let folder = Folder::new();
    folder.write("f.csv", "when,who\n202501020304,x\nsoon,y\n");
    folder.write("g.csv", "when\n202501020304\n");
    let timestamp = Some(TimestampSpec {
        field: "when".to_owned(),
        format: TimestampFormat::parse("%Y%m%d%H%M").unwrap(),
    });
    let reading = all(&input(FileInputOptions {
        key: Some("who".to_owned()),
        timestamp: timestamp.clone(),
        ..options(&folder, "*.csv", FileFormat::Csv)
    }));
    let texts = texts(&folder, &reading);
    assert!(
        matches!(&reading.items[0], Item::Message { key: Some(key), timestamp: 1_735_787_040_000, .. } if key == "x")
    );
    assert!(
        texts[1].starts_with("f.csv, line 3: column `when`: timestamp `soon`: "),
        "{}",
        texts[1]
    );
    assert_eq!(texts[2], "g.csv, line 2: the header has no column `who`");
    folder.write(
        "h.jsonl",
        "{\"id\":7}\n{\"id\":null}\n{\"id\":7.5}\n[]\n{\"id\":\n \n{\"id\":true}",
    );
    let jsonl = options(&folder, "h.jsonl", FileFormat::Jsonl);
    let reading = all(&input(FileInputOptions {
        key: Some("id".to_owned()),
        ..jsonl.clone()
    }));
    let texts = super::tests::texts(&folder, &reading);
    assert_eq!(
        texts[..4],
        [
            "{\"id\":7}",
            "h.jsonl, line 2: key: null",
            "h.jsonl, line 3: key: a number that is not an integer",
            "h.jsonl, line 4: key: missing",
        ]
    );
    assert!(
        texts[4].starts_with("h.jsonl, line 5: not JSON: "),
        "{}",
        texts[4]
    );
    assert!(
        matches!(&reading.items[5], Item::Message { key: Some(key), timestamp: 9, offset: 5, .. } if key == "true")
    );
    let plain = all(&input(jsonl));
    assert_eq!(plain.texts()[4], "{\"id\":");
}

#[test]
fn a_start_time_needs_timestamps() {
    let folder = Folder::new();
    folder.write("f", "{\"t\":1}\n{\"t\":5}\nx\n{\"t\":2}\n");
    let timed = input(FileInputOptions {
        timestamp: Some(TimestampSpec {
            field: "t".to_owned(),
            format: TimestampFormat::UnixMs,
        }),
        ..options(&folder, "f", FileFormat::Jsonl)
    });
    let at = |time| OpenAt::Start(StartAt::Time(time));
    let offsets = |time| -> Vec<u64> {
        let reading = read(&timed, 0, at(time), ALL).unwrap();
        reading.items.iter().map(Item::offset).collect()
    };
    assert_eq!(offsets(1), [0, 1, 2, 3]);
    assert_eq!(offsets(2), [1, 2, 3]);
    assert_eq!(offsets(6), [0; 0]);
    assert!(error(read(&lines(&folder, "f"), 0, at(1), ALL)).contains("timestamp"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    let refuse = |change: &dyn Fn(&mut FileInputOptions)| {
        let mut options = options(&folder, "f", FileFormat::Lines);
        change(&mut options);
        FileInput::new(options, Arc::new(ManualClock::new(0)))
            .err()
            .unwrap()
    };
    assert!(refuse(&|options| options.partitions = 2).contains("key"));
    assert!(refuse(&|options| options.partitions = 0).contains("partition"));
    assert!(refuse(&|options| options.key = Some("k".to_owned())).contains("`lines` has no key"));
    assert!(refuse(&|options| options.path = "f".to_owned()).contains("absolute"));
    assert!(refuse(&|options| options.path = "/a[".to_owned()).contains("pattern"));
    assert!(refuse(&|options| options.record_bytes = 0).contains("record-bytes"));
    let gz = |options: &mut FileInputOptions| {
        options.follow = true;
        options.path = "/f.gz".to_owned();
    };
    assert!(refuse(&gz).contains("compressed"));
}

#[test]
fn long_records_are_given_up_to_the_limit() {
    let long = "x".repeat(700_000);
    for (format, head) in [(FileFormat::Lines, ""), (FileFormat::Csv, "a\n")] {
        for size in [99, 100, 101, 200_000, 700_000] {
            for end in ["", "\n", "\r\n"] {
                let folder = Folder::new();
                folder.write("f", format!("{head}{}{end}", &long[..size]));
                folder.write("g", format!("\u{feff}{head}{}\r\nok\n", &long[..size]));
                let mut options = options(&folder, "*", format);
                options.record_bytes = 100;
                let reading = all(&input(options));
                assert_eq!(reading.items.len(), 3, "{size} {end:?}");
                for item in &reading.items[..2] {
                    match item {
                        Item::Message { .. } => assert!(size <= 100),
                        Item::Undecodable { raw, reason, .. } => {
                            assert_eq!(raw, &long.as_bytes()[..100]);
                            assert!(
                                reason.contains(&format!(
                                    "{size} bytes, more than `record-bytes` = 100"
                                )),
                                "{reason}"
                            );
                        }
                    }
                }
                assert!(reading.items[2].text().contains("ok"));
            }
        }
    }
}

#[test]
fn records_longer_than_a_read_are_whole() {
    let folder = Folder::new();
    let long = |byte: &str| byte.repeat(300_000);
    folder.write("f", format!("h\n\"{}\n\"\n{}\n1\n", long("a"), long("b")));
    let reading = all(&input(options(&folder, "f", FileFormat::Csv)));
    let row = |value: &str| format!("{{\"h\":\"{value}\"}}");
    assert_eq!(
        reading.texts(),
        [row(&format!("{}\\n", long("a"))), row(&long("b")), row("1")]
    );
}

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
            // The first that a reader tells, where it has told nothing before.
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
        let (mut kept, mut seen, mut most) = (Vec::new(), std::collections::HashSet::new(), 0);
        while let Polled::Messages(fetched) = source.poll(one).unwrap() {
            for detail in [fetched.start_detail, fetched.end_detail] {
                let detail = detail.unwrap();
                let made = detail.made_anew(&mut seen);
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
fn a_damaged_gzip_stops_the_reader() {
    let folder = Folder::new();
    let text: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    let whole = gzip(text.as_bytes());
    let input = lines(&folder, "f.gz");
    folder.write("f.gz", &whole[..whole.len() / 2]);
    assert!(error(read(&input, 0, oldest(), ALL)).contains("f.gz: the compressed data ends early"));
    let mut corrupt = whole.clone();
    let middle = whole.len() / 2;
    corrupt[middle..middle + 8].fill(0x55);
    folder.write("f.gz", corrupt);
    assert!(error(read(&input, 0, oldest(), ALL)).contains("f.gz: the compressed data"));
    folder.write("f.gz", "this is a text, and no gzip");
    assert!(error(read(&input, 0, oldest(), ALL)).contains("corrupt"));
    folder.write("f.gz", [whole, gzip(b"and more\n")].concat());
    assert_eq!(all(&input).items.len(), 50_001);
}

#[test]
fn a_follower_waits_for_line_ends() {
    let folder = Folder::new();
    folder.write("f", "1\n2");
    let input = following(&folder, "f");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let mut next = || drain(source.as_mut(), ALL).unwrap();
    let first = next();
    assert_eq!(first.texts(), ["1"]);
    folder.append("f", "2\r");
    assert_eq!(next().items, []);
    folder.append("f", "\n3\n4");
    let second = next();
    assert_eq!(second.texts(), ["22", "3"]);
    folder.append("f", "4\n");
    assert_eq!(
        from(&input, first.positions.last().unwrap())
            .unwrap()
            .texts(),
        ["22", "3", "44"]
    );
    assert_eq!(next().texts(), ["44"]);
    let latest = input.open(PartitionId(0), OpenAt::Start(StartAt::Latest));
    folder.append("f", "5\n");
    let reading = drain(latest.unwrap().as_mut(), ALL).unwrap();
    assert_eq!((reading.texts(), reading.items[0].offset()), (vec!["5"], 4));
}

#[test]
fn a_follower_waits_for_headers_and_rows() {
    let folder = Folder::new();
    folder.write("f", "a,");
    let options = options(&folder, "f", FileFormat::Csv);
    let input = input(FileInputOptions {
        follow: true,
        ..options
    });
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let mut next = || {
        let reading = drain(source.as_mut(), ALL).unwrap();
        reading
            .texts()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(next(), [""; 0]);
    folder.append("f", "b\n1,\"x\n");
    assert_eq!(next(), [""; 0]);
    folder.append("f", "y\"\n2,z\n");
    assert_eq!(next(), [r#"{"a":"1","b":"x\ny"}"#, r#"{"a":"2","b":"z"}"#]);
    folder.append("f", "3,w\n");
    assert_eq!(next(), [r#"{"a":"3","b":"w"}"#]);
}

#[test]
fn a_follower_reads_a_rotated_file_to_its_end() {
    let folder = Folder::new();
    folder.write("f.log", "1\n");
    let input = following(&folder, "f.log");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let mut next = || drain(source.as_mut(), ALL).unwrap();
    let first = next();
    folder.rename("f.log", "f.log.1");
    folder.append("f.log.1", "2\n");
    folder.write("f.log", "3\n");
    let at = first.positions.last().unwrap();
    assert_eq!(
        from(&input, at).unwrap().texts(),
        ["2", "3"],
        "also when it was rotated meanwhile"
    );
    let second = next();
    assert_eq!(second.texts(), ["2", "3"]);
    folder.append("f.log.1", "late\n");
    folder.append("f.log", "4\n");
    assert_eq!(next().texts(), ["late", "4"]);
    let at = second.positions.last().unwrap();
    assert_eq!(from(&input, at).unwrap().texts(), ["4", "late"]);
    folder.write("f.log", "");
    assert!(
        drain(source.as_mut(), ALL)
            .unwrap_err()
            .to_string()
            .contains("shorter")
    );
}

#[test]
fn what_one_poll_gives_can_be_read_again_when_other_files_have_grown() {
    let folder = Folder::new();
    folder.write("a", "a1\n");
    folder.write("b", "b1\nb2\n");
    let input = following(&folder, "?");
    let reading = all(&input);
    let after_b1 = reading
        .positions
        .iter()
        .rfind(|position| position.next == 2)
        .unwrap();
    folder.append("a", "a2\na3\n");
    assert_eq!(from(&input, after_b1).unwrap().texts(), ["b2", "a2", "a3"]);
}

#[test]
fn a_file_that_grows_for_ever_starves_none() {
    let folder = Folder::new();
    let line = "x".repeat(1023) + "\n";
    folder.write("a", line.repeat(3000));
    folder.write("b", "b1\n");
    let input = following(&folder, "?");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let bounds = FetchBounds {
        messages: 100,
        bytes: usize::MAX,
    };
    // What was there at first comes in the order of the files; then a file has its turn while the other grows faster
    // than it is read.
    let mut found = None;
    for poll in 0..200 {
        folder.append("a", line.repeat(150));
        if poll == 60 {
            folder.append("b", "b2\n");
            folder.write("c", "c1\n");
        }
        let Polled::Messages(fetched) = source.poll(bounds).unwrap() else {
            panic!("there is more");
        };
        let first = fetched.messages.get(0).value.unwrap().to_vec();
        if first.len() == 2 {
            found.get_or_insert_with(Vec::new).push(first.clone());
            let detail = fetched.start_detail.clone();
            let again = Position {
                next: fetched.offsets[0],
                detail,
            };
            let mut again = input.open(PartitionId(0), OpenAt::Position(again)).unwrap();
            let Polled::Messages(replayed) = again.poll(bounds).unwrap() else {
                panic!("it can be read again");
            };
            assert_eq!(replayed.messages.get(0).value.unwrap(), first);
            assert_eq!(replayed.offsets[0], fetched.offsets[0]);
        }
    }
    assert_eq!(found.unwrap(), [b"b1", b"b2", b"c1"]);
}

#[test]
fn a_turn_that_ends_in_the_middle_of_a_file_is_read_again_as_it_was() {
    let folder = Folder::new();
    let lines = |name: &str, range: std::ops::Range<usize>| -> String {
        range.map(|at| format!("{name}{at:099}\n")).collect()
    };
    folder.write("a", "");
    folder.write("b", "");
    let input = following(&folder, "?");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    folder.append("a", lines("a", 0..25_000));
    folder.append("b", lines("b", 0..25_000));
    let bounds = FetchBounds {
        messages: 7000,
        bytes: usize::MAX,
    };
    let whole = drain(source.as_mut(), bounds).unwrap();
    assert_eq!(whole.items.len(), 50_000);
    let names: Vec<u8> = whole
        .items
        .iter()
        .map(|item| item.text().as_bytes()[0])
        .collect();
    let turns = names.chunk_by(|a, b| a == b).count();
    assert!(turns >= 4, "{turns} turns");
    for position in whole.positions.iter().step_by(1777) {
        let rest = from(&input, position).unwrap();
        let next = usize::try_from(position.next).unwrap();
        assert_eq!(rest.items.len(), 50_000 - next);
        let before = &whole.items[..next];
        let mut all: Vec<&str> = before.iter().chain(&rest.items).map(Item::text).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 50_000, "from {next}");
    }
}

#[test]
fn files_found_together_are_followed_from_the_oldest_to_the_newest() {
    let folder = Folder::new();
    let write = |name: &str, seconds: u64| {
        folder.write(name, format!("{name}\n"));
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = std::fs::File::options()
            .write(true)
            .open(folder.path().join(name));
        file.unwrap().set_modified(time).unwrap();
    };
    write("app.log", 40);
    write("app.log.1", 30);
    write("app.log.2", 20);
    write("app.log.10", 10);
    for name in ["d.2", "d.10", "d.1", "d.010"] {
        write(name, 50);
    }
    let expected = [
        "app.log.10",
        "app.log.2",
        "app.log.1",
        "app.log",
        "d.1",
        "d.2",
        "d.010",
        "d.10",
    ];
    assert_eq!(all(&following(&folder, "*")).texts(), expected);
    let bounded = all(&lines(&folder, "*"));
    assert_eq!(bounded.texts()[..3], ["app.log", "app.log.1", "app.log.10"]);
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
fn a_copied_and_truncated_file_stops_the_reader() {
    let folder = Folder::new();
    folder.write("f", "1\n2\n");
    let input = following(&folder, "f");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let mut next = || drain(source.as_mut(), ALL);
    next().unwrap();
    folder.write("f", "");
    assert!(error(next()).contains("shorter"));
    folder.write("g", "1\n2\n");
    let input = following(&folder, "g");
    let mut source = input.open(PartitionId(0), oldest()).unwrap();
    let mut next = || drain(source.as_mut(), ALL);
    next().unwrap();
    folder.write("g", "other lines\nthan before\n");
    assert!(error(next()).contains("no longer begins"));
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

fn sink(folder: &Folder, partitions: u32) -> Box<dyn crate::connectors::Sink> {
    let options = FileOutputOptions {
        folder: folder.path().to_owned(),
        stream: "s".to_owned(),
        partitions,
        format: OutputFormat::Lines,
    };
    FileOutput::new(options, Arc::new(())).sink(PartitionId(0))
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
