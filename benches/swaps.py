#!/usr/bin/env python3
"""What a swap costs: how long a task is away, what a stage does meanwhile, and what it takes to be able to go back.

    ./swaps.py --host PATH --guests FOLDER [--other COMPONENT] [FIGURE ...]

FOLDER has the components of benches/guests. COMPONENT is a large one that counts words as examples/word-count does, such as that in Python;
without it the figures that need one are left out. New code is the same component with one byte more in a section of its
own, so that what differs is the swap. Throughput is of messages that are processed, read from `status` at both ends of a stretch of
time; CPU time is that of the host's process between them. A ratio is that of a stretch and of the mean of the plain stretches before and
after it.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

from whole import LOG2, Job, generated, processed_of


def other_code(bench, component, number):
    """The same component by another hash."""
    made = bench.work / f"{component.stem}-{number}.wasm"
    made.write_bytes(component.read_bytes() + bytes([0, 4, 1, ord("v"), number & 255, number >> 8]))
    return made


class Running:
    """A job that runs."""

    def __init__(self, job):
        self.job = job
        self.log = job.folder / "log"
        with self.log.open("wb") as log:
            self.child = job.start("run", log="warn,wasm_host::task=debug", stdout=subprocess.DEVNULL, stderr=log)
        while job.holder() != self.child.pid:
            time.sleep(0.01)

    def status(self):
        return json.loads(self.job.ask("status", "--json"))

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def point(self):
        return time.monotonic(), processed_of(self.status()), self.cpu()

    def stretch(self, seconds):
        """Messages a second, and for each CPU-second."""
        before = self.point()
        time.sleep(seconds)
        return self.rates(before)

    def rates(self, before):
        wall, processed, cpu = (now - then for now, then in zip(self.point(), before))
        return processed / wall, processed / cpu

    def swap(self, *arguments):
        lines = self.job.ask("swap", "bench", *map(str, arguments), "--json").splitlines()
        return json.loads(lines[-1])

    def wait(self, state):
        while self.status()["stages"][0]["swap"]["state"] != state:
            time.sleep(0.05)

    def pauses(self):
        """How long each task was away for each swap, milliseconds."""
        found = re.finditer(r"other code .*?closed=([0-9.]+)(µs|ms|s) made=([0-9.]+)(µs|ms|s)", self.log.read_text())
        units = {"µs": 1e-3, "ms": 1, "s": 1e3}
        return [float(one[1]) * units[one[2]] + float(one[3]) * units[one[4]] for one in found]

    def stop(self):
        self.child.terminate()
        self.child.wait()
        self.job.remove()


def ratio(found, plain, name):
    means = [statistics.mean(one[at] for one in plain) for at in (0, 1)]
    return {f"{name}, kept of messages/s, %": 100 * found[0] / means[0], f"{name}, of messages per CPU-s, %": 100 * found[1] / means[1]}


def pause(bench):
    """The longest time that one of 64 busy tasks is away."""
    found = {}
    rust = bench.guests / "columns.wasm"
    sources = [("Rust", rust, "columns", {"in": generated(None, 100_000, partitions=64)}, {"out": LOG2}, "")]
    if bench.other:
        text = {"lines": ("generate", 'partitions = 64\nkeys = 1000\nvalue-bytes = "8B"\nrate = "5000/s"\n')}
        more = 'on-rejected = "skip"\n[stage.stores.counts]\n[stage.stores.top]\n'
        sources.append((bench.other.stem, bench.other, None, text, {"counts": LOG2, "top": LOG2}, more))
    for name, component, guest, inputs, outputs, more in sources:
        job = Job(bench, bench.host, guest or "columns", inputs, outputs, stage=more, store=guest is not None)
        if guest is None:
            text = (job.folder / "job.toml").read_text().replace(str(rust), str(component))
            (job.folder / "job.toml").write_text(text)
        running = Running(job)
        time.sleep(3)
        codes = [other_code(bench, component, number) for number in (1, 2)]
        for number in range(bench.swaps):
            running.swap(codes[number % 2], "--force", "--probation", "none")
            time.sleep(0.7)
        pauses = sorted(running.pauses())
        running.stop()
        for percent in (50, 99):
            found[f"{name}, p{percent}, ms"] = pauses[len(pauses) * percent // 100]
    return found


def compiling(bench):
    """What a stage does while a large candidate is compiled, with one worker."""
    if not bench.other:
        return {}
    job = Job(bench, bench.host, "columns", {"in": generated(None, 100_000)}, {"out": LOG2}, job="workers = 1")
    running = Running(job)
    time.sleep(3)
    plain, compiled, took = [running.stretch(5)], [], []
    for number in range(3):
        # It need not fit: that is looked at after it is compiled.
        component = other_code(bench, bench.other, 100 + number)
        before = running.point()
        done = job.start("swap", "bench", str(component), "--dry-run", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done.wait()
        compiled.append(running.rates(before))
        took.append(time.monotonic() - before[0])
        plain.append(running.stretch(5))
    running.stop()
    found = [statistics.mean(one[at] for one in compiled) for at in (0, 1)]
    return {"seconds": statistics.mean(took), **ratio(found, plain, f"{bench.other.stat().st_size / 1e6:.0f} MB")}


def tasks(bench):
    """A stage of 10,000 tasks, of which 100 are busy; and what the same takes without swaps."""
    _, plain = of_many_tasks(bench, swaps=False)
    durations, memory = of_many_tasks(bench, swaps=True)
    return {
        "from barrier to durable, p50, ms": statistics.median(durations),
        "longest, ms": max(durations),
        "memory after ten swaps, MiB": memory,
        "the same without swaps, MiB": plain,
    }


def of_many_tasks(bench, swaps):
    inputs = {"in": ("log", "partitions = 10000\n")}
    job = Job(bench, bench.host, "columns", inputs, {"out": LOG2})
    lines = "".join(f'{{"partition":{number},"key":"k000000000000001","value":"sixteen bytes and more"}}\n' for number in range(10_000))
    busy = "".join(f'{{"partition":{number * 100},"key":"k000000000000001","value":"sixteen bytes and more"}}\n' for number in range(100))
    running = Running(job)
    feed = lambda text: job.start("log", "produce", "in", "--jsonl", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL).communicate(text.encode())
    feed(lines)
    time.sleep(5)
    codes = [other_code(bench, bench.guests / "columns.wasm", number) for number in (1, 2)]
    durations = []
    for number in range(10):
        feed(busy * 20)
        if not swaps:
            time.sleep(1.5)
            continue
        swap = running.swap(codes[number % 2], "--force", "--probation", "none")
        time.sleep(1.5)
        checkpoints = [json.loads(line) for line in job.ask("checkpoint", "list", "--json").splitlines()]
        durations += [one["duration-us"] / 1e3 for one in checkpoints if one["epoch"] == swap["epoch"]]
    feed(lines)
    time.sleep(5)
    memory = running.memory()
    running.stop()
    return durations, memory


def watched(bench):
    """What new code costs while it is watched, while its output is held, and after that; and what a way back with state takes."""
    more = 'swap = { hold-bytes = "64GiB" }'
    out = {"out": ("log", 'partitions = 2\nretention = { bytes = "64MiB" }\n')}
    job = Job(bench, bench.host, "columns", {"in": generated(None, 1_000_000)}, out, stage=more)
    running = Running(job)
    time.sleep(10)
    codes = [other_code(bench, bench.guests / "columns.wasm", number) for number in (1, 2)]
    found, plain = {}, [running.stretch(20)]
    for name, options in (("probation", []), ("held", ["--hold-output"])):
        code = codes.pop(0)
        running.swap(code, "--probation", "1h", *options)
        stretch = running.stretch(30)
        running.swap("--promote")
        plain.append(running.stretch(20))
        found |= ratio(stretch, plain[-2:], name)
    found |= ratio(plain[-1], plain[:2], "after it")
    running.swap(other_code(bench, bench.guests / "columns.wasm", 3), "--probation", "1h", "--hold-output")
    time.sleep(20)
    keys = running.status()["stages"][0]["hold"]["state-keys"]
    begin = time.monotonic()
    running.swap("--rollback", "--wait")
    seconds = time.monotonic() - begin
    running.stop()
    return {**found, "way back, s": seconds, "per 1,000,000 keys, s": seconds / keys * 1e6}


def shadowed(bench):
    """What live work keeps while new code is tried beside it, at full speed and at half of it, and how much is compared."""
    found, full = {}, None
    for name in ("saturated", "half load"):
        rate = f'rate = "{int(full / 2)}/s"\n' if full else ""
        job = Job(bench, bench.host, "columns", {"in": generated(None, 1_000_000, more=rate)}, {"out": ("log", 'partitions = 2\nretention = { bytes = "64MiB" }\n')})
        running = Running(job)
        time.sleep(10)
        plain = [running.stretch(20)]
        full = full or plain[0][0]
        running.swap(other_code(bench, bench.guests / "columns.wasm", 4), "--shadow", "--for", "10m")
        stretch = running.stretch(30)
        swap = running.swap("--drop")
        if swap["differing"]:
            raise SystemExit(f"equal code differs: {swap['differences'][0]}")
        plain.append(running.stretch(20))
        running.stop()
        found |= ratio(stretch, plain, name) | {f"{name}, messages compared/s": swap["compared"] / 30}
    return found


FIGURES = {"pause": pause, "compiling": compiling, "tasks": tasks, "watched": watched, "shadowed": shadowed}


class Bench:
    def __init__(self, arguments, work):
        self.host, self.guests = arguments.host.resolve(), arguments.guests.resolve()
        self.other = arguments.other and arguments.other.resolve()
        self.swaps = arguments.swaps
        self.work = pathlib.Path(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--host", required=True, type=pathlib.Path, help="the host's binary")
    parser.add_argument("--guests", required=True, type=pathlib.Path, help="the folder of the components")
    parser.add_argument("--other", type=pathlib.Path, help="a large component that counts words")
    parser.add_argument("--swaps", type=int, default=30, help="how many swaps the pause is measured at")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="wasm-host-swaps-") as work:
        bench = Bench(arguments, work)
        print("| figure | | |\n| --- | --- | --: |")
        for name in arguments.figures or FIGURES:
            for row, value in FIGURES[name](bench).items():
                print(f"| {name} | {row} | {value:,.2f} |", flush=True)


if __name__ == "__main__":
    main()
