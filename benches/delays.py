#!/usr/bin/env python3
"""How long a fault holds up the messages behind it in its task, and those of other tasks.

    benches/delays.py --host PATH --guest PATH/script_batch.wasm [--rounds N]

The guest is one of tests/guests: it sends the time at which it processed a message that says `stamp`. In a log of two partitions every
thousandth message of the first one fails, and the second has none. A clean run of the same messages, in turn with each, is what the delays are
measured against:

- behind a fault: how much longer it takes from the 500th message before the one at fault to the 500th behind it
- other tasks: how much longer the longest gaps are (99th percentile) between two messages of the second partition, which comes at
  half of what a task can do
- held tasks: what 61 tasks of 64 process in a second while the other three are held, against the same without those three
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile

JOB = """
[job]
name = "delays"
workers = 2
[streams.in]
system = "log"
partitions = {partitions}
max-rate = "{rate}/s"
[streams.out]
system = "log"
partitions = {partitions}
[streams.dead]
system = "log"
[[stage]]
name = "stamp"
component = "{guest}"
inputs = ["in"]
outputs = ["out"]
dead-letters = "dead"
breaker = {{ share = "100%" }}
{more}
[stage.stores.counts]
[stage.stores.last]
[stage.limits]
memory = "16MiB"
"""

# Behind and before the message at fault.
AROUND = 500


def processed(args, messages, partitions, rate, more="", code=0):
    """The times of each message of each partition, in microseconds, by number. `messages`: of each partition what its messages say."""
    folder = tempfile.mkdtemp(prefix="delays.")
    with open(f"{folder}/job.toml", "w") as job:
        guest = os.path.abspath(args.guest)
        job.write(JOB.format(guest=guest, rate=rate, partitions=partitions, more=more))
    lines = "".join(
        f'{{"partition":{partition},"key":"{partition}","value":"{at} {says}"}}\n'
        for partition, all_says in enumerate(messages)
        for at, says in enumerate(all_says)
    )
    host = [args.host, "-j", folder, "--log-level", "off"]
    subprocess.run([*host, "log", "produce", "in", "--jsonl"], input=lines.encode(), check=True, capture_output=True)
    ended = subprocess.run([*host, "run", "--until-idle"], capture_output=True)
    assert ended.returncode == code, ended.stderr
    out = subprocess.run([*host, "log", "consume", "out", "--json"], check=True, capture_output=True).stdout
    times = [{} for _ in range(partitions)]
    for line in out.splitlines():
        message = json.loads(line)
        number, time = message["value"].split()
        times[int(message["key"])][int(number)] = int(time)
    shutil.rmtree(folder)
    return times


def run(args, word, every, messages, rate):
    """The times of two partitions, of which the first has messages at fault, and those messages."""
    bad = [at for at in range(messages) if word and at % every == every // 2]
    first = ["stamp"] * messages
    for at in bad:
        first[at] = word
    return processed(args, [first, ["stamp"] * messages], 2, rate), bad


def held(args):
    """What 61 tasks process while three are held, against the same without those."""
    tasks, each, ratios = 64, 10_000, []
    more = 'on-fault = "fail"\nwhen-held = "wait"\nrestart = { attempts = 0 }'
    for _ in range(args.rounds):
        took = []
        for word, code in (None, 0), ("panic", 3):
            messages = [["stamp"] * each for _ in range(tasks - 3)]
            messages += [[word] if word else [] for _ in range(3)]
            times = processed(args, messages, tasks, 10_000_000, more, code)
            stamps = [time for partition in times for time in partition.values()]
            assert len(stamps) == (tasks - 3) * each
            took.append(max(stamps) - min(stamps))
        ratios.append(took[0] / took[1])
    print(f"61 tasks beside 3 that are held: {statistics.median(ratios):.3f} of their throughput")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def spans(times, centres):
    return [times[at + AROUND] - times[at - AROUND] for at in centres if at - AROUND in times and at + AROUND in times]


def gaps(times):
    ordered = [time for _, time in sorted(times.items())]
    return [after - before for before, after in zip(ordered, ordered[1:])]


def figure(args, name, word, every, messages, rate):
    behind, others = [], []
    for _ in range(args.rounds):
        clean, _ = run(args, None, every, messages, rate)
        dirty, bad = run(args, word, every, messages, rate)
        usual = statistics.median(spans(clean[0], bad))
        behind += [span - usual for span in spans(dirty[0], bad)]
        others.append(percentile(gaps(dirty[1]), 0.9999) - percentile(gaps(clean[1]), 0.9999))
    print(
        f"{name}: behind it p50 {statistics.median(behind) / 1000:.2f} ms, p99 {percentile(behind, 0.99) / 1000:.2f} ms"
        f" ({len(behind)} faults); other tasks' longest gaps {statistics.median(others) / 1000:+.2f} ms"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--guest", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    figure(args, "a trap", "panic", 2_000, 60_000, 10_000_000)
    figure(args, "a trap, half load", "panic", 2_000, 60_000, 60_000)
    figure(args, "an endless loop, call-deadline 1 s", "loop", 10_000, 30_000, 20_000)
    held(args)


if __name__ == "__main__":
    main()
