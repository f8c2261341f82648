//! Whole job files: one that sets everything, one that sets nothing, and wrong ones with their exact messages.
//!
//! The wrong ones are `tests/jobs/wrong/<name>.toml` and `<name>.expected`; `UPDATE_GOLDEN=1` rewrites
//! those.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::StartAt;

/// What must never be seen in anything that is printed.
const SECRET: &str = "hunter2";

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(SECRET.to_owned()),
        "DATA" => Some(format!("/srv/{SECRET}")),
        "BATCH" => Some("2MiB".to_owned()),
        _ => None,
    }
}

fn parsed(text: &str) -> Job {
    match parse(text, Path::new("jobs/job.toml"), &env) {
        Ok(job) => job,
        Err(diagnostics) => panic!("refused:\n{diagnostics}"),
    }
}

const COMPLETE: &str = include_str!("tests/complete.toml");

#[test]
fn a_complete_job_is_what_it_says() {
    let job = parsed(COMPLETE);
    assert_eq!(job.warnings, []);

    let general = &job.general;
    assert_eq!(general.name, "flight-delays");
    assert_eq!(*general.state_dir, PathBuf::from("jobs/data"));
    assert_eq!(general.workers, 2);
    assert_eq!(*general.cache, ByteSize(100_000_000));
    assert_eq!(
        general.listen.as_ref().map(|listen| listen.port()),
        Some(9464)
    );
    assert_eq!(*general.drain_timeout, Duration::from_secs(90));

    let checkpoint = &job.checkpoint;
    assert_eq!(*checkpoint.interval, Duration::from_millis(5_400_000));
    assert!(!checkpoint.early);
    assert_eq!(*checkpoint.min_pause, Duration::from_millis(500));
    assert_eq!(*checkpoint.bytes, ByteSize(32 << 20));
    assert_eq!(checkpoint.tolerate_failures, 0);
    assert_eq!(*checkpoint.durability, Durability::Process);

    let stream = |name: &str| &job.streams[name];
    let System::FileInput(flights) = &stream("flights").system else {
        panic!("{:?}", stream("flights"));
    };
    assert_eq!(*flights.path, PathBuf::from("jobs/flights/*.csv.gz"));
    assert_eq!(*flights.format, InputFormat::Csv);
    assert_eq!(flights.key.as_ref().map(|key| key.as_str()), Some("origin"));
    let timestamp = flights.timestamp.as_ref().expect("it is set");
    assert_eq!(timestamp.field.as_str(), "date");
    assert_eq!(timestamp.format.as_str(), "%Y%m%d%H%M");
    let rate = stream("flights").max_rate.as_ref().expect("it is set");
    assert_eq!(rate.per_second().to_bits(), 4000f64.to_bits());
    let System::FileInput(airports) = &stream("airports").system else {
        panic!("{:?}", stream("airports"));
    };
    assert!(airports.follow && airports.drop_unread);
    let System::FileOutput(results) = &stream("results").system else {
        panic!("{:?}", stream("results"));
    };
    assert_eq!(*results.path, PathBuf::from(format!("/srv/{SECRET}/out")));
    let System::Log(delays) = &stream("delays").system else {
        panic!("{:?}", stream("delays"));
    };
    assert!(delays.drop_unread);
    let retention = delays.retention.as_ref().expect("it is set");
    assert_eq!(
        retention.age.as_deref(),
        Some(&Duration::from_secs(604_800))
    );
    let System::Generate(synthetic) = &stream("synthetic").system else {
        panic!("{:?}", stream("synthetic"));
    };
    assert_eq!(
        (synthetic.count, synthetic.keys, synthetic.seed),
        (Some(1_000_000), 100_000, 7)
    );
    assert_eq!(*synthetic.distribution, Distribution::Zipfian);
    assert!(stream("flights").read && !stream("flights").written);
    assert!(stream("dead").written && !stream("dead").read);

    let [stage] = job.stages.as_slice() else {
        panic!("{:?}", job.stages);
    };
    assert_eq!(*stage.component, PathBuf::from("jobs/delays.wasm"));
    assert_eq!(
        stage.sha256.as_ref().map(|hash| hash.0[..2].to_vec()),
        Some(vec![0xab, 0x01])
    );
    assert_eq!(stage.partitions, Some(4));
    let inputs: Vec<_> = stage
        .inputs
        .iter()
        .map(|input| (input.port.as_str(), input.stream.as_str(), input.start.at()))
        .collect();
    assert_eq!(
        inputs,
        [
            ("in", "flights", StartAt::Latest),
            ("made-up", "synthetic", StartAt::Offset(12)),
            ("a", "airports", StartAt::Time(1_769_860_800_000)),
        ]
    );
    let outputs: Vec<_> = stage
        .outputs
        .iter()
        .map(|output| (output.port.as_str(), output.stream.as_str()))
        .collect();
    assert_eq!(outputs, [("out", "delays"), ("copy", "results")]);
    assert_eq!(*stage.on_rejected, OnRejected::DeadLetter);
    assert_eq!(stage.dead_letters.as_deref(), Some("dead"));
    assert_eq!(stage.batch_messages, 100);
    assert_eq!(*stage.batch_bytes, ByteSize(2 << 20));
    assert_eq!(*stage.stores["by-origin"].kind, StoreKind::Memory);
    let config: Vec<_> = stage
        .config
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("limit", "255"),
        ("password", SECRET),
        ("ratio", "1.50"),
        ("since", "2026-01-31"),
        ("unit", "minutes"),
        ("verbose", "true"),
    ];
    assert_eq!(config, expected);
    assert_eq!(*stage.limits.memory, ByteSize(128 << 20));
    assert_eq!(*stage.limits.call_deadline, Duration::from_secs(2));
    assert!(stage.capabilities.request_stop);
    let directory = &stage.capabilities.directories[0];
    assert_eq!(*directory.host, PathBuf::from("jobs/models"));
    assert_eq!(directory.guest.as_str(), "/models");
    assert!(directory.write);
}

