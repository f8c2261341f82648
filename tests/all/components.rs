//! Components: those that cannot be tasks are refused by `validate` with what they lack; those with WASI of any 0.2 version run;
//! the code of each is compiled once.
//!
//! `tests/components/wrong/NAME.wat` and `NAME.expected`; `UPDATE_GOLDEN=1` rewrites the latter.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use wasm_host::model::shown;

use crate::harness::{Job, Running, guest, in_repository, wait_until};
use crate::jobs::one_partition;

const JOB: &str = r#"
[job]
name = "wrong"
[streams.in]
system = "log"
[[stage]]
name = "wrong"
component = "component.wasm"
inputs = ["in"]
"#;

#[test]
fn wrong_components_are_refused_with_what_they_lack() {
    let folder = in_repository("tests/components/wrong");
    let mut checked = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wat") => wat::parse_file(&path).expect("WAT"),
            Some("bytes") => fs::read(&path).expect("bytes"),
            _ => continue,
        };
        let job = Job::new(JOB);
        job.write("component.wasm", &bytes);
        let done = job.call(&["validate"]).expect(2);
        let said = done
            .stderr
            .replace(job.folder.path().to_str().expect("UTF-8"), "JOB");
        let expected = path.with_extension("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &said).expect("the golden file");
        }
        if fs::read_to_string(&expected).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 10, "{checked} components");
}

#[test]
fn a_missing_and_an_unpinned_component_are_named() {
    let job = Job::new(JOB);
    job.call(&["validate"])
        .expect(2)
        .says("there is no such component")
        .says("component.wasm");
    let pinned = JOB.replace(
        "component = \"component.wasm\"",
        &format!(
            "component = \"{{guest:counter}}\"\nsha256 = \"{}\"",
            "0".repeat(64)
        ),
    );
    Job::new(&pinned)
        .call(&["validate"])
        .expect(2)
        .says("but the job pins 0000");
}

#[test]
fn a_flipped_byte_in_the_cache_compiles_again() {
    let mut job = Job::new(&JOB.replace("component.wasm", "{guest:counter}"));
    let cache = job.path("cache");
    job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
    job.call(&["validate"]).expect(0);
    let files = code_files(&cache);
    assert_eq!(files.len(), 1, "{files:?}");
    let whole = fs::read(&files[0]).expect("compiled code");
    for at in [0, 20, 100, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&files[0], damaged).expect("the file");
        job.call(&["validate"])
            .expect(0)
            .says("is damaged and is made again");
        assert!(
            fs::read(&files[0]).expect("compiled code") == whole,
            "byte {at}"
        );
    }
}

/// A component with one function of so many instructions.
fn large_function(instructions: usize) -> Vec<u8> {
    let step = "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (local.get 1)))";
    let body = step.repeat(instructions / 6);
    let text = format!(
        "(component (core module (func (export \"f\") (param i32 i32) (result i32) {body} (local.get 0))))"
    );
    wat::parse_str(text).expect("WAT")
}

#[test]
fn compiling_is_bounded_in_time_memory_and_size() {
    let component = large_function(2_000_000);
    for (limit, says) in [
        (
            "compile-time = \"50ms\"",
            "compiling it takes longer than `compile-time` = 0.05 s",
        ),
        (
            "compile-memory = \"256MiB\"",
            "compiling it takes more than `compile-memory` = 268435456 bytes",
        ),
        (
            "component-bytes = \"1MiB\"",
            "it has more than `component-bytes` = 1048576",
        ),
    ] {
        let mut job = Job::new(&format!("{JOB}[stage.limits]\n{limit}\n"));
        let cache = job.path("cache");
        job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
        job.write("component.wasm", &component);
        let began = Instant::now();
        job.call(&["validate"]).expect(2).says(says);
        assert!(began.elapsed() < Duration::from_secs(30), "{limit}");
    }
}

#[test]
fn components_are_not_nested_without_bound() {
    let nested = |depth: usize| {
        let text = "(component ".repeat(depth) + &")".repeat(depth);
        let job = Job::new(JOB);
        job.write("component.wasm", &wat::parse_str(text).expect("WAT"));
        job.call(&["validate"]).expect(2)
    };
    nested(32).says("it exports no handler");
    nested(33).says("its components are nested 33 deep, and this host takes 32");
    nested(90).says("its components are nested 90 deep, and this host takes 32");
}

