//! The same scripts as messages of a job, with the real binary.

use super::guest::{Guest, Handler};
use super::script::{Reach, Writer, random_of};
use crate::harness::Job;

const SCRIPTS: usize = 400;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=part.len()].copy_from_slice(part);
        let bits = u32::from_be_bytes(three);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= part.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[test]
fn the_binary_stands_scripts_in_messages() {
    let seed = super::from_environment("FUZZ_SEED").unwrap_or_else(rand::random);
    println!("FUZZ_SEED={seed}");
    let job = Job::new(
        "[job]\nname = \"fuzz\"\nworkers = 2\n\
         [checkpoint]\ninterval = \"20ms\"\n\
         [streams.in]\nsystem = \"log\"\npartitions = 2\n\
         [streams.out]\nsystem = \"log\"\npartitions = 3\n\
         [streams.dead]\nsystem = \"log\"\npartitions = 2\n\
         [[stage]]\nname = \"fuzz\"\ncomponent = \"fuzz.wasm\"\ninputs = [\"in\"]\n\
         outputs = { out = \"out\", other = \"out\" }\n\
         on-fault = \"dead-letter\"\non-rejected = \"skip\"\ndead-letters = \"dead\"\n\
         breaker = { share = \"100%\" }\nretry = { attempts = 1 }\n\
         [stage.stores.first]\n[stage.stores.second]\ntype = \"memory\"\n\
         [stage.limits]\ncall-deadline = \"100ms\"\nmemory = \"2MiB\"\n",
    );
    let guest = Guest::new();
    job.write("fuzz.wasm", &guest.component(Handler::Message));
    let mut writer = Writer::new(&guest, 0);
    let mut random = random_of(seed, 0);
    let mut lines = String::new();
    for number in 0..SCRIPTS {
        if number % 5 == 0 {
            writer.begin(&mut random);
        }
        let (script, _) = writer.write(Reach::All, &mut random);
        let (partition, value) = (number % 2, base64(&script));
        lines += &format!("{{\"partition\":{partition},\"value\":{{\"base64\":\"{value}\"}}}}\n");
    }
    let produced = job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes());
    produced.expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let status = job.json(&["status"]);
    let tasks = status[0]["tasks"].as_array().expect("tasks");
    let counts = |name: &str| {
        tasks
            .iter()
            .filter_map(|task| task[name].as_u64())
            .sum::<u64>()
    };
    assert_eq!(counts("processed"), SCRIPTS as u64, "{status:?}");
    assert!(counts("dead-lettered") < SCRIPTS as u64, "{status:?}");
    job.state("first");
    job.state("second");
}
