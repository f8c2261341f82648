#!/usr/bin/env python3
"""What faults cost: the same messages with and without traps or rejections among them, alternating, medians of ratios.

    benches/faults.py --host PATH --guest PATH/picky.wasm [--messages N] [--rounds N]
    benches/faults.py --host PATH --guest PATH/obey.wasm --trap "panic x" --reject "reject x" ...

The guest, one of tests/guests, traps and rejects where a message says so. `picky` does next to nothing with the others, so that its
figures are the worst ones; `obey` counts them in a store, a message a call. A log is filled once for each
figure; each run reads it anew. Throughput is messages a second from the start of the run to its end, less that of an empty run; CPU is
that of the process.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

JOB = """
[job]
name = "faults"
[streams.in]
system = "log"
[streams.out]
system = "log"
[streams.dead]
system = "log"
[[stage]]
name = "pass"
component = "{guest}"
inputs = ["in"]
outputs = ["out"]
dead-letters = "dead"
breaker = {{ share = "100%" }}
[stage.stores.counts]
type = "rocksdb"
"""

FIGURES = [
    ("1 trap in 100,000", "trap", 100_000, 0.99),
    ("1 trap in 1,000", "trap", 1_000, 0.50),
    ("1 trap in 100", "trap", 100, 0.15),
    ("1 rejection in 100", "reject", 100, 0.90),
]


def fill(host, guest, messages, word, every):
    folder = tempfile.mkdtemp(prefix="faults.")
    with open(f"{folder}/job.toml", "w") as job:
        job.write(JOB.format(guest=os.path.abspath(guest)))
    lines = (
        f"{word}\n" if word and at % every == every // 2 else f"message {at:07}\n"
        for at in range(messages)
    )
    subprocess.run(
        [host, "-j", folder, "log", "produce", "in"],
        input="".join(lines).encode(),
        check=True,
        capture_output=True,
    )
    return folder


def run(host, folder):
    """Seconds of a run from the beginning, and of processor time."""
    copy = folder + ".run"
    shutil.copytree(folder, copy)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(
        [host, "-j", copy, "--log-level", "error", "run", "--until-idle"],
        check=True,
        capture_output=True,
    )
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(copy)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--guest", required=True)
    parser.add_argument("--trap", default="trap")
    parser.add_argument("--reject", default="reject")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    empty = fill(args.host, args.guest, 1, None, 0)
    clean = fill(args.host, args.guest, args.messages, None, 0)
    print(f"{args.messages} messages, {args.rounds} rounds, medians of ratios")
    words = {"trap": args.trap, "reject": args.reject}
    for name, word, every, target in FIGURES:
        word = words[word]
        dirty = fill(args.host, args.guest, args.messages, word, every)
        kept, each = [], []
        for _ in range(args.rounds):
            nothing = run(args.host, empty)
            without, with_faults = run(args.host, clean), run(args.host, dirty)
            kept.append((without[0] - nothing[0]) / (with_faults[0] - nothing[0]))
            each.append((with_faults[1] - without[1]) / (args.messages / every))
        print(
            f"{name}: {statistics.median(kept):.3f} of the throughput kept (wanted {target}),"
            f" {statistics.median(each) * 1e6:.0f} us of CPU each"
        )
        shutil.rmtree(dirty)
    shutil.rmtree(empty)
    shutil.rmtree(clean)


if __name__ == "__main__":
    main()
