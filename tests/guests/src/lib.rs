//! Guests for tests: one example for each behaviour, built for wasm32-wasip2. What several of them do alike is here.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use wasm_host_sdk::prelude::*;

/// Does what a message says: `NUMBER WORD ARGUMENT`. `stamp` sends the time with the number, in microseconds. Whatever comes of it, before that it has changed state and sent.
///
/// # Errors
/// It says that it is to be rejected, or the host refuses a call.
pub fn follow_script(value: &[u8], key: Option<&[u8]>, cx: &Context) -> Result<(), Error> {
    let text = String::from_utf8_lossy(value);
    let mut words = text.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (number, word, argument) = (next(), next(), next());
    let key = key.unwrap_or(b"none");
    let counts = cx.store::<Raw, I64>("counts")?;
    let last = cx.store::<Raw, Raw>("last")?;
    counts.increment(key, 1)?;
    last.put(key, number.as_bytes())?;
    cx.count("followed", 1);
    let out = cx.output::<Raw, Raw>("out");
    if word == "stamp" {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let stamped = format!("{number} {}", now.unwrap_or_default().as_micros());
        return out.send(key, stamped.as_bytes());
    }
    out.send(key, number.as_bytes())?;
    match word {
        "reject" => return Err(Error::new("it says reject")),
        "panic" => panic!("it says panic"),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "grow" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "large" => last.put(key, &vec![0; 2 << 20])?,
        // Fails the first time, and leaves a file that says so.
        "once" if !Path::new(argument).exists() => {
            std::fs::write(argument, b"").map_err(|error| Error::new(error.to_string()))?;
            panic!("this once")
        }
        // Takes a part of what a call may take in time.
        "slow" => std::thread::sleep(std::time::Duration::from_millis(10)),
        // Takes a part of what an instance may have of memory, until the end of the call.
        "heavy" => {
            std::hint::black_box(vec![1u8; 4 << 20]);
        }
        "delete" => last
            .range()
            .from(key)
            .until(&[key, &[0]].concat())
            .delete()?,
        "clear" => last.range().delete()?,
        // Without a key: to each partition in turn.
        "spread" => out.send_value(number.as_bytes())?,
        "scan" => {
            for entry in last.range().scan()? {
                entry?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Counts a message by its key, and says which component has done so: `VALUE VERSION COUNT`, where the version is the beginning of the
/// component's hash. A message `panic VERSION …` panics in a component whose hash begins so, and `panic all` in each.
///
/// # Errors
/// The host refuses a call.
pub fn say_version(value: &[u8], key: Option<&[u8]>, cx: &Context) -> Result<(), Error> {
    let value = String::from_utf8_lossy(value);
    let version = &cx.component_version()[..8];
    if let Some(rest) = value.strip_prefix("panic ") {
        let whose = rest.split(' ').next().unwrap_or_default();
        assert!(whose != "all" && whose != version, "it says panic");
    }
    let key = key.unwrap_or(b"none");
    let count = cx.store::<Raw, I64>("counts")?.increment(key, 1)?;
    let line = format!("{value} {version} {count}");
    if let Some(port) = cx.config("also")? {
        cx.output::<Raw, Raw>(&port).send(key, line.as_bytes())?;
    }
    cx.output::<Raw, Raw>("out").send(key, line.as_bytes())
}

/// What a store has for a count, in the form of a version: at 0 a number of 8 bytes, else text.
fn form(version: u32, count: i64) -> Vec<u8> {
    match version {
        0 => count.to_le_bytes().to_vec(),
        _ => format!("{version}:{count}").into_bytes(),
    }
}

/// The same backwards.
fn count_in(version: u32, bytes: &[u8]) -> Option<i64> {
    match version {
        0 => bytes.try_into().ok().map(i64::from_le_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?;
            let (of, count) = text.split_once(':')?;
            (of.parse() == Ok(version)).then(|| count.parse().ok())?
        }
    }
}

/// As [`say_version`], with counts in the form of a version. It also says whether its instance was opened.
///
/// # Errors
/// The host refuses a call, or a count has another form.
pub fn count_in_form(
    version: u32,
    value: &[u8],
    key: Option<&[u8]>,
    cx: &Context,
) -> Result<(), Error> {
    let value = String::from_utf8_lossy(value);
    let short = &cx.component_version()[..8];
    if let Some(rest) = value.strip_prefix("panic ") {
        assert!(rest.split(' ').next() != Some(short), "it says panic");
    }
    let key = key.unwrap_or(b"none");
    let counts = cx.store::<Raw, Raw>("counts")?;
    let before = match counts.get(key)? {
        None => 0,
        Some(bytes) => count_in(version, &bytes).expect("state in the form of this version"),
    };
    let count = before + 1;
    counts.put(key, &form(version, count))?;
    let line = format!("{value} {short} {count}");
    cx.output::<Raw, Raw>("out").send(key, line.as_bytes())
}

/// Gives counts the form of a version, `chunk` of them in each call (2 without that), each of which pauses for `pause-ms`. `migrate` in the configuration says what goes wrong: a
/// word, and in which call.
///
/// # Errors
/// It says so, or the host refuses a call.
pub fn migrate_counts(
    version: u32,
    migration: &Migration<'_>,
    cx: &Context,
) -> Result<Migrated, Error> {
    let setting = cx.config("migrate")?.unwrap_or_default();
    let (word, at) = setting.split_once(' ').unwrap_or((&setting, "0"));
    let chunk = cx.config_as("chunk")?;
    let resume = migration.resume().unwrap_or_default();
    let (call, after) = match resume.split_first_chunk() {
        Some((call, after)) => (u32::from_le_bytes(*call) + 1, after),
        None => (1, &[][..]),
    };
    let counts = cx.store::<Raw, Raw>("counts")?;
    if word == "forever" && call > 1 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        return Ok(Migrated::More([&call.to_le_bytes(), after].concat()));
    }
    let pause = cx.config_as("pause-ms")?.unwrap_or(0);
    std::thread::sleep(std::time::Duration::from_millis(pause));
    let range = counts.range().from(after);
    let mut last = None;
    for entry in range.scan()?.take(chunk.unwrap_or(2)) {
        let (key, old) = entry?;
        let count = count_in(migration.old(), &old).expect("state in the old form");
        counts.put(&key, &form(version, count))?;
        last = Some(key);
    }
    if at == call.to_string() {
        match word {
            "err" => return Err(Error::new("it says err")),
            "panic" => panic!("it says panic"),
            "loop" => loop {
                std::hint::black_box(0);
            },
            "send" => cx.output::<Raw, Raw>("out").send(b"k", b"x")?,
            "resume" => return Ok(Migrated::More(vec![0; 2 << 20])),
            "large" => counts.put(b"large", &vec![0; 2 << 20])?,
            _ => {}
        }
    }
    Ok(match last {
        None => Migrated::Done,
        Some(key) => Migrated::More([&call.to_le_bytes()[..], &key, &[0]].concat()),
    })
}