#[test]
fn every_key_has_its_default() {
    let job = parsed(
        "[job]\nname = \"small\"\n[streams.lines]\nsystem = \"stdin\"\n\
         [[stage]]\nname = \"s\"\ncomponent = \"/abs/s.wasm\"\ninputs = [\"lines\"]\n",
    );
    assert_eq!(
        *job.general.state_dir,
        PathBuf::from("jobs/.wasm-host/small")
    );
    assert!(job.general.workers >= 1);
    assert_eq!(*job.stages[0].component, PathBuf::from("/abs/s.wasm"));
    let workers = format!("workers = {}", job.general.workers);
    let bytes = format!("\nbytes = \"{}\"", job.checkpoint.bytes);
    let rendered = job
        .render()
        .replace(&workers, "workers = 2")
        .replace(&bytes, "\nbytes = \"64MiB\"");
    assert_eq!(rendered, include_str!("tests/defaults.toml"));
}

#[test]
fn a_rendered_job_is_the_same_job_and_shows_nothing_of_the_environment() {
    let job = parsed(COMPLETE);
    let rendered = job.render();
    let again = match parse(&rendered, Path::new("job.toml"), &env) {
        Ok(again) => again,
        Err(diagnostics) => panic!("refused:\n{diagnostics}\n{rendered}"),
    };
    assert_eq!(again.render(), rendered);
    assert_eq!(again.stages[0].config["password"].as_str(), SECRET);
    for printed in [
        rendered,
        format!("{job:?}"),
        serde_json::to_string(&job).expect("a job is plain data"),
    ] {
        assert!(printed.contains("${SECRET}"), "{printed}");
        assert!(!printed.contains(SECRET), "{printed}");
    }
}

#[test]
fn keys_that_help_names_are_keys() {
    for (home, keys) in decode::HOMES {
        for key in keys {
            let set = format!("{key} = ");
            let table = format!("[stage.{key}");
            assert!(
                COMPLETE.contains(&set) || COMPLETE.contains(&table),
                "{key} of {home}"
            );
        }
    }
}