#[test]
fn a_compilation_that_somebody_else_ends_is_no_fault_of_the_component() {
    let (_job, process) = compiles_for_long();
    let mut child = None;
    wait_until("it compiles", || {
        child = compiling(process.pid());
        child.is_some()
    });
    let child = child.and_then(|child| child.parse().ok());
    let child = child.and_then(Pid::from_raw).expect("a process");
    kill_process(child, Signal::KILL).expect("it can be killed");
    process
        .wait()
        .expect(1)
        .says("the process that compiles it ended with signal: 9");
}

/// A job that has just started, and compiles for a while.
fn compiles_for_long() -> (Job, Running) {
    let mut job = Job::new(JOB);
    let cache = job.path("cache");
    job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
    job.write("component.wasm", &large_function(6_000_000));
    let process = job.start_with(&["run"]);
    (job, process)
}

/// The process that compiles for this one.
fn compiling(parent: i32) -> Option<String> {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    children.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_job_that_ends_while_it_compiles_leaves_no_process_behind() {
    let (_job, mut process) = compiles_for_long();
    // What runs the tests may have a low priority itself, and 19 is the lowest.
    let low = (nice("self").expect("of this process") + 10).min(19);
    let mut child = None;
    wait_until("it compiles at a low priority", || {
        assert!(process.is_running(), "it ended: {}", process.stderr());
        child = compiling(process.pid());
        child.as_deref().and_then(nice) == Some(low)
    });
    process.kill();
    let gone = PathBuf::from(format!("/proc/{}", child.expect("a process")));
    wait_until("it is gone", || {
        !gone.join("stat").exists() || is_dead(&gone)
    });
}

/// How nice a process is, from 0 to 19, if there is such a process.
fn nice(process: &str) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, in parentheses: the state is the third of all fields, and this the nineteenth.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split(' ').nth(17)?.parse().ok()
}

/// Whether a process has ended and only its parent has not looked yet.
fn is_dead(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// The compiled code in a cache.
fn code_files(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("wasm-host")).expect("the cache");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "code")
        })
        .collect()
}

#[test]
fn processes_take_turns_to_compile_and_one_does_it_for_all() {
    let cache = tempfile::tempdir().expect("a folder");
    fs::create_dir(cache.path().join("wasm-host")).expect("a folder");
    let lock = File::create(cache.path().join("wasm-host/lock")).expect("the lock");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("no process compiles yet");
    let jobs = [(); 2].map(|()| {
        let mut job = Job::new(&JOB.replace("component.wasm", "{guest:counter}"));
        job.env("XDG_CACHE_HOME", cache.path().to_str().expect("UTF-8"));
        job
    });
    let processes = jobs.each_ref().map(|job| {
        let mut process = job.start_with(&["validate"]);
        process.until_says("waiting for another process to compile, before ");
        process
    });
    assert_eq!(code_files(cache.path()), Vec::<PathBuf>::new());
    drop(lock);
    let said = processes.map(|process| process.ends().expect(0).stderr);
    let taken = said
        .iter()
        .filter(|said| said.contains("another process has compiled it, after "));
    assert_eq!(taken.count(), 1, "one compiles, the other waits: {said:?}");
    assert_eq!(code_files(cache.path()).len(), 1);
}

#[test]
fn a_start_that_waits_for_another_to_compile_can_be_stopped() {
    let mut job = Job::new(&JOB.replace("component.wasm", "{guest:counter}"));
    let cache = job.path("cache");
    job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
    fs::create_dir_all(cache.join("wasm-host")).expect("a folder");
    let lock = File::create(cache.join("wasm-host/lock")).expect("the lock");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("no process compiles yet");
    let mut process = job.start();
    process.until_says("waiting for another process to compile, before ");
    process
        .terminate()
        .expect(0)
        .says("stopped before the job was opened");
}

