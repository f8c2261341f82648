//! What files in particular must do: here, what their records become.

mod following;
mod output;
mod positions;

use std::sync::Arc;

use super::*;
use crate::connectors::testing::{ALL, Folder, Item, Reading, gzip, oldest, read};
use crate::model::{ManualClock, Position, StartAt};

fn options(folder: &Folder, name: &str, format: FileFormat) -> FileInputOptions {
    FileInputOptions {
        path: folder.pattern(name),
        format,
        key: None,
        timestamp: None,
        partitions: 1,
        follow: false,
        drop_unread: false,
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
fn a_line_that_is_not_a_row_is_reported_with_file_line_and_reason() {
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
