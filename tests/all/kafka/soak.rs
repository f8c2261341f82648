//! A job between two topics of three brokers, through proxies that delay, cut and swallow; it is killed and stopped again and again,
//! and so are the brokers.
//!
//! `KAFKA_RECORDS` (100,000) says how many records, `KAFKA_KILLS` (30) how many kills and pauses of the host; a tenth as many of brokers.
//! `SOAK_SEED` replays what is drawn, not what falls between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use super::broker::{Broker, Record};
use super::proxy::{Api, Fate, Proxy};
use super::{Between, fresh};
use crate::harness::Job;

const KEYS: usize = 200;
const PARTITIONS: u32 = 8;

fn number(name: &str, default: usize) -> usize {
    let number = std::env::var(name).ok();
    number.map_or(default, |number| number.parse().expect("a number"))
}

/// A message: its key and what it says.
struct Message {
    key: String,
    text: String,
}

fn messages(count: usize, random: &mut StdRng) -> Vec<Message> {
    let one = |at: usize| {
        let text = match random.random_range(0..100) {
            0..5 => "clear".to_owned(),
            5..7 => format!("reject {at}"),
            _ => format!("add {}", random.random_range(0..50)),
        };
        let key = format!("k{}", random.random_range(0..KEYS));
        Message { key, text }
    };
    (0..count).map(one).collect()
}

/// What must come of them: what each key has sent, in order; what is left of it; and what was rejected.
#[derive(Default)]
struct Expected {
    said: BTreeMap<String, Vec<String>>,
    entries: BTreeMap<String, u64>,
    rejected: Vec<String>,
}

fn expected(messages: &[Message]) -> Expected {
    let mut expected = Expected::default();
    for Message { key, text } in messages {
        let prefix = format!("{key}/");
        if let Some(number) = text.strip_prefix("add ") {
            *expected.entries.entry(prefix + number).or_default() += 1;
        } else if text == "clear" {
            let before = expected.entries.len();
            expected
                .entries
                .retain(|entry, _| !entry.starts_with(&prefix));
            let count = before - expected.entries.len();
            let said = expected.said.entry(key.clone()).or_default();
            said.push(format!("{key} had {count}"));
        } else {
            expected.rejected.push(text.clone());
        }
    }
    expected.rejected.sort();
    expected
}

fn job(brokers: &[Broker; 3], between: &Between, letters: &str) -> Job {
    let settings = "[checkpoint]\ninterval = \"100ms\"";
    let stage = "component = \"{guest:tally}\"\non-rejected = \"dead-letter\"\ndead-letters = \"letters\"\n[stage.stores.entries]\ntype = \"rocksdb\"";
    let text = between.text(settings, "until = \"end\"\nmax-rate = \"8000/s\"", stage);
    let letters =
        format!("[streams.letters]\nsystem = \"kafka\"\ntopic = \"{letters}\"\n[[stage]]");
    let proxied = brokers
        .each_ref()
        .map(|broker| format!("\"{}\"", broker.proxied_address()));
    let own = format!("\"{}\"", brokers[0].address());
    Job::new(
        &text
            .replace("[[stage]]", &letters)
            .replace(&own, &proxied.join(", ")),
    )
}

#[test]
fn kills_pauses_and_a_bad_network_lose_and_repeat_nothing() {
    let Some(brokers) = Broker::start_three() else {
        return;
    };
    let brokers: &'static [Broker; 3] = Box::leak(Box::new(brokers));
    let proxies = brokers.each_ref().map(Broker::proxy);
    let seed = number("SOAK_SEED", rand::random::<u16>().into());
    println!("SOAK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed as u64);
    let messages = messages(number("KAFKA_RECORDS", 100_000), &mut random);
    let between = Between::on(&brokers[0], "soak", PARTITIONS);
    let letters = fresh("soak-letters");
    brokers[0].create(&letters, 1, &[]);
    let records = messages.iter().map(|message| Record {
        partition: wasm_host::model::partition_of_key(message.key.as_bytes(), PARTITIONS)
            .cast_signed(),
        key: Some(message.key.as_bytes()),
        value: Some(message.text.as_bytes()),
        ..Record::default()
    });
    brokers[0].write(&between.input, records);
    let job = job(brokers, &between, &letters);
    let kills = number("KAFKA_KILLS", 30);
    let apis = [
        Api::Produce,
        Api::Fetch,
        Api::InitProducerId,
        Api::AddPartitionsToTxn,
        Api::EndTxn,
    ];
    let started = Instant::now();
    for kill in 0..kills {
        let short = Duration::from_millis(random.random_range(50..500));
        let fate = match random.random_range(0..5) {
            0 => Fate::Delayed(short),
            1 => Fate::CutInTheMiddle,
            2 => Fate::AnswerSwallowed,
            3 => Fate::AnswerDelayed(short),
            _ => Fate::Held,
        };
        let api = apis[random.random_range(0..apis.len())];
        proxies[random.random_range(0..3)].expect(api, random.random_range(0..3), fate);
        let mut running = job.start();
        std::thread::sleep(Duration::from_millis(random.random_range(300..2500)));
        if kill % 10 == 9 {
            brokers[random.random_range(0..3)].kill_and_restart();
        }
        if random.random_range(0..4) == 0 && running.is_running() {
            running.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.random_range(100..3000)));
            running.signal(Signal::CONT);
            std::thread::sleep(Duration::from_millis(200));
        }
        running.kill();
        proxies.iter().for_each(Proxy::release);
    }
    let text = job.text("job.toml").replace("max-rate = \"8000/s\"", "");
    job.write_job(&text);
    job.run().expect(0);
    println!(
        "{} records, {kills} kills and pauses: {:.0} s",
        messages.len(),
        started.elapsed().as_secs_f64()
    );
    compare(&brokers[0], &between, &letters, &job, &expected(&messages));
}

/// Output, dead letters and state are what is expected, and no more.
fn compare(broker: &Broker, between: &Between, letters: &str, job: &Job, expected: &Expected) {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in broker.committed(&between.output, &[]) {
        let value = line.rsplit('\t').next().unwrap_or_default();
        let key = value.split(' ').next().unwrap_or_default();
        said.entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
    }
    assert!(said == expected.said, "the output differs");
    let letters = broker.committed(letters, &[]);
    let mut rejected: Vec<String> = letters
        .iter()
        .filter_map(|line| line.rsplit('\t').next().map(str::to_owned))
        .collect();
    rejected.sort();
    assert!(rejected == expected.rejected, "the dead letters differ");
    let mut entries = BTreeMap::new();
    for line in job.json(&["state", "scan", "entries"]) {
        let key = line["key"].as_str().expect("a key").to_owned();
        // A number of eight bytes, little-endian.
        let value = match line["value"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD
                .decode(line["value"]["base64"].as_str().expect("bytes"))
                .expect("base64"),
        };
        let value = value.first_chunk().expect("eight bytes");
        entries.insert(key, u64::from_le_bytes(*value));
    }
    assert!(entries == expected.entries, "the state differs");
}
