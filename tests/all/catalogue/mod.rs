//! A catalogue of hostile guests, one file for each attack: `tests/guests/hostile/NAME.wat`. Each runs in the real binary, as a task of
//! four, next to ticks on a second input. Whatever it does, the process ends by itself, every tick comes through once, memory stays
//! bounded, and the message that attacks becomes what the file says.

mod candidates;
mod components;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde_json::Value;

use crate::harness::{Done, Job, in_repository};
use crate::memory::{MIB, ends_with_peak};
use components::{Attack, FOLDER, Outcome};

/// Ticks, in all partitions together.
const TICKS: usize = 1200;
/// The length of a message that attacks. No tick is as long, so that a guest knows it in `cabi_realloc`.
const ATTACK_BYTES: usize = 4321;
/// What the host may write to standard error, whatever a guest writes: `log-rate` allows 50 lines of 4 KiB a second.
const STDERR_BYTES: usize = 512 << 10;
/// The longest reason of a letter.
const REASON_BYTES: usize = 2 << 10;
/// What is shown of a letter: the message, a backtrace, the end of standard error.
const SHOWN_BYTES: usize = 32 << 10;
/// Limits where a file does not say otherwise.
const LIMITS: [(&str, &str); 2] = [("memory", "\"16MiB\""), ("call-deadline", "\"200ms\"")];

impl Attack {
    /// A job with it: four tasks, each with a partition of attacks and of ticks.
    fn job(&self) -> Job {
        let given = |key: &str| {
            self.limits
                .iter()
                .any(|line| line.split(' ').next() == Some(key))
        };
        let defaults = LIMITS.iter().filter(|(key, _)| !given(key));
        let defaults = defaults.map(|(key, value)| format!("{key} = {value}"));
        let limits: Vec<String> = defaults.chain(self.limits.iter().cloned()).collect();
        let job = Job::new(&format!(
            "[job]\nname = \"hostile\"\nworkers = 2\ncache = \"32MiB\"\n\
             [checkpoint]\ninterval = \"100ms\"\nbytes = \"8MiB\"\n\
             [streams.attacks]\nsystem = \"log\"\npartitions = 4\n\
             [streams.ticks]\nsystem = \"generate\"\npartitions = 4\ncount = {TICKS}\nrate = \"8000/s\"\n\
             [streams.out]\nsystem = \"log\"\npartitions = 4\n\
             [streams.dead]\nsystem = \"log\"\n\
             [[stage]]\nname = \"hostile\"\ncomponent = \"component.wasm\"\n\
             inputs = [\"attacks\", \"ticks\"]\noutputs = [\"out\"]\n\
             on-fault = \"dead-letter\"\non-rejected = \"dead-letter\"\ndead-letters = \"dead\"\n\
             when-held = \"wait\"\nrestart = {{ attempts = 0 }}\n\
             [stage.stores.mine]\ntype = \"rocksdb\"\n\
             [stage.limits]\n{}\n[stage.capabilities]\n{}\n",
            limits.join("\n"),
            self.capabilities.join("\n"),
        ));
        job.write("component.wasm", &self.component());
        job
    }

    /// The limit `memory`, in bytes.
    fn memory(&self) -> u64 {
        let own = self
            .limits
            .iter()
            .find_map(|line| line.strip_prefix("memory = "));
        let value = own.unwrap_or(LIMITS[0].1).trim_matches('"');
        let mebibytes = value.strip_suffix("MiB").expect("a number of MiB");
        mebibytes.parse::<u64>().expect("a number of MiB") * MIB
    }

    /// The exit code of the job.
    fn code(&self) -> i32 {
        match self.outcome {
            Outcome::Letter(..) | Outcome::Harmless => 0,
            Outcome::Refused(_) => 2,
            Outcome::Held(_) => 3,
        }
    }
}

/// Runs a job with one attack, for its first task, and gives how it ended and the most memory that it had.
fn run(job: &Job) -> (u64, Done) {
    let line = format!(
        "{{\"partition\":0,\"value\":\"{}\"}}\n",
        "a".repeat(ATTACK_BYTES)
    );
    job.feed(&["log", "produce", "attacks", "--jsonl"], line.as_bytes())
        .expect(0);
    ends_with_peak(
        job.start_with(&["run", "--until-idle"]),
        Duration::from_secs(20),
    )
}

/// Two run at a time, on however many cores: each has two workers, and a deadline that others must not use up.
static FREE: Mutex<usize> = Mutex::new(2);
static ENDED: Condvar = Condvar::new();

/// One of the two, until it is dropped.
struct Turn;

impl Turn {
    fn wait() -> Turn {
        let mut free = FREE.lock();
        ENDED.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock() += 1;
        ENDED.notify_one();
    }
}

/// What the job takes with a guest that does nothing.
fn harmless_peak() -> u64 {
    static PEAK: OnceLock<u64> = OnceLock::new();
    *PEAK.get_or_init(|| {
        let (peak, done) = run(&Attack::read("nothing").job());
        done.expect(0);
        peak
    })
}