#[test]
fn warnings_do_not_refuse_a_job() {
    let job = parsed(
        "[job]\nname = \"j\"\n[streams.a]\nsystem = \"log\"\n[streams.b]\nsystem = \"log\"\n\
         [streams.shown]\nsystem = \"stdout\"\n\
         [[stage]]\nname = \"s\"\ncomponent = \"s.wasm\"\ninputs = [\"a\"]\n\
         on-rejected = \"skip\"\non-fault = \"fail\"\ndead-letters = \"shown\"\n",
    );
    let warnings: Vec<_> = job.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "jobs/job.toml:5:10: warning: no stage uses stream \"b\"\n  5 | [streams.b]\n    |          ^\n",
        ]
    );
}

#[test]
fn a_folder_whose_name_looks_like_a_pattern_is_not_a_pattern() {
    let text = "[job]\nname = \"j\"\n[streams.a]\nsystem = \"file\"\npath = \"*.txt\"\n\
                [[stage]]\nname = \"s\"\ncomponent = \"s.wasm\"\ninputs = [\"a\"]\n";
    let job = parse(text, Path::new("runs[1]/job.toml"), &env).expect("a valid job");
    let System::FileInput(file) = &job.streams["a"].system else {
        panic!("{:?}", job.streams);
    };
    assert_eq!(*file.path, PathBuf::from("runs[[]1]/*.txt"));
    assert_eq!(*job.stages[0].component, PathBuf::from("runs[1]/s.wasm"));
}

#[test]
fn a_file_a_folder_and_neither() {
    let folder = std::env::temp_dir().join(format!("wasm-host-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let refused = |path: &Path| match load(path, &env, Look::Nothing, None) {
        Ok(job) => panic!("{job:?}"),
        Err(diagnostics) => diagnostics
            .to_string()
            .replace(&*folder.to_string_lossy(), "DIR"),
    };
    assert_eq!(
        refused(&folder.join("none.toml")),
        "DIR/none.toml: no such file\n  help: name the job file, or the folder of its job.toml\n"
    );
    assert_eq!(
        refused(&folder),
        "DIR/job.toml: the folder has no job.toml\n  help: name the job file\n"
    );
    std::fs::write(folder.join("a.wasm"), b"\0asm\xff\xff").expect("a file");
    assert_eq!(
        refused(&folder.join("a.wasm")),
        "DIR/a.wasm: is not a job file: byte 4 is not UTF-8\n  \
         help: name the job.toml, not a component or data\n"
    );
    std::fs::write(folder.join("job.toml"), "[job]\nname = 1\n").expect("a file");
    assert!(refused(&folder).starts_with("DIR/job.toml:1:1: `stage` is missing"));
    let defaults = include_str!("tests/defaults.toml");
    std::fs::write(folder.join("job.toml"), defaults).expect("a file");
    let job = load(&folder, &env, Look::Nothing, None).expect("a valid job");
    assert_eq!(*job.general.state_dir, folder.join("jobs/.wasm-host/small"));
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn what_may_be_uncommitted_follows_the_memory() {
    let default = |gib: u64| Checkpoint::bytes_for(Some(gib << 30));
    let sizes = [1, 4, 8, 12, 16, 64].map(|gib| default(gib).bytes() >> 20);
    assert_eq!(sizes, [64, 64, 128, 192, 256, 256]);
    assert_eq!(Checkpoint::bytes_for(None), ByteSize::mib(64));
}

#[test]
fn the_reference_names_every_key_and_its_examples_are_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/job-file.md");
    let reference = std::fs::read_to_string(path).expect("the reference");
    let of_tables = decode::HOMES.iter().flat_map(|(_, keys)| keys.iter());
    let of_streams = systems::KINDS.iter().flat_map(|kind| kind.keys.iter());
    for key in of_tables.chain(of_streams) {
        assert!(
            reference.contains(&format!("`{key}`")),
            "{key} is not in the reference"
        );
    }
    let examples: Vec<_> = reference
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|example| example.starts_with("[job]"))
        .collect();
    assert!(examples.len() >= 3, "{} whole examples", examples.len());
    for example in examples {
        assert_eq!(parsed(example).warnings, [], "{example}");
    }
}

