//! What a running job answers over HTTP: on its Unix socket, and over TCP where the job says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LOG;

/// An answer: the status code, the head and the body.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

fn ask(mut connection: impl Read + Write, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nhost: job\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("the request can be sent");
    let mut text = String::new();
    connection
        .read_to_string(&mut text)
        .expect("there is an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).expect("a status code");
    Answer {
        code: code.parse().expect("a number"),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// The socket of a running job, as its lock file names it.
fn socket(job: &Job) -> PathBuf {
    let lock = std::fs::read(job.state_dir().join("lock")).expect("the lock file");
    let lock: Value = serde_json::from_slice(&lock).expect("JSON");
    PathBuf::from(lock["socket"].as_str().expect("a path"))
}

fn on_socket(job: &Job, method: &str, path: &str, body: &str) -> Answer {
    let connection = UnixStream::connect(socket(job)).expect("the socket");
    ask(connection, method, path, body)
}

/// The samples of a page in Prometheus' text format: the value by name and labels. Panics where a line is not of that format.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            assert!(helped.insert(name), "{name} is explained twice");
            assert!(!help.is_empty(), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{name} comes twice");
            current = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = series.split_once('{').expect("labels");
        let labels = labels.strip_suffix('}').expect("the end of the labels");
        let of = match kinds[current] {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name),
            _ => name,
        };
        assert_eq!(of, current, "{line} is not below its own # TYPE");
        assert_eq!(
            kinds[current] == "counter",
            name.ends_with("_total"),
            "{line}"
        );
        assert!(helped.contains(current), "{current} is not explained");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{line}"
        );
        for label in labels.split("\",") {
            let (name, value) = label.split_once("=\"").expect("a label and its value");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
            assert!(!value.trim_end_matches('"').contains('"'), "{line}");
        }
        assert!(
            found.insert(series.to_owned(), value).is_none(),
            "{series} comes twice"
        );
    }
    found
}