#[test]
fn a_component_that_compiles_for_seconds_is_logged() {
    let mut job = Job::new(JOB);
    let cache = job.path("cache");
    job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
    // Functions of a million instructions each in addition to the task: seconds on any machine.
    let mut function = String::from("(func (param i32) (result i32)");
    for number in 0..300_000 {
        function +=
            &format!(" local.get 0 local.get 0 i32.const {number} i32.mul i32.xor local.set 0");
    }
    function += " local.get 0)";
    let more = format!("(core module {})", function.repeat(4));
    job.write("component.wasm", &with_more(&guest("counter"), &more));
    job.call(&["validate"])
        .expect(0)
        .says("component.wasm (")
        .says(" MB); its code is kept for the next start, 1 s so far")
        .says("compiled, after ");
    let again = job.call(&["validate"]).expect(0);
    assert!(!again.stderr.contains("compil"), "{}", again.stderr);
}

/// What `inspect` says of the job's component.
fn inspected(job: &Job) -> String {
    let path = job.path("component.wasm");
    let path = path.to_str().expect("UTF-8");
    job.call(&["inspect", path]).expect(0).stdout
}

/// A component with more in it, at its end.
fn with_more(component: &Path, more: &str) -> Vec<u8> {
    let text = wasmprinter::print_file(component).expect("a component");
    let text = text.trim_end().strip_suffix(')').expect("its end");
    wat::parse_str(format!("{text}{more})")).expect("WAT")
}