fn check(name: &str) {
    let _turn = Turn::wait();
    let attack = Attack::read(name);
    let before = harmless_peak();
    let job = attack.job();
    let (peak, done) = run(&job);
    let done = done.expect(attack.code());
    check_peak(peak, before, attack.memory());
    check_said(&attack, &done.stderr);
    if let Outcome::Letter(..) | Outcome::Harmless = attack.outcome {
        check_letters(&attack, &job);
        check_ticks(&job, attack.sends);
    }
    if let Some(entries) = attack.entries {
        assert_eq!(job.state("mine").lines().count(), entries);
    }
}

/// It has taken no more than twice its memory beside what every job takes.
fn check_peak(peak: u64, before: u64, memory: u64) {
    let allowed = before + 2 * memory + 64 * MIB;
    let [peak, before, allowed] = [peak, before, allowed].map(|bytes| bytes / MIB);
    println!("{peak} MiB resident, {before} MiB with a guest that does nothing");
    assert!(
        peak <= allowed,
        "{peak} MiB resident, {allowed} MiB are allowed"
    );
}

/// The host says what it is to say, little, and nothing that a terminal obeys.
fn check_said(attack: &Attack, said: &str) {
    assert!(!said.contains('\x1b'), "escapes reach the terminal");
    assert!(said.len() <= STDERR_BYTES, "{} bytes are said", said.len());
    let why = match &attack.outcome {
        Outcome::Refused(words) | Outcome::Held(words) => Some(words),
        Outcome::Letter(..) | Outcome::Harmless => None,
    };
    println!("{said}");
    for words in attack.says.iter().chain(why) {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

/// The attack is the only letter, if it is one.
fn check_letters(attack: &Attack, job: &Job) {
    let letters = job.json(&["dlq", "list", "--letters"]);
    let Outcome::Letter(kind, words) = &attack.outcome else {
        assert!(letters.is_empty(), "{letters:?}");
        return;
    };
    assert_eq!(letters.len(), 1, "{letters:?}");
    let reason = letters[0]["reason"].as_str().expect("a reason");
    assert_eq!(letters[0]["kind"], kind.as_str(), "{reason}");
    assert!(reason.contains(words), "{words:?} is not in: {reason}");
    assert!(reason.len() <= REASON_BYTES, "{} bytes", reason.len());
    assert_eq!(letters[0]["stream"], "attacks");
    println!("{kind}: {reason}");
    let id = letters[0]["id"].as_str().expect("an id");
    let shown = job.call(&["dlq", "show", id]).expect(0).stdout;
    assert!(!shown.contains('\x1b'), "escapes reach the terminal");
    assert!(shown.len() <= SHOWN_BYTES, "{} bytes", shown.len());
}

/// Each tick has come through once. Its offset, which is its time now, is its number among those of all partitions. Attacks send with
/// other times.
fn check_ticks(job: &Job, sends: usize) {
    let mut numbers = Vec::new();
    let mut times = BTreeMap::<_, Vec<u64>>::new();
    let mut others = 0;
    for line in job.log("out").lines() {
        let message: Value = serde_json::from_str(line).expect("JSON");
        match message["timestamp"].as_u64().map(usize::try_from) {
            Some(Ok(number)) if number < TICKS => {
                numbers.push(number);
                let times = times.entry(message["partition"].as_u64()).or_default();
                times.extend(message["value"].as_str().and_then(stamped));
            }
            _ => others += 1,
        }
    }
    numbers.sort_unstable();
    let came = numbers.len();
    assert!(numbers.into_iter().eq(0..TICKS), "{came} of {TICKS} ticks");
    assert_eq!(times.len(), 4, "ticks of partitions {:?}", times.keys());
    assert_eq!(others, sends, "messages that the attack sent");
    // The first task has the attack.
    let neighbours = times.into_iter().filter(|(task, _)| *task != Some(0));
    check_gaps(neighbours.map(|(_, times)| times));
}

/// The time that a tick says, in nanoseconds.
fn stamped(value: &str) -> Option<u64> {
    let digits = value.bytes().map(|byte| byte.checked_sub(b'@'));
    let digits = digits.map(|digit| digit.filter(|digit| *digit < 16).map(u64::from));
    let number = digits.reduce(|number, digit| Some(number? << 4 | digit?));
    number.flatten().filter(|_| value.len() == 16)
}

/// The longest time between two ticks of a task beside the one that is attacked. It is bounded where `HOSTILE_GAP_MS` says so: that is for
/// a machine with nothing else to do.
fn check_gaps(neighbours: impl Iterator<Item = Vec<u64>>) {
    let mut longest = 0;
    for mut times in neighbours {
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        longest = gaps.max().unwrap_or(0).max(longest);
    }
    println!("longest gap of a neighbour: {} us", longest / 1000);
    if let Ok(most) = std::env::var("HOSTILE_GAP_MS") {
        let most: u64 = most.parse().expect("milliseconds");
        assert!(longest <= most * 1_000_000, "{longest} ns without a tick");
    }
}

/// A test for each attack, so that a failure names it.
macro_rules! attacks {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

attacks! {
    answer_at_an_odd_address
    answer_beyond_memory
    answer_of_no_case
    bool_of_no_case
    call_beyond_the_table
    call_of_another_type
    calls_of_the_host_for_ever
    cas_handles
    checkpoints_asked_for
    close_loops
    column_beyond_its_data
    column_of_half_a_number
    column_that_decreases
    column_with_an_absent_key
    columns_of_other_lengths
    component_too_large
    components_nested
    configuration_of_long_names
    counter_beyond_its_end
    counter_of_figures_beyond_its_end
    counter_of_other_bytes
    cursor_of_another_call
    cursors
    cursors_leak
    cursors_that_look_back
    custom_sections
    divide_by_zero
    divide_with_overflow
    entry_that_expires
    enum_of_no_case
    exit_with_an_error
    exit_with_success
    export_of_escapes
    exports_by_the_ten_thousand
    figures_by_the_million
    figures_that_are_no_numbers
    files_without_a_grant
    fuel
    function_of_many_branches
    function_of_many_locals
    functions_that_compile_slowly
    get_many_of_millions
    get_many_of_one_key
    globals_by_the_hundred_thousand
    handle_dropped_twice
    handle_made_up
    handle_of_another_kind
    handle_used_after_drop
    handler_of_another_type
    handler_that_is_missing
    handles_tried
    header_name_not_utf8
    header_names_of_the_host
    headers_by_the_million
    headers_of_4_gib_of_items
    headers_that_share_a_name
    headers_too_large
    headers_too_many
    huge_bound
    huge_key
    huge_value
    imports_by_the_thousand
    infinite_loop
    instances_by_the_hundred
    instances_of_many_globals
    keys_of_others
    keyvalue_get_many_of_one_key
    list_of_4_gib
    load_beyond_memory
    log_flood
    memories_by_the_hundred
    memories_together
    memory_copy_loop
    memory_fill_loop
    memory_grow_and_go_on
    memory_grow_and_trap
    memory_grow_for_ever
    memory_handed_back
    memory_larger_than_its_limit
    memory_of_64_bits
    message_of_any_bytes
    metric_kind_of_others
    metric_name_of_escapes
    metric_name_of_megabytes
    metric_names
    metric_names_of_others
    metric_of_two_kinds
    names_of_escapes
    names_that_grow
    names_without_a_grant
    next_of_nothing
    nothing
    number_too_large
    numbers_that_are_none
    open_loops
    open_writes
    operations
    option_of_no_case
    partition_beyond
    passive_segments
    poll_for_millions
    poll_of_nothing
    pollables
    port_of_a_megabyte
    post_return_calls_the_host
    post_return_loops
    post_return_traps
    put_many_by_the_million
    puts_drip
    puts_without_bytes
    random_bytes
    range_deletes
    range_upside_down
    realloc_at_the_end_of_addresses
    realloc_beyond_memory
    realloc_calls_the_host
    realloc_loops
    realloc_misaligned
    realloc_stands_still
    realloc_traps
    reason_beyond_memory
    reason_of_escapes
    reason_of_megabytes
    rejection_beyond_the_batch
    rejection_of_a_batch
    rejections_of_one_message
    rejections_that_share_a_reason
    resource_that_drops_itself
    resources_of_its_own
    scan_by_single_entries
    scan_of_too_much
    segment_beyond_memory
    send_many_by_the_million
    sends_drip
    simd_of_any_bits
    sleep_for_ever
    sleep_until_the_end_of_time
    slow_loop
    sockets_hoarded
    sockets_without_a_grant
    stack_overflow
    stack_overflow_by_large_frames
    start_calls_the_host
    start_logs_for_ever
    start_loops
    start_prints
    start_takes_all_memory
    state_then_rejected
    state_then_trap
    stderr_flood
    stdin_of_everything
    stdout_of_zeroes
    stdout_without_line_ends
    stop_without_a_grant
    store_handles
    streams_of_stdout
    string_beyond_memory
    string_of_4_gib
    table_fill_loop
    table_grow_and_trap
    table_larger_than_its_limit
    tables_by_the_hundred
    tail_calls_for_ever
    text_at_an_odd_address
    text_not_utf8
    text_of_lone_surrogates
    text_of_surrogates
    times_at_their_ends
    trap_then_reuse
    types_nested
    types_that_double
    unreachable
}

#[test]
fn every_file_of_the_catalogue_is_run() {
    let entries = fs::read_dir(in_repository(FOLDER)).expect("the folder");
    let files: BTreeSet<String> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("UTF-8");
            name.strip_suffix(".wat").expect("WAT").to_owned()
        })
        .collect();
    let run: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(files, run);
    assert!(files.len() >= 36, "{} attacks", files.len());
}