/// The samples of a running job's metrics.
pub fn metrics(job: &Job) -> BTreeMap<String, f64> {
    let answer = on_socket(job, "GET", "/metrics", "");
    assert_eq!(answer.code, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    samples(&answer.body)
}

fn one(series: &str) -> String {
    format!("wasm_host_{series}{{job=\"count\"}}")
}

pub fn of_task(series: &str, partition: u32) -> String {
    format!("wasm_host_{series}{{job=\"count\",task=\"count/{partition}\"}}")
}

#[test]
fn metrics_are_prometheus_text_and_move() {
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace(
            "[stage.stores.counts]",
            "on-rejected = \"skip\"\nbatch-messages = 1\n[stage.stores.counts]",
        )
        .replace("[checkpoint]", "[checkpoint]\nbytes = \"64MiB\"");
    let job = Job::new(&text);
    let running = job.answering();
    let idle = metrics(&job);
    for partition in 0..2 {
        for series in [
            "messages_processed_total",
            "messages_rejected_total",
            "batches_total",
            "batches_undone_total",
            "instances_made_total",
        ] {
            assert_eq!(idle[&of_task(series, partition)], 0.0, "{series}");
        }
    }
    for series in [
        "epoch",
        "checkpoints_total",
        "checkpoint_attempts_failed_total",
        "uncommitted_bytes",
        "tasks_failed",
    ] {
        assert_eq!(idle[&one(series)], 0.0, "{series}");
    }
    assert_eq!(idle[&one("uncommitted_bytes_max")], f64::from(64 << 20));
    let to = |partition: u32, value: &str| {
        format!("{{\"partition\":{partition},\"value\":\"{value}\"}}\n")
    };
    let lines = to(0, "a") + &to(0, "reject it") + &to(0, "b") + &to(1, "c");
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    wait_until("all of it is committed", || job.values("out").len() == 3);
    job.call(&["checkpoint", "trigger"]).expect(0);
    let busy = metrics(&job);
    let expected = [
        (of_task("messages_processed_total", 0), 3.0),
        (of_task("messages_processed_total", 1), 1.0),
        (of_task("messages_rejected_total", 0), 1.0),
        (of_task("messages_rejected_total", 1), 0.0),
        (of_task("batches_undone_total", 1), 0.0),
        (of_task("instances_made_total", 1), 1.0),
        (
            "wasm_host_input_position{job=\"count\",task=\"count/0\",stream=\"in\"}".to_owned(),
            3.0,
        ),
        (
            "wasm_host_input_lag_messages{job=\"count\",task=\"count/0\",stream=\"in\"}".to_owned(),
            0.0,
        ),
        (
            "wasm_host_guest_obeyed_total{job=\"count\",stage=\"count\"}".to_owned(),
            3.0,
        ),
        (one("checkpoint_attempts_failed_total"), 0.0),
        (one("tasks_failed"), 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(busy.get(&series), Some(&value), "{series}");
    }
    let status = job.json(&["status"]).remove(0);
    let number = |name: &str| status[name].as_f64().expect("a number");
    assert_eq!(busy[&one("epoch")], number("epoch"));
    assert_eq!(busy[&one("checkpoints_total")], number("checkpoints"));
    assert_eq!(busy[&one("instances")], number("instances"));
    assert!(busy[&one("checkpoints_total")] >= 1.0);
    assert!(busy[&one("checkpoint_last_duration_seconds")] > 0.0);
    assert!(busy[&one("checkpoint_last_bytes")] > 0.0);
    assert!(busy.contains_key(&one("checkpoint_last_pause_seconds")));
    assert!(busy.contains_key(&one("rocksdb_state_bytes")));
    running.terminate().expect(0);
}

#[test]
fn other_routes_and_methods_are_refused() {
    let job = Job::new(COUNT_LOG);
    let running = job.answering();
    for path in ["/", "/health", "/metrics/", "/logs/in/0", "/state"] {
        assert_eq!(on_socket(&job, "GET", path, "").code, 404, "{path}");
    }
    let methods = [
        ("POST", "/metrics"),
        ("DELETE", "/checkpoints"),
        ("PUT", "/logs/in"),
        ("POST", "/status"),
        ("POST", "/offsets"),
    ];
    for (method, path) in methods {
        let answer = on_socket(&job, method, path, "");
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(answer.head.contains("allow: "), "{}", answer.head);
    }
    for (path, code, says) in [
        (
            "/logs/none?partition=0&from=0",
            404,
            "no log stream \\\"none\\\"",
        ),
        (
            "/logs/in?partition=0&from=1",
            416,
            "offset 1 does not exist",
        ),
        ("/logs/in?partition=0", 400, "from"),
        ("/logs/in?partition=x&from=0", 400, "partition"),
    ] {
        let answer = on_socket(&job, "GET", path, "");
        assert_eq!(answer.code, code, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
    }
    for (body, says) in [
        ("{\"value\":\"a\"}\nnonsense\n", "line 2: "),
        (
            "{\"value\":\"a\",\"partition\":7}\n",
            "partition 7 does not exist",
        ),
    ] {
        let answer = on_socket(&job, "POST", "/logs/in", body);
        assert_eq!(answer.code, 400, "{}", answer.body);
        let error: Value = serde_json::from_str(&answer.body).expect("JSON");
        let error = error["error"].as_str().expect("a sentence");
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(job.values("in"), Vec::<String>::new(), "all or nothing");
    running.terminate().expect(0);
}

#[test]
fn messages_are_appended_and_read_by_http() {
    let job = Job::new(COUNT_LOG);
    let running = job.answering();
    let body = "{\"partition\":1,\"key\":\"k\",\"value\":\"v\",\"timestamp\":5}\n{\"partition\":1,\"key\":\"k\",\"value\":null,\"timestamp\":6}\n";
    let places = on_socket(&job, "POST", "/logs/in", body);
    assert_eq!(places.code, 200, "{}", places.body);
    assert_eq!(
        places.body,
        "[{\"partition\":1,\"offset\":0},{\"partition\":1,\"offset\":1}]"
    );
    let read = on_socket(&job, "GET", "/logs/in?partition=1&from=0&limit=1", "");
    assert_eq!(
        read.body,
        "{\"stream\":\"in\",\"partition\":1,\"offset\":0,\"timestamp\":5,\"key\":\"k\",\"value\":\"v\",\"headers\":[]}\n"
    );
    assert!(read.head.contains("wasm-host-next: 1\r\n"), "{}", read.head);
    let rest = on_socket(&job, "GET", "/logs/in?partition=1&from=1", "");
    assert!(
        rest.body
            .contains("\"offset\":1,\"timestamp\":6,\"key\":\"k\",\"value\":null")
    );
    // A checkpoint contains what has been processed, which need not be all that is in the log.
    wait_until("both are processed", || {
        samples(&on_socket(&job, "GET", "/metrics", "").body)
            [&of_task("messages_processed_total", 1)]
            == 2.0
    });
    let taken = on_socket(&job, "POST", "/checkpoints", "");
    assert_eq!(taken.code, 200);
    assert_eq!(job.values("out"), ["k 1", "k 2"]);
    running.terminate().expect(0);
}

#[test]
fn tcp_only_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number");
    drop(listener);
    let job = Job::new(&COUNT_LOG.replace(
        "[checkpoint]",
        &format!("listen = \"{address}\"\n[checkpoint]"),
    ));
    let running = job.answering();
    let over_tcp = |method: &str, path: &str| {
        let connection = TcpStream::connect(address).expect("the port");
        ask(connection, method, path, "")
    };
    for path in ["/status", "/metrics", "/checkpoints", "/offsets", "/logs"] {
        assert_eq!(over_tcp("GET", path).code, 200, "{path}");
    }
    assert!(samples(&over_tcp("GET", "/metrics").body).contains_key(&one("epoch")));
    assert_eq!(over_tcp("POST", "/checkpoints").code, 405);
    assert_eq!(over_tcp("POST", "/logs/in").code, 404);
    assert_eq!(over_tcp("GET", "/logs/in?partition=0&from=0").code, 404);
    running.terminate().expect(0);
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn the_socket_is_private_and_goes_with_the_job() {
    use std::os::unix::fs::PermissionsExt;
    let job = Job::new(COUNT_LOG);
    let running = job.answering();
    let socket = socket(&job);
    let folder = socket.parent().expect("a folder");
    let mode = folder.metadata().expect("the folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    running.terminate().expect(0);
    assert!(!socket.exists());
}

#[test]
fn a_folder_for_the_state_keeps_its_mode_and_what_is_in_it_is_private() {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let mode = |path: &std::path::Path| {
        let metadata = path.metadata().expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    for folder_mode in [0o755, 0o750, 0o700] {
        let job = Job::new(COUNT_LOG);
        let folder = job.state_dir();
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(folder_mode).recursive(true);
        builder.create(&folder).expect("a folder");
        let before = mode(&folder);
        for _ in 0..2 {
            job.call(&["run", "--until-idle"]).expect(0);
            assert_eq!(mode(&folder), before, "it is the operator's");
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&folder).expect("the folder") {
                let path = entry.expect("an entry").path();
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
                names.extend(path.file_name().map(std::ffi::OsStr::to_owned));
            }
            names.sort();
            assert_eq!(names, ["FORMAT", "code", "crumbs", "db", "lock", "witness"]);
        }
    }
}

#[test]
fn a_partition_that_a_log_does_not_have_is_not_an_empty_one() {
    let job = Job::new(COUNT_LOG);
    let running = job.answering();
    for path in [
        "/logs/out?partition=2&from=0",
        "/logs/out/offset?partition=2&time=0",
    ] {
        let answer = on_socket(&job, "GET", path, "");
        assert_eq!(answer.code, 404, "{path}");
        let says = "stream \\\"out\\\" has no partition 2: it has 2";
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    let answer = on_socket(&job, "GET", "/logs/out?partition=1&from=0", "");
    assert_eq!((answer.code, answer.body.as_str()), (200, ""));
    let answer = on_socket(&job, "GET", "/logs/out?partition=1&from=5", "");
    assert_eq!(answer.code, 416);
    assert!(answer.body.contains("--from oldest"), "{}", answer.body);
    running.terminate().expect(0);
}