#[test]
fn a_component_of_a_later_patch_version_runs_unless_it_needs_what_is_new() {
    let job = Job::new(&one_partition("component.wasm"));
    let text = wasmprinter::print_file(guest("counter")).expect("a component");
    let later = text.replace("@0.1.1\"", "@0.1.7\"");
    assert_ne!(later, text);
    job.write("component.wasm", &wat::parse_str(&later).expect("WAT"));
    let inspected = inspected(&job);
    assert!(
        inspected.contains("wasm-host:task/batch-handler@0.1.7"),
        "{inspected}"
    );
    job.feed(&["log", "produce", "in"], b"a\na\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "a 2"]);

    let more = r#"(import "wasm-host:task/metrics@0.1.7" (instance (export "later" (func))))"#;
    job.write("component.wasm", &with_more(&guest("counter"), more));
    job.call(&["validate"])
        .expect(2)
        .says("wasm-host:task/metrics@0.1.7")
        .says("later");
}

#[test]
fn extra_exports_are_ignored() {
    let job = Job::new(&one_partition("component.wasm"));
    let more = r#"
        (core module $extra (func (export "answer") (result i32) i32.const 42))
        (core instance $extra (instantiate $extra))
        (func $answer (result u32) (canon lift (core func $extra "answer")))
        (instance $answers (export "answer" (func $answer)))
        (export "answer" (func $answer))
        (export "my:own/answers@1.2.3" (instance $answers))"#;
    job.write("component.wasm", &with_more(&guest("counter"), more));
    let inspected = inspected(&job);
    assert!(inspected.contains("my:own/answers@1.2.3"), "{inspected}");
    job.feed(&["log", "produce", "in"], b"a\na\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "a 2"]);
}

/// A component with other versions of its imports of WASI, by turns, and how many imports these are.
fn with_wasi_of(versions: &[&str], component: &Path) -> (Vec<u8>, usize) {
    let text = wasmprinter::print_file(component).expect("a component");
    let mut versions = versions.iter().cycle();
    let mut imports = 0;
    let mut changed = String::new();
    for line in text.lines() {
        let import = line.strip_prefix("  (import \"wasi:");
        let split = import.and_then(|rest| {
            let (name, rest) = rest.split_once('@')?;
            let (was, rest) = rest.split_once('"')?;
            // Those with a suffix are drafts, which hosts compare letter by letter.
            (was.starts_with("0.2.") && !was.contains('-')).then_some((name, rest))
        });
        if let Some((name, rest)) = split {
            let version = versions.next().expect("they never end");
            imports += 1;
            changed += &format!("  (import \"wasi:{name}@{version}\"{rest}\n");
        } else {
            changed += line;
            changed += "\n";
        }
    }
    (wat::parse_str(&changed).expect("WAT"), imports)
}

#[test]
fn wasi_of_any_0_2_version_is_linked() {
    let mixed: Vec<String> = (0..=12).map(|patch| format!("0.2.{patch}")).collect();
    let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
    for versions in [&["0.2.0"], &["0.2.99"], &mixed[..]] {
        let job = Job::new(&one_partition("component.wasm"));
        let (component, imports) = with_wasi_of(versions, &guest("obey"));
        assert!(imports >= mixed.len(), "{imports} imports of WASI");
        job.write("component.wasm", &component);
        let inspected = inspected(&job);
        for version in versions {
            let version = format!("@{version}");
            assert!(inspected.contains(&version), "{version}: {inspected}");
        }
        // They read the clock and the environment, besides what Rust does by itself.
        job.feed(&["log", "produce", "in"], b"one\nwork done\nenv\n")
            .expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        let out = job.values("out");
        assert_eq!(out.len(), 3, "{versions:?}: {out:?}");
        assert_eq!((&out[0][..], &out[2][..]), ("one 1", "0"), "{versions:?}");
        assert!(out[1].starts_with("done 1"), "{versions:?}: {out:?}");
    }
}

#[test]
fn the_older_names_of_the_configuration_are_linked() {
    let text = one_partition("component.wasm");
    let text = text.replace(
        "[stage.stores.counts]",
        "[stage.config]\nwho = \"me\"\n[stage.stores.counts]",
    );
    let component = wasmprinter::print_file(guest("obey")).expect("a component");
    let now = "wasi:config/store@0.2.0-rc.1";
    assert!(component.contains(now));
    for name in [
        "wasi:config/store@0.2.0-draft",
        "wasi:config/runtime@0.2.0-draft",
        now,
    ] {
        let job = Job::new(&text);
        let component = component.replace(now, name);
        job.write("component.wasm", &wat::parse_str(component).expect("WAT"));
        assert!(inspected(&job).contains(name));
        job.feed(&["log", "produce", "in"], b"config who\n")
            .expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["me"], "{name}");
    }
}

#[test]
fn a_module_may_have_several_memories_and_tables() {
    let job = Job::new(&one_partition("component.wasm"));
    let more = r#"
        (core module $extra
          (memory 1) (memory 2) (memory 3)
          (table 10 funcref) (table 20 funcref) (table 30 funcref))
        (core instance $extra (instantiate $extra))"#;
    job.write("component.wasm", &with_more(&guest("counter"), more));
    job.feed(&["log", "produce", "in"], b"a\na\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "a 2"]);
    // They count together.
    let large = more.replace("(memory 1) (memory 2)", "(memory 600) (memory 600)");
    job.write("component.wasm", &with_more(&guest("counter"), &large));
    job.call(&["validate"])
        .expect(2)
        .says("its limit `memory` is 67108864");
}

#[test]
fn control_characters_in_names_of_a_component_are_escaped() {
    let job = Job::new(JOB);
    // The names of functions are in the backtrace of a trap.
    let names = [
        r"\u{1b}[2J\u{202e}\u{2028}x".to_owned(),
        "n".repeat(1 << 20),
    ];
    let [evil, long] = names.map(|name| format!("(@name \"{name}\")"));
    let text = format!(
        r#"(component
          (component $i
            (core module $m
              (func (export "f"))
              (func $a {evil} unreachable)
              (func $b {long} call $a)
              (start $b))
            (core instance $c (instantiate $m))
            (func (export "process") (canon lift (core func $c "f"))))
          (instance $x (instantiate $i))
          (export "wasm-host:task/message-handler@0.1.0" (instance $x)))"#
    );
    job.write("component.wasm", &wat::parse_str(&text).expect("WAT"));
    let done = job
        .call(&["validate"])
        .expect(2)
        .says("\\u{1b}[2J\\u{202e}");
    assert!(done.stderr.len() < 32 << 10, "{} bytes", done.stderr.len());
    let plain = |c: char| c == '\n' || shown::is_plain(c);
    assert!(done.stderr.chars().all(plain), "{}", done.stderr);
    // A damaged one is quoted by the error.
    let damaged = format!(
        "(component (import \"wasi:x/{}@0.1.0\" (func)))",
        "a".repeat(100_000)
    );
    job.write("component.wasm", &wat::parse_str(&damaged).expect("WAT"));
    for command in [
        &["validate"][..],
        &[
            "inspect",
            job.path("component.wasm").to_str().expect("UTF-8"),
        ],
    ] {
        let done = job.call(command);
        assert!(
            done.stderr.len() + done.stdout.len() < 16 << 10,
            "{command:?}"
        );
        assert!(
            done.stderr.chars().chain(done.stdout.chars()).all(plain),
            "{command:?}"
        );
    }
}
