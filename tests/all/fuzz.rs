//! The host's functions stand whatever a guest calls them with.
//!
//! A guest that imports everything runs scripts: sequences of raw calls, whose arguments are drawn by their types with a share of hostile
//! ones. After each batch the following holds: no fault is the host's, no call outlasts its deadline, what was undone left no trace, no
//! limit was broken, no other store was touched, and a twin with the same scripts has done the same. See `fuzz/round.rs`.
//!
//! ```text
//! FUZZ_SEED=7 FUZZ_SECONDS=3600 cargo test --release -p wasm-host-tests --test all fuzz
//! FUZZ_SEED=7 FUZZ_ROUND=1234 cargo test --release -p wasm-host-tests --test all fuzz -- --nocapture
//! ```
//!
//! The rounds run in a process of their own, so that its memory and open files are theirs alone, and so that it may die.

mod binary;
mod files;
mod guest;
mod round;
mod script;
mod values;
mod watch;
mod world;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use guest::Guest;
use round::Rounds;
use world::{Components, DATABASE_ROUNDS, Database};

/// How long the rounds run without being told.
const SECONDS: u64 = 20;
/// How much the process may grow from the middle of its time to the end.
const GROWTH_BYTES: u64 = 64 << 20;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name} is {text:?}: {error}")))
}

#[test]
fn host_functions_stand_arbitrary_calls() {
    let seed = from_environment("FUZZ_SEED").unwrap_or_else(rand::random);
    let seconds = from_environment("FUZZ_SECONDS").unwrap_or(SECONDS);
    println!("FUZZ_SEED={seed} FUZZ_SECONDS={seconds}");
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("round");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "fuzz::rounds_in_a_process_of_their_own",
            "--exact",
            "--nocapture",
        ])
        .env("FUZZ_SEED", seed.to_string())
        .env("FUZZ_SECONDS", seconds.to_string())
        .env("FUZZ_AT", &at)
        .output()
        .expect("this program can be started");
    let round = std::fs::read_to_string(&at).unwrap_or_default();
    let round = round.trim_start_matches('0');
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(
        output.status.success() && text.contains("scripts a second"),
        "{}: {}\nreplay with FUZZ_SEED={seed} FUZZ_ROUND={round}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What [`host_functions_stand_arbitrary_calls`] starts. Alone it does nothing.
#[test]
fn rounds_in_a_process_of_their_own() {
    let Some(at) = std::env::var_os("FUZZ_AT").map(PathBuf::from) else {
        return;
    };
    let at = std::fs::File::create(at).expect("the file for the round");
    let seed = from_environment("FUZZ_SEED").expect("a seed");
    let only = from_environment("FUZZ_ROUND");
    let time = Duration::from_secs(from_environment("FUZZ_SECONDS").unwrap_or(SECONDS));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    watch::watch_calls();
    let guest = Guest::new();
    let components = Components::load(&guest, port);
    let mut rounds = Rounds::new(&guest, &components, port, only.is_some());
    let began = Instant::now();
    let mut number = only.unwrap_or(0);
    let mut middle = None;
    while began.elapsed() < time {
        let database = Database::create();
        for _ in 0..DATABASE_ROUNDS {
            watch::begin_round(number, &at);
            rounds.run(&database, seed, number);
            number += 1;
            if only.is_some() || began.elapsed() >= time {
                break;
            }
        }
        if only.is_some() {
            break;
        }
        if began.elapsed() > time / 2 {
            middle.get_or_insert_with(|| (watch::resident(), watch::open_files()));
        }
    }
    report(&rounds, began.elapsed());
    let Some((bytes, files)) = middle else { return };
    println!(
        "{} MiB in the middle, {} MiB at the end; {files} and {} open files",
        bytes >> 20,
        watch::resident() >> 20,
        watch::open_files()
    );
    assert!(watch::resident() < bytes + GROWTH_BYTES, "memory grows");
    assert!(watch::open_files() <= files + 8, "files stay open");
}

fn report(rounds: &Rounds<'_>, took: Duration) {
    let tally = &rounds.tally;
    for (message, count) in &tally.messages {
        if std::env::var_os("FUZZ_MESSAGES").is_some() {
            println!("{count:8} {message}");
        }
    }
    println!(
        "{} scripts in {} rounds, {:.0} scripts a second: {} done, {} rejected, {} traps, {} limits, {} deadlines, {} of memory; {} times compared within a round; at most {} files open in a guest; {} threads",
        tally.scripts,
        tally.rounds,
        tally.scripts as f64 / took.as_secs_f64(),
        tally.done,
        tally.rejected,
        tally.traps,
        tally.limits,
        tally.deadlines,
        tally.memory,
        tally.compared,
        tally.files,
        watch::threads()
    );
}