/// The job of the tests below within policies, or what is wrong with it.
fn within(policies: &[&str], stage: &str) -> Result<Job, String> {
    let policy =
        |text: &&str| decode::policy::policy(text, Path::new("policy.toml"), Path::new(""));
    let policies: Result<Vec<_>, _> = policies.iter().map(policy).collect();
    let policies = policies.map_err(|wrong| wrong.to_string())?;
    let text = format!(
        "[job]\nname = \"j\"\n[streams.a]\nsystem = \"log\"\n\
         [[stage]]\nname = \"s\"\ncomponent = \"s.wasm\"\ninputs = [\"a\"]\n{stage}"
    );
    let (path, folder) = (Path::new("job.toml"), Path::new("/jobs"));
    decode::job(&text, path, folder, &env, Look::Nothing, &policies)
        .map_err(|wrong| wrong.to_string())
}

#[test]
fn a_policy_is_a_ceiling_for_what_is_set_and_for_defaults() {
    let policy = "[limits]\nmemory = \"32MiB\"\ncall-deadline = \"2s\"\nfuel = 5_000_000\nlog-rate = \"60/m\"\n";
    let job = within(&[policy], "").expect("defaults are lowered");
    let limits = &job.stages[0].limits;
    assert_eq!(*limits.memory, ByteSize::mib(32));
    assert_eq!(*limits.recycle_memory, ByteSize::mib(24));
    assert_eq!(*limits.call_deadline, Duration::from_secs(1));
    assert_eq!(limits.fuel, Some(5_000_000));
    assert_eq!(limits.log_rate.to_string(), "60/m");
    let lower = "[stage.limits]\nmemory = \"16MiB\"\nfuel = 4_000_000\n";
    let job = within(&[policy, "[limits]\nmemory = \"20MiB\"\n"], lower).expect("within both");
    assert_eq!(*job.stages[0].limits.memory, ByteSize::mib(16));
    assert_eq!(job.stages[0].limits.fuel, Some(4_000_000));
    // Defaults follow what is lower, with a table of limits and without one.
    let small = "[limits]\nstaged-bytes = \"512KiB\"\nmemory = \"1MiB\"\n";
    for stage in ["", "[stage.limits]\ncursors = 4\n"] {
        let job = within(&[small], stage).expect("defaults fit together");
        let limits = &job.stages[0].limits;
        assert_eq!(*limits.value_bytes, ByteSize::kib(512));
        assert_eq!(*job.stages[0].batch_bytes, ByteSize::kib(512));
    }
    let higher = "[stage.limits]\nmemory = \"33MiB\"\nlog-rate = \"2/s\"\n";
    assert_eq!(
        within(&[policy], higher).expect_err("above two ceilings"),
        "job.toml:10:10: `memory` of 33MiB is more than the 32MiB that the policy policy.toml allows\n  \
         10 | memory = \"33MiB\"\n     |          ^^^^^^^\n  \
         help: make it smaller, or ask who keeps the policy\n\n\
         job.toml:11:12: `log-rate` of 2/s is more than the 60/m that the policy policy.toml allows\n  \
         11 | log-rate = \"2/s\"\n     |            ^^^^^\n  \
         help: make it smaller, or ask who keeps the policy\n"
    );
}

#[test]
fn a_policy_says_what_may_be_granted() {
    let policy = "[capabilities]\ndirectories = [{ host = \"/srv/a\" }, { host = \"/srv/b\", write = true }]\n\
                  environment = [\"REGION\"]\nnetwork = [\"db:1\"]\nrequest-stop = false\n";
    let granted = |inside: &str| within(&[policy], &format!("[stage.capabilities]\n{inside}\n"));
    for good in [
        "directories = [{ host = \"/srv/a\", guest = \"/a\" }, { host = \"/srv/b/c\", guest = \"/b\", write = true }]",
        "environment = [\"REGION\"]\nnetwork = [\"db:1\"]\nrequest-stop = false",
    ] {
        granted(good).expect(good);
    }
    for (bad, what) in [
        (
            "directories = [{ host = \"/srv/a\", guest = \"/a\", write = true }]",
            "to write in the folder /srv/a",
        ),
        (
            "directories = [{ host = \"/srv/ab\", guest = \"/a\" }]",
            "the folder /srv/ab",
        ),
        (
            "directories = [{ host = \"/srv/a/../c\", guest = \"/a\" }]",
            "the folder /srv/a/../c",
        ),
        ("environment = [\"HOME\"]", "the environment variable HOME"),
        ("network = [\"db:2\"]", "connections to db:2"),
        ("request-stop = true", "`request-stop`"),
    ] {
        let wrong = granted(bad).expect_err(bad);
        let says = format!("the policy policy.toml does not allow {what}\n");
        assert!(wrong.contains(&says), "{bad}: {wrong}");
    }
    // The environment could be read there, the host's memory too.
    let of_processes = "directories = [{ host = \"/proc/self\", guest = \"/a\" }]";
    let wrong = granted(of_processes).expect_err(of_processes);
    assert!(wrong.contains("the folder /proc/self"), "{wrong}");
    let environ = "[stage.config]\na = \"${file:/proc/self/environ}\"\n";
    let wrong = within(&["[capabilities]\nenvironment = []\n"], environ);
    let wrong = wrong.expect_err("it has the environment");
    assert!(wrong.contains("does not allow the file /proc/"), "{wrong}");
    // What it does not name is free.
    within(
        &[""],
        "[stage.capabilities]\nenvironment = [\"HOME\"]\nrequest-stop = true\n",
    )
    .expect("no ceiling");
}

