#!/usr/bin/env python3
"""What live messages get while dead letters are replayed.

    benches/replay.py --host PATH --before PATH/obey.wasm --guest PATH/columns.wasm [--letters N] [--messages N] [--rounds N]

`obey` rejects the letters; then the job has another component, which takes them. A run with the letters queued for replay and one of the
same live messages without them, in turn: live messages a second until the replay is through, against the same stretch of the other. All
messages are there at the start, so both go as fast as they can.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

JOB = """
[job]
name = "replay"
[checkpoint]
interval = "100ms"
[streams.in]
system = "log"
[streams.out]
system = "log"
[streams.dead]
system = "log"
[[stage]]
name = "count"
component = "{guest}"
inputs = ["in"]
outputs = ["out"]
dead-letters = "dead"
breaker = {{ share = "100%" }}
[stage.stores.counts]
"""


def write_job(folder, guest):
    with open(f"{folder}/job.toml", "w") as job:
        job.write(JOB.format(guest=os.path.abspath(guest)))


def command(args, folder, *words, text=None):
    host = [args.host, "-j", folder, "--log-level", "error", *words]
    return subprocess.run(host, input=text, check=True, capture_output=True).stdout


def positions(args, folder):
    """The committed position of the input, and how many messages were processed in all."""
    done = subprocess.run([args.host, "-j", folder, "status", "--json"], capture_output=True)
    if done.returncode != 0:
        return None
    task = json.loads(done.stdout)["tasks"][0]
    return task["inputs"][0]["position"], task["processed"]


def samples(args, folder):
    """Times and positions of a run."""
    host = subprocess.Popen([args.host, "-j", folder, "--log-level", "error", "run", "--until-idle"])
    found = []
    while host.poll() is None:
        now, at = time.monotonic(), positions(args, folder)
        if at:
            found.append((now, *at))
        time.sleep(0.05)
    assert host.returncode == 0
    return found


def rate(found, until):
    """Live messages a second from the first sample that moved to the first that `until` holds for."""
    first = next(i for i, (_, live, _) in enumerate(found) if live > found[0][1])
    last = next(i for i, sample in enumerate(found) if i > first and until(sample))
    return (found[last][1] - found[first][1]) / (found[last][0] - found[first][0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--before", required=True)
    parser.add_argument("--guest", required=True)
    parser.add_argument("--letters", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=8_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="replay.")
    write_job(folder, args.before)
    rejected = "".join(f"k{at % 100_000:015}=reject as it was told\n" for at in range(args.letters))
    command(args, folder, "log", "produce", "in", "--key-separator", "=", text=rejected.encode())
    command(args, folder, "run", "--until-idle")
    write_job(folder, args.guest)
    live = "".join(f"k{at % 100_000:015}=m{at:019}\n" for at in range(args.messages))
    command(args, folder, "log", "produce", "in", "--key-separator", "=", text=live.encode())
    kept = []
    for _ in range(args.rounds):
        rates = []
        for queue in False, True:
            copy = f"{folder}.run"
            shutil.copytree(folder, copy)
            if queue:
                command(args, copy, "dlq", "replay")
            found = samples(args, copy)
            shutil.rmtree(copy)
            first = found[0]
            if queue:
                replayed = lambda sample: (sample[2] - first[2]) - (sample[1] - first[1])
                rates.append(rate(found, lambda sample: replayed(sample) >= args.letters))
            else:
                rates.append(rate(found, lambda sample: sample[1] >= args.letters + args.messages // 2))
        kept.append(rates[1] / rates[0])
        print(f"live messages/s: {rates[0]:,.0f} without, {rates[1]:,.0f} beside a replay of {args.letters} letters")
    print(f"live throughput beside a replay: {statistics.median(kept):.2f} (wanted: 0.50)")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
