//! The task on the native harness: single cases, and all of `data` against `expected`.

use std::path::Path;

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Harness, Incoming, Setup};

use super::{WordCount, words};

fn task() -> Harness<WordCount> {
    Setup::new()
        .store("counts")
        .output("counts", 1)
        .output("top", 1)
        .start()
        .unwrap()
}

/// What was sent to an output, as the file that the host makes of it.
fn lines(task: &Harness<WordCount>, output: &str) -> String {
    let line = |value: String| value + "\n";
    let sent = task.sent(output);
    sent.iter()
        .map(|sent| line(sent.value_as::<Str>()))
        .collect()
}

/// The store as text: key, tab, value.
fn table(task: &Harness<WordCount>) -> String {
    let entries = task.store::<Str, Str>("counts").all();
    let line = |(word, count): &(String, String)| format!("{word}\t{count}\n");
    entries.iter().map(line).collect()
}

#[test]
fn a_word_is_letters_with_apostrophes_inside() {
    let cases: [(&str, &[&str]); 8] = [
        ("", &[]),
        ("`Oh dear!  Oh dear!", &["oh", "dear", "oh", "dear"]),
        (
            "'tis the Queen's o'clock'",
            &["tis", "the", "queen's", "o'clock"],
        ),
        (
            "rabbit-hole--_I_ shan't",
            &["rabbit", "hole", "i", "shan't"],
        ),
        ("'' ' 1865", &[]),
        ("a''b", &["a''b"]),
        ("3rd", &["rd"]),
        ("caf\u{e9} noir", &["caf", "noir"]),
    ];
    for (line, expected) in cases {
        assert_eq!(words(line.as_bytes()), expected, "{line:?}");
    }
    assert_eq!(words(b"no\xffUTF-8"), ["no", "utf"]);
}

#[test]
fn counts_go_on_from_batch_to_batch() {
    let mut task = task();
    task.feed([Incoming::value("The cat and the"), Incoming::value("dog")]);
    task.restart().unwrap();
    task.feed([Incoming::value("the end"), Incoming::value("")]);
    assert_eq!(
        lines(&task, "counts"),
        "{\"word\":\"the\",\"count\":1}\n\
         {\"word\":\"cat\",\"count\":1}\n\
         {\"word\":\"and\",\"count\":1}\n\
         {\"word\":\"the\",\"count\":2}\n\
         {\"word\":\"dog\",\"count\":1}\n\
         {\"word\":\"the\",\"count\":3}\n\
         {\"word\":\"end\",\"count\":1}\n"
    );
    assert_eq!(table(&task), "and\t1\ncat\t1\ndog\t1\nend\t1\nthe\t3\n");
    assert_eq!(task.calls().state(), 4);
}

#[test]
fn the_end_of_a_text_without_words_sends_nothing() {
    let mut task = task();
    task.feed([Incoming::value("* * *")]);
    task.end().unwrap();
    assert_eq!(lines(&task, "counts"), "");
    assert_eq!(lines(&task, "top"), "");
}

#[test]
fn all_the_data_yields_what_is_expected() {
    let mut task = task();
    let text = read("data/alice.txt");
    let all: Vec<_> = text.lines().map(Incoming::value).collect();
    for batch in all.chunks(500) {
        let fed = task.feed(batch.iter().cloned());
        assert!(fed.rejected.is_empty(), "{fed:?}");
    }
    assert_eq!(task.calls().state(), 2 * all.len().div_ceil(500) as u64);
    task.end().unwrap();
    assert_same("counts.jsonl", &lines(&task, "counts"));
    assert_same("top.jsonl", &lines(&task, "top"));
    assert_same("counts.tsv", &table(&task));
}

fn assert_same(file: &str, actual: &str) {
    let expected = read(&format!("expected/{file}"));
    for (number, (actual, expected)) in (1..).zip(actual.lines().zip(expected.lines())) {
        assert_eq!(actual, expected, "{file}, line {number}");
    }
    assert_eq!(
        actual.lines().count(),
        expected.lines().count(),
        "lines of {file}"
    );
    assert!(actual == expected, "{file} differs in its line ends");
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