#[test]
fn a_policy_with_a_mistake_is_refused() {
    for (policy, says) in [
        (
            "[limit]\n",
            "policy.toml:1:2: unknown key `limit` in the policy",
        ),
        ("[limits]\nmemry = \"1MiB\"\n", "did you mean `memory`?"),
        (
            "[limits]\nmemory = \"${SECRET}\"\n",
            "`${…}` has no meaning here",
        ),
        ("[capabilities]\nnetwork = \"db:1\"\n", "expected a list"),
        ("limits = 1", "expected a table"),
        ("[limits", "policy.toml:1:"),
    ] {
        let wrong = within(&[policy], "").expect_err(policy);
        assert!(wrong.contains(says), "{policy}: {wrong}");
    }
}

/// Whatever is done to a job file, the answer is a job or what is wrong with it, and shows no secret.
#[test]
fn damage_is_reported() {
    let values = [
        "7",
        "-1",
        "1.5",
        "true",
        "2026-01-31",
        "\"\"",
        "\"é\"",
        "\"${SECRET}\"",
        "[]",
        "[[]]",
        "{}",
        "",
    ];
    let lines: Vec<_> = COMPLETE.lines().collect();
    let mut refused = 0;
    let mut try_with = |at: usize, replacement: &str| {
        let mut damaged = lines.clone();
        damaged[at] = replacement;
        match parse(&damaged.join("\n"), Path::new("job.toml"), &env) {
            Ok(job) => assert!(!job.render().contains(SECRET), "{replacement}"),
            Err(diagnostics) => {
                refused += 1;
                let text = diagnostics.to_string();
                assert!(text.starts_with("job.toml:"), "{replacement}: {text}");
                assert!(!text.contains(SECRET), "{replacement}: {text}");
            }
        }
    };
    for (at, line) in lines.iter().enumerate() {
        try_with(at, "");
        for end in line.char_indices().map(|(end, _)| end) {
            try_with(at, &line[..end]);
        }
        if let Some((key, _)) = line.split_once(" = ") {
            for value in values {
                try_with(at, &format!("{key} = {value}"));
            }
        }
    }
    assert!(refused > 1000, "{refused} refused");
}

/// Every wrong job file gives exactly the expected text.
#[test]
fn wrong_jobs_have_exact_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/jobs/wrong");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of wrong jobs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 20, "only {} wrong jobs", names.len());
    let mut differ = Vec::new();
    for path in names {
        let name = path.file_name().expect("a file").to_owned();
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let rendered = match parse(&text, Path::new(&name), &env) {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(diagnostics) => diagnostics.to_string(),
        };
        assert!(
            !rendered.contains(SECRET),
            "{}:\n{rendered}",
            path.display()
        );
        let expected = path.with_extension("expected");
        if update {
            std::fs::write(&expected, &rendered).expect("to write the expected text");
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&rendered) {
            differ.push(format!("{}:\n{rendered}", expected.display()));
        }
    }
    assert!(
        differ.is_empty(),
        "UPDATE_GOLDEN=1 writes what is now said:\n{}",
        differ.join("\n")
    );
}
