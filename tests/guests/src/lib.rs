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
    cx.output::<Raw, Raw>("out").send(key, line.as_bytes())
}
