#!/usr/bin/env python3
"""What a user gets: figures of the whole binary, from the first message to what is on the disk.

    ./whole.py --host PATH --guests FOLDER                   all figures
    ./whole.py --host PATH --guests FOLDER --against OTHER   beside another binary: in turn, and the median of the pairs' ratios
    ./whole.py ... --runs 7 counter-1m gaps                  some figures, so many runs of each

FOLDER has the components of benches/guests. CPU time is that of the host's process, all threads, user and system; memory is its peak
resident size, or that of a command of the figure if it is larger. A message is counted once, however many streams it passes through.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

STREAM = '[streams.{name}]\nsystem = "{system}"\n{more}'


class Job:
    """A job in a folder of its own, and the binary that runs it."""

    def __init__(self, bench, host, component, inputs, outputs, *, job="", checkpoint="", stage="", store=True):
        self.bench, self.host = bench, host
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="wasm-host-whole-", dir=bench.work))
        self.outputs = list(outputs)
        lines = ["[job]", 'name = "whole"', job, "[checkpoint]", checkpoint]
        for name, (system, more) in {**inputs, **outputs}.items():
            lines.append(STREAM.format(name=name, system=system, more=more))
        names = lambda streams: json.dumps(list(streams))
        lines += ["[[stage]]", 'name = "bench"', f'component = "{bench.guests / component}.wasm"']
        lines += [f"inputs = {names(inputs)}", f"outputs = {names(outputs)}", stage]
        if store:
            lines += ["[stage.stores.counts]", 'type = "rocksdb"']
        (self.folder / "job.toml").write_text("\n".join(lines) + "\n")

    def arguments(self, *arguments):
        return [self.host, *arguments, "--job", str(self.folder)]

    def start(self, *arguments, log="warn", **options):
        environment = {**os.environ, "RUST_LOG": log, "XDG_CACHE_HOME": str(self.bench.work / "cache")}
        return subprocess.Popen(self.arguments(*arguments), env=environment, **options)

    def run(self, *arguments, seconds=None):
        """Runs it to its end, or so many seconds: wall time, CPU time."""
        begin = time.monotonic()
        child = self.start("run", *arguments, stdout=subprocess.DEVNULL)
        if seconds is not None:
            threading.Timer(seconds, child.send_signal, [signal.SIGTERM]).start()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"{self.folder / 'job.toml'}: exit code {child.returncode}")
        return time.monotonic() - begin, usage.ru_utime + usage.ru_stime

    def ask(self, *arguments, **options):
        done = self.start(*arguments, stdout=subprocess.PIPE, **options)
        out, _ = done.communicate()
        if done.returncode != 0:
            raise RuntimeError(f"{arguments} of {self.folder / 'job.toml'}: exit code {done.returncode}")
        return out

    def processed(self):
        """Messages whose processing is committed. The job does not run."""
        return processed_of(json.loads(self.ask("status", "--json")))

    def holder(self):
        """The process that has announced that it runs the job; 0: none."""
        try:
            return json.loads((self.folder / ".wasm-host/whole/lock").read_text())["pid"]
        except (OSError, ValueError):
            return 0

    def values(self, stream):
        return self.ask("log", "consume", stream).decode().splitlines()

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def generated(count, keys, partitions=2, distribution="zipfian", more=""):
    count = "" if count is None else f"count = {count}\n"
    return ("generate", f'partitions = {partitions}\n{count}keys = {keys}\ndistribution = "{distribution}"\n{more}')


LOG2 = ("log", "partitions = 2\n")
LOG1 = ("log", "")


def counter(bench, host, keys, checkpoint="", count=5_000_000, distribution="zipfian"):
    job = Job(bench, host, "columns", {"in": generated(count, keys, distribution=distribution)}, {"out": LOG2}, checkpoint=checkpoint)
    wall, cpu = job.run()
    durations = [one["duration-us"] / 1e3 for one in map(json.loads, job.ask("checkpoint", "list", "--json").splitlines())]
    job.remove()
    return {
        "messages/s": count / wall,
        "messages per CPU-s": count / cpu,
        "checkpoint p50, ms": statistics.median(durations),
        "checkpoint longest, ms": max(durations),
    }


def gaps(bench, host):
    seconds, partitions = bench.seconds, 2
    job = Job(bench, host, "saturated", {"in": generated(None, 1_000_000)}, {"out": LOG2, "gaps": LOG2})
    job.run(seconds=seconds)
    # In microseconds; the first seconds belong to the start.
    found = [int(gap) / 1e3 for gap in job.values("gaps")]
    rate = job.processed() / seconds
    job.remove()
    return {
        "longest gap, ms": max(found, default=2.0),
        "time in gaps > 2 ms, %": sum(found) / (seconds * 10 * partitions),
        "messages/s": rate,
    }


def often(bench, host):
    """A checkpoint every 100 ms against one every 10 s."""
    def rate(interval, more):
        job = Job(bench, host, "columns", {"in": generated(None, 1_000_000, more=more)}, {"out": LOG2}, checkpoint=f'interval = "{interval}"')
        job.run(seconds=12)
        processed = job.processed()
        job.remove()
        return processed / 12
    full = rate("10s", "")
    half = f'rate = "{int(full / 2)}/s"\n'
    return {
        "kept at full load, %": 100 * rate("100ms", "") / full,
        "kept at half load, %": 100 * rate("100ms", half) / rate("10s", half),
    }


def filled_log(bench, host):
    """Two million messages of 100 bytes in a log."""
    made = bench.work / "messages"
    if not made.exists():
        with open(made, "wb") as out:
            pick = random.Random(7)
            for at in range(2_000_000):
                out.write(b"k%015d=%099d%d\n" % (pick.randrange(100_000), 0, at % 10))
    job = Job(bench, host, "relay", {"in": LOG2}, {"out": LOG2}, store=False)
    with open(made, "rb") as lines:
        job.ask("log", "produce", "in", "--key-separator", "=", "--batch", "50000", stdin=lines)
    return job


def relay(bench, host):
    job = filled_log(bench, host)
    wall, cpu = job.run("--until-idle")
    job.remove()
    return {"messages/s": 2e6 / wall, "messages per CPU-s": 2e6 / cpu}


def nothing(bench, host):
    count = 20_000_000
    job = Job(bench, host, "sink", {"in": generated(count, 1000, distribution="sequential", more='value-bytes = "8B"\n')}, {}, store=False)
    wall, cpu = job.run()
    job.remove()
    return {"messages/s": count / wall, "messages per CPU-s": count / cpu}


def csv(bench, host):
    made = bench.work / "flights.csv"
    if not made.exists():
        source = (pathlib.Path(__file__).resolve().parent.parent / "examples/flight-delays/data/flights.csv").read_bytes()
        header, rows = source.split(b"\n", 1)
        made.write_bytes(header + b"\n" + rows * (200_000_000 // len(rows)))
    header = made.open().readline().strip().split(",")
    job = Job(bench, host, "relay", {"in": ("file", f'path = "{made}"\nformat = "csv"\nkey = "{header[0]}"\n')}, {"out": LOG1}, store=False)
    wall, cpu = job.run()
    job.remove()
    size = made.stat().st_size / 1e6
    return {"MB/s": size / wall, "MB per CPU-s": size / cpu}


def lone(bench, host):
    """A message after silence, from standard input to standard output."""
    lines = ("stdin", 'format = "lines"\n')
    job = Job(bench, host, "relay", {"in": lines}, {"out": ("stdout", 'format = "lines"\n')}, store=False)
    child = job.start("run", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    waits, pick = [], random.Random(3)
    for number in range(100):
        time.sleep(pick.uniform(0.3, 1.0))
        begin = time.monotonic()
        child.stdin.write(b"%d\n" % number)
        child.stdin.flush()
        child.stdout.readline()
        waits.append((time.monotonic() - begin) * 1e3)
    child.stdin.close()
    child.wait()
    job.remove()
    waits = sorted(waits[1:])
    return {"p50, ms": statistics.median(waits), "p99, ms": waits[len(waits) * 99 // 100]}


def restart(bench, host):
    """Killed with 1 GiB of state: from the start to the first message that is committed."""
    keys = 8_000_000
    job = Job(bench, host, "columns", {"in": generated(keys, keys, distribution="sequential")}, {"out": ("log", 'partitions = 2\nretention = { bytes = "16MiB" }\n')})
    job.run()
    text = (job.folder / "job.toml").read_text().replace(f"count = {keys}\n", "")
    (job.folder / "job.toml").write_text(text)
    waits = []
    for _ in range(5):
        child = job.start("run", stdout=subprocess.DEVNULL)
        time.sleep(3)
        child.kill()
        child.wait()
        before, begin = job.processed(), time.monotonic()
        child = job.start("run", stdout=subprocess.DEVNULL)
        # A command that looks at a job that has not begun holds its start up.
        while job.holder() != child.pid:
            time.sleep(0.002)
        while processed_of(json.loads(job.ask("status", "--json"))) <= before:
            pass
        waits.append(time.monotonic() - begin)
        child.kill()
        child.wait()
    job.remove()
    return {"s": statistics.median(waits)}


def processed_of(status):
    return sum(task["processed"] for task in status["tasks"])


FIGURES = {
    "counter-1m": lambda bench, host: counter(bench, host, 1_000_000),
    "counter-100k": lambda bench, host: counter(bench, host, 100_000),
    "counter-10m": lambda bench, host: counter(bench, host, 10_000_000, distribution="uniform"),
    "gaps": gaps,
    "often": often,
    "relay": relay,
    "nothing": nothing,
    "csv": csv,
    "lone": lone,
    "restart": restart,
}


def figure(name, bench, host):
    """A figure, and the most memory that a process of it had."""
    found = FIGURES[name](bench, host)
    return {**found, "memory, MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}


def measured(name, bench, host):
    """The same in a process of its own, whose children are those of this figure alone."""
    with multiprocessing.get_context("fork").Pool(1) as one:
        return one.apply(figure, (name, bench, host))


class Bench:
    def __init__(self, arguments, work):
        self.guests = arguments.guests.resolve()
        self.seconds = arguments.seconds
        # Also for input that is made once.
        self.work = pathlib.Path(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--host", required=True, type=pathlib.Path, help="the host's binary")
    parser.add_argument("--against", type=pathlib.Path, help="another binary")
    parser.add_argument("--guests", required=True, type=pathlib.Path, help="the folder of the components")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many runs is shown")
    parser.add_argument("--seconds", type=int, default=60, help="how long the run for the gaps takes")
    arguments = parser.parse_intermixed_args()
    unknown = set(arguments.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    hosts = [host.resolve() for host in (arguments.host, arguments.against) if host is not None]
    print("| figure | | this | other | ratio | of each pair |\n| --- | --- | --: | --: | --: | --- |")
    with tempfile.TemporaryDirectory(prefix="wasm-host-whole-") as work:
        bench = Bench(arguments, work)
        for name in arguments.figures or FIGURES:
            found = []
            for run in range(arguments.runs):
                order = hosts if run % 2 == 0 else hosts[::-1]
                found.append({host: measured(name, bench, host) for host in order})
            for row in found[0][hosts[0]]:
                columns = [[run[host][row] for run in found] for host in hosts]
                cells = [f"{statistics.median(column):,.2f}" for column in columns] + [""] * (2 - len(hosts))
                ratios = [ours / other for ours, other in zip(*columns)] if len(hosts) == 2 else []
                cells.append(f"{statistics.median(ratios):.3f}" if ratios else "")
                cells.append(" ".join(f"{ratio:.2f}" for ratio in ratios))
                print(f"| {name} | {row} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
