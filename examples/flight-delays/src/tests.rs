//! The task on the native harness: single cases, and all of `data` against `expected`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::{Harness, Incoming, Sent, Setup};

use super::{Airport, FlightDelays, mean};

const PARTITIONS: u32 = 4;

fn task() -> Harness<FlightDelays> {
    Setup::new()
        .store("by-origin")
        .output("delays", PARTITIONS)
        .start()
        .unwrap()
}

fn flight(origin: &str, delay: &str) -> Incoming {
    Incoming::new(origin, format!(r#"{{"delay":"{delay}"}}"#))
}

fn text(sent: &Sent) -> String {
    sent.value_as::<Str>()
}

fn stored(task: &Harness<FlightDelays>, origin: &str) -> Option<String> {
    task.store::<Str, Str>("by-origin").get(origin)
}

#[test]
fn each_flight_sends_the_latest_figures_of_its_airport() {
    let mut task = task();
    let fed = task.feed([flight("ATL", "7"), flight("JFK", "-3"), flight("ATL", "0")]);
    assert!(fed.rejected.is_empty(), "{fed:?}");
    let sent: Vec<_> = task.sent("delays").iter().map(text).collect();
    assert_eq!(
        sent,
        [
            r#"{"origin":"ATL","flights":1,"mean-delay":7.0,"worst-delay":7}"#,
            r#"{"origin":"JFK","flights":1,"mean-delay":-3.0,"worst-delay":-3}"#,
            r#"{"origin":"ATL","flights":2,"mean-delay":3.5,"worst-delay":7}"#,
        ]
    );
    assert_eq!(
        stored(&task, "ATL").as_deref(),
        Some(r#"{"flights":2,"sum-delay":7,"mean-delay":3.5,"worst-delay":7}"#)
    );
    assert_eq!(task.calls().state(), 2);
}

#[test]
fn a_delay_that_is_no_number_rejects_its_row_alone() {
    let mut task = task();
    let fed = task.feed([
        flight("ATL", "5"),
        flight("ATL", ""),
        flight("ORD", "late"),
        flight("ATL", "1.5"),
        Incoming::new("ATL", r#"{"date":"2001/01/01 00:47"}"#),
        flight("ATL", "6"),
    ]);
    assert_eq!(fed.replayed, None);
    let rejected: Vec<_> = fed
        .rejected
        .iter()
        .map(|rejected| (rejected.offset, rejected.reason.as_str()))
        .collect();
    assert_eq!(
        rejected,
        [
            (1, r#"delay "" is no number of minutes"#),
            (2, r#"delay "late" is no number of minutes"#),
            (3, r#"delay "1.5" is no number of minutes"#),
            (4, "the value: missing field `delay` at line 1 column 27"),
        ]
    );
    assert_eq!(task.sent("delays").len(), 2);
    assert_eq!(stored(&task, "ORD"), None);
    assert_eq!(
        stored(&task, "ATL").as_deref(),
        Some(r#"{"flights":2,"sum-delay":11,"mean-delay":5.5,"worst-delay":6}"#)
    );
}

#[test]
fn state_goes_on_where_another_instance_left_it() {
    let mut task = task();
    task.feed([flight("ATL", "1")]);
    task.restart().unwrap();
    task.feed([flight("ATL", "2")]);
    assert_eq!(
        text(&task.sent("delays")[1]),
        r#"{"origin":"ATL","flights":2,"mean-delay":1.5,"worst-delay":2}"#
    );
}

#[test]
fn means_are_rounded_half_away_from_zero() {
    let cases: [(i64, u32, &str); 11] = [
        (7, 2, "3.5"),
        (24, 2, "12.0"),
        (1, 20, "0.1"),
        (-1, 20, "-0.1"),
        (1, 21, "0.0"),
        (-1, 21, "0.0"),
        (-5, 20, "-0.3"),
        (3, 20, "0.2"),
        (49, 20, "2.5"),
        (2, 3, "0.7"),
        (i64::MAX, u32::MAX, "2147483648.5"),
    ];
    for (sum, count, shown) in cases {
        let json = serde_json::to_string(&mean(sum, count)).unwrap();
        assert_eq!(json, shown, "{sum} / {count}");
    }
}

#[test]
fn all_the_data_yields_what_is_expected() {
    let mut task = task();
    let rows = rows();
    assert_eq!(rows.len(), 20_000);
    for batch in rows.chunks(500) {
        let fed = task.feed(batch.iter().cloned());
        assert!(fed.rejected.is_empty(), "{fed:?}");
    }
    assert_eq!(task.calls().state(), 2 * 40);

    let mut latest = BTreeMap::new();
    let mut partitions = vec![String::new(); PARTITIONS as usize];
    for sent in task.sent("delays") {
        partitions[sent.partition as usize] += &(text(&sent) + "\n");
        latest.insert(sent.key_as::<Str>(), text(&sent));
    }
    for (partition, lines) in partitions.iter().enumerate() {
        assert_same(&format!("delays-{partition}.jsonl"), lines);
    }

    let entries = task.store::<Str, Str>("by-origin").all();
    let table: String = entries
        .iter()
        .map(|(origin, airport)| format!("{origin}\t{airport}\n"))
        .collect();
    assert_same("by-origin.tsv", &table);

    let mut airports = task.store::<Str, Json<Airport>>("by-origin").all();
    // The sort is stable, and the entries come by their keys.
    airports.sort_by(|(_, left), (_, right)| right.mean_delay.total_cmp(&left.mean_delay));
    let ranking: String = airports
        .iter()
        .map(|(origin, _)| latest[origin].clone() + "\n")
        .collect();
    assert_same("airports.jsonl", &ranking);
}

/// The rows of the CSV file as the host hands them to a task. None of the fields is quoted.
fn rows() -> Vec<Incoming> {
    let csv = read("data/flights.csv");
    let mut lines = csv.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').collect();
    assert_eq!(
        columns,
        ["date", "delay", "distance", "origin", "destination"]
    );
    let row = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        assert_eq!(fields.len(), columns.len(), "{line}");
        let object: Map<String, Value> = columns
            .iter()
            .zip(&fields)
            .map(|(&column, &field)| (column.to_owned(), field.into()))
            .collect();
        Incoming::json(&object).key(fields[3])
    };
    lines.map(row).collect()
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
