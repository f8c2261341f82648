//! Files that are followed.

use std::time::{Duration, Instant};

use super::*;
use crate::connectors::testing::drain;
use crate::connectors::{FetchBounds, Polled};

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

/// Reads until this many lines have come.
async fn wait_for(source: &mut dyn Source, lines: &mut Vec<String>, count: usize) {
    let read = async {
        loop {
            let reading = drain(source, ALL).unwrap();
            lines.extend(reading.texts().into_iter().map(str::to_owned));
            if lines.len() >= count {
                return;
            }
            source.ready().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), read).await;
    assert!(waited.is_ok(), "{count} lines");
}

#[tokio::test]
async fn where_the_kernel_tells_nothing_the_clock_does() {
    for watch in [Watch::deaf, Watch::refused] {
        let folder = Folder::new();
        folder.write("a.log", "1\n");
        let options = options(&folder, "*.log", FileFormat::Lines);
        let options = FileInputOptions {
            follow: true,
            ..options
        };
        let clock = Arc::new(ManualClock::new(9));
        let input = FileInput::listening(options, clock, watch).unwrap();
        let mut source = input.open(PartitionId(0), oldest()).unwrap();
        let (source, mut lines) = (source.as_mut(), Vec::new());
        wait_for(source, &mut lines, 1).await;
        folder.append("a.log", "2\n");
        wait_for(source, &mut lines, 2).await;
        folder.write("b.log", "3\n");
        wait_for(source, &mut lines, 3).await;
        // Renamed to what is none of the stream's names, and written to afterwards.
        folder.rename("a.log", "a.old");
        folder.write("a.log", "4\n");
        wait_for(source, &mut lines, 4).await;
        let began = Instant::now();
        folder.append("a.old", "5\n");
        wait_for(source, &mut lines, 5).await;
        let waited = began.elapsed();
        assert!(waited < super::super::table::FAREWELL, "{waited:?}");
        // Deleted before it was read to its end: the file is held.
        folder.append("b.log", "6\n");
        folder.remove("b.log");
        wait_for(source, &mut lines, 6).await;
        assert_eq!(lines, ["1", "2", "3", "4", "5", "6"]);
    }
}

#[test]
fn a_file_that_went_before_it_was_read_stops_the_reader_unless_it_may_be_dropped() {
    let folder = Folder::new();
    folder.write("a", "1\n2\n3\n");
    folder.write("b", "4\n");
    let one = FetchBounds {
        messages: 1,
        bytes: usize::MAX,
    };
    let options = options(&folder, "?", FileFormat::Lines);
    let with = |drop_unread| {
        input(FileInputOptions {
            follow: true,
            drop_unread,
            ..options.clone()
        })
    };
    let strict = with(false);
    let mut source = strict.open(PartitionId(0), oldest()).unwrap();
    let Polled::Messages(fetched) = source.poll(one).unwrap() else {
        panic!("there is a line");
    };
    drop(source);
    let at = Position {
        next: 1,
        detail: fetched.end_detail,
    };
    folder.remove("a");
    let refused = error(from(&strict, &at));
    assert!(
        refused.contains("it was read in part, up to byte 2"),
        "{refused}"
    );
    assert!(refused.contains("set `drop-unread = true`"), "{refused}");
    let reading = from(&with(true), &at).unwrap();
    assert_eq!(reading.texts(), ["4"]);
    assert_eq!(reading.items[0].offset(), 1);
    // It is forgotten.
    let again = from(&strict, reading.positions.last().unwrap()).unwrap();
    assert_eq!(again.items, []);
}
