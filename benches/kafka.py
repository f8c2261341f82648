#!/usr/bin/env python3
"""What Kafka costs: figures of the whole binary beside a broker on the same cores.

    ./kafka.py --host PATH --guests FOLDER                      all figures
    ./kafka.py --host PATH --guests FOLDER counter --peers      some of them, and what needs a JDK: Kafka Streams, end to end

FOLDER has the components of benches/guests. The broker is started by scripts/kafka, and has 1 GiB of heap. A rate is that of a whole run,
less what a second run takes that has nothing to do. What is compared runs in turn, and the ratio is the median of the pairs' ratios.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KAFKA = ROOT / "scripts" / "kafka"
PORT = 39092
BROKERS = f"127.0.0.1:{PORT}"


class Bench:
    def __init__(self, options):
        self.host, self.guests = options.host, pathlib.Path(options.guests)
        self.peers, self.runs = options.peers, options.runs
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="wasm-host-bench-kafka-"))
        self.count = 0
        self.filled = {}
        os.environ["KAFKA_HEAP"] = "1g"
        subprocess.run([KAFKA, "start", self.work / "broker", str(PORT)], check=True)

    def close(self):
        subprocess.run([KAFKA, "stop", self.work / "broker"], check=True)
        shutil.rmtree(self.work)

    def name(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"

    def topic(self, partitions):
        """A new topic."""
        name = self.name("t")
        # Generated messages are of 2025, and older than a topic keeps them by default.
        arguments = ["--create", "--topic", name, "--partitions", str(partitions), "--config", "retention.ms=-1"]
        run = [KAFKA, "run", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", BROKERS, *arguments]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        return name

    def job(self, component, source, sink, *, general="", checkpoint="", cluster="", stage="", store=False):
        name = self.name("job")
        folder = self.work / name
        folder.mkdir()
        lines = ["[job]", f'name = "{name}"', general, "[checkpoint]", checkpoint]
        lines += ["[clusters.local]", f'brokers = ["{BROKERS}"]', cluster]
        lines += ["[streams.in]", source, "[streams.out]", sink]
        lines += ["[[stage]]", 'name = "bench"', f'component = "{self.guests / component}.wasm"', 'inputs = ["in"]', 'outputs = ["out"]', stage]
        if store:
            lines += ["[stage.stores.counts]", 'type = "rocksdb"']
        (folder / "job.toml").write_text("\n".join(lines) + "\n")
        return folder

    def start(self, folder, *arguments, log="warn", **options):
        environment = {**os.environ, "RUST_LOG": log, "XDG_CACHE_HOME": str(self.work / "cache")}
        return subprocess.Popen([self.host, *arguments, "--job", str(folder)], env=environment, **options)

    def run(self, folder):
        """Runs it to its end: wall time, CPU time of the host."""
        begin = time.monotonic()
        child = self.start(folder, "run")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise SystemExit(f"{folder}: the host ended with {status}")
        return time.monotonic() - begin, usage.ru_utime + usage.ru_stime

    def ask(self, folder, *arguments):
        done = self.start(folder, *arguments, stdout=subprocess.PIPE)
        out, _ = done.communicate()
        return [json.loads(line) for line in out.splitlines()]

    def fill(self, partitions, count, keys, distribution="zipfian"):
        """A topic with generated messages of 100 B."""
        which = (partitions, count, keys, distribution)
        if which not in self.filled:
            topic = self.topic(partitions)
            source = f'system = "generate"\ncount = {count}\nkeys = {keys}\ndistribution = "{distribution}"\npartitions = {partitions}'
            self.run(self.job("relay", source, kafka(topic, 'delivery = "at-least-once"')))
            self.filled[which] = topic
        return self.filled[which]

    def rate(self, count, folder):
        """Messages a second, and a CPU-second of the host."""
        full, cpu = self.run(folder)
        empty, idle = self.run(folder)
        return count / (full - empty), count / (cpu - idle)

    def compare(self, count, folders):
        """The rates of two kinds of jobs that run in turn, and the ratio of the second to the first. The first pair warms up."""
        pairs = []
        for _ in range(self.runs + 1):
            pairs.append([self.rate(count, make()) for make in folders])
        pairs = pairs[1:]
        medians = [tuple(statistics.median(pair[which][of] for pair in pairs) for of in [0, 1]) for which in [0, 1]]
        return *medians, statistics.median(pair[1][0] / pair[0][0] for pair in pairs)

    def java(self, program, *arguments, **options):
        jars = subprocess.run([KAFKA, "--streams"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        source = ROOT / "benches" / "kafka" / f"{program}.java"
        command = ["java", "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{jars}/*", source]
        return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, **options)


def kafka(topic, more=""):
    return f'system = "kafka"\ntopic = "{topic}"\n{more}\n'


def show(what, rate):
    print(f"{what}: {rate[0]:,.0f}/s, {rate[1]:,.0f} per CPU-second of the host", flush=True)


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def relay(bench, count=3_000_000):
    """From topic to topic, once and at least once; and how long barriers hold tasks up."""
    topic = bench.fill(4, count, 100_000)
    for interval in ["1s", "100ms"]:

        def make(delivery):
            sink = kafka(bench.topic(4), f'delivery = "{delivery}"')
            checkpoint = f'interval = "{interval}"\nearly = false'
            return bench.job("relay", kafka(topic, 'until = "end"'), sink, checkpoint=checkpoint)

        least, exactly, ratio = bench.compare(count, [lambda: make("at-least-once"), lambda: make("exactly-once")])
        show(f"relay, 4 partitions, epochs of {interval}, at least once", least)
        show(f"relay, 4 partitions, epochs of {interval}, exactly once", exactly)
        print(f"exactly once against at least once, epochs of {interval}: {ratio:.0%}", flush=True)


def pause(bench, count=3_000_000):
    """How long a barrier holds a task up, with Kafka and without."""
    streams = {
        "Kafka": (kafka(bench.fill(4, count, 100_000), 'until = "end"'), lambda: kafka(bench.topic(4))),
        "a log": (f'system = "generate"\ncount = {count}\nkeys = 100000\npartitions = 4', lambda: 'system = "log"\npartitions = 4'),
    }
    for name, (source, sink) in streams.items():
        pauses = []
        for _ in range(bench.runs):
            folder = bench.job("relay", source, sink(), checkpoint='interval = "20ms"\nearly = false')
            bench.run(folder)
            pauses += [one["pause-us"] for one in bench.ask(folder, "checkpoint", "list", "--json")]
        middle, high = (percentile(pauses, share) for share in [0.5, 0.99])
        print(f"pause of a task, {name}, {len(pauses)} barriers: p50 {middle} us, p99 {high} us", flush=True)


def partitions(bench, count=3_000_000):
    """Few partitions and many."""
    topics = {number: bench.fill(number, count, 100_000, "uniform") for number in [4, 64]}

    def make(number):
        return bench.job("relay", kafka(topics[number], 'until = "end"'), kafka(bench.topic(number)))

    few, many, ratio = bench.compare(count, [lambda: make(4), lambda: make(64)])
    show("relay, 4 partitions", few)
    show("relay, 64 partitions", many)
    print(f"64 partitions against 4: {ratio:.0%}", flush=True)


def delivery(bench, seconds=15):
    """How long the transaction of an epoch takes, all of whose partitions have something."""
    for number in [1, 64]:
        rate = 100 * number
        source = f'system = "generate"\ncount = {seconds * rate}\nrate = "{rate}/s"\nkeys = 100000\npartitions = {number}'
        folder = bench.job("relay", source, kafka(bench.topic(number)), checkpoint='interval = "200ms"\nearly = false')
        child = bench.start(folder, "run", log="debug", stderr=subprocess.PIPE, text=True)
        _, said = child.communicate()
        found = re.findall(r"send_us=(\d+) drain_us=(\d+) commit_us=(\d+)", said)
        parts = [[int(part) / 1e3 for part in one] for one in found][5:]
        whole = [sum(one) for one in parts]
        middle = [statistics.median(part) for part in zip(*parts)]
        print(f"delivery, {number} dirty partitions, {len(whole)} epochs: p50 {statistics.median(whole):.1f} ms, p99 {percentile(whole, 0.99):.1f} ms"
              f" (send {middle[0]:.1f}, drain {middle[1]:.1f}, commit {middle[2]:.1f})", flush=True)


def streams(bench, topic, count):
    """The counter of Kafka Streams: messages a second from the first to the end of the last epoch."""
    name = bench.name("peer")
    child = bench.java("Counter", BROKERS, name, topic, bench.topic(4), count, bench.work / name, 1000)
    times = {}
    for line in child.stdout:
        times[line.strip()] = time.monotonic()
    if child.wait() or "done" not in times:
        raise SystemExit("Kafka Streams has ended early")
    return count / (times["done"] - times["first"])


def counter(bench, count=4_000_000):
    """A count by key, exactly once."""
    topic = bench.fill(4, count, 1_000_000)
    ratios, rates, peers = [], [], []
    for _ in range(bench.runs):
        source, sink = kafka(topic, 'until = "end"'), kafka(bench.topic(4))
        folder = bench.job("columns", source, sink, checkpoint='interval = "1s"', store=True)
        rates.append(bench.rate(count, folder))
        if bench.peers:
            peers.append(streams(bench, topic, count))
            ratios.append(rates[-1][0] / peers[-1])
            print(f"  {rates[-1][0]:,.0f}/s, Kafka Streams {peers[-1]:,.0f}/s", flush=True)
    rate = tuple(statistics.median(of) for of in zip(*rates))
    show("counter, 1,000,000 zipfian keys, exactly once, epochs of 1 s", rate)
    if bench.peers:
        print(f"Kafka Streams, exactly once v2: {statistics.median(peers):,.0f}/s; ratio {statistics.median(ratios):.1f}", flush=True)


def latency(bench, seconds=20):
    """From end to end, with a sender and a reader in Java beside it."""
    if not bench.peers:
        print("end to end: only with --peers", flush=True)
        return
    full = None
    for load in ["full", "half"]:
        source, sink = bench.topic(4), bench.topic(4)
        folder = bench.job("relay", kafka(source), kafka(sink), checkpoint='interval = "100ms"')
        child = bench.start(folder, "run")
        rate = 0 if full is None else full // 2
        found = bench.java("Latency", BROKERS, source, sink, 4, rate, seconds).communicate()[0].split()
        child.send_signal(signal.SIGTERM)
        child.wait()
        came, middle, high, most = map(float, found)
        full = full or int(came)
        print(f"end to end, epochs of 100 ms, {load} load of {came:,.0f}/s: p50 {middle:.0f} ms, p99 {high:.0f} ms, longest {most:.0f} ms", flush=True)


def restart(bench, count=20_000_000, kept=9_500_000):
    """A kill with 1 GiB of state, and a start: until messages are processed and committed again."""
    topic = bench.fill(4, count, count, "sequential")
    folder = bench.job("keep", kafka(topic), kafka(bench.topic(4)), store=True)
    child, processed = bench.start(folder, "run"), 0
    while processed < kept:
        time.sleep(0.5)
        if child.poll() is not None:
            raise SystemExit("the host has ended early")
        for status in bench.ask(folder, "status", "--json"):
            processed = sum(task["processed"] or 0 for task in status["tasks"])
    text = (folder / "job.toml").read_text()
    slowly = text.replace("[streams.out]", 'max-rate = "150000/s"\n[streams.out]')
    for load, job in [("150,000/s", slowly), ("full load", text)]:
        child.send_signal(signal.SIGTERM)
        child.wait()
        (folder / "job.toml").write_text(job)
        child = bench.start(folder, "run")
        times = []
        for _ in range(bench.runs):
            time.sleep(2)
            child.kill()
            child.wait()
            begin = time.monotonic()
            child = bench.start(folder, "run", log="debug", stderr=subprocess.PIPE, text=True)
            for line in child.stderr:
                found = re.search(r"checkpoint .*\bmessages=(\d+)", line)
                if found and int(found[1]) > 0:
                    break
            times.append(time.monotonic() - begin)
            threading.Thread(target=child.stderr.read, daemon=True).start()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"kill -9 at {load} and restart, {size / (1 << 30):.1f} GiB in the state directory: messages are committed again after"
              f" {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})", flush=True)
    child.kill()
    child.wait()


def memory(bench, count=10_000_000):
    """Much that is unread, and a guest that is slow."""
    full, empty = bench.fill(64, count, 100_000, "uniform"), bench.topic(64)
    peaks = []
    for topic in [empty, full]:
        general, checkpoint = 'cache = "32MiB"', 'bytes = "32MiB"'
        folder = bench.job("slow", kafka(topic), kafka(bench.topic(64)), general=general, checkpoint=checkpoint, cluster='fetch-memory = "64MiB"', stage="batch-messages = 100")
        child = bench.start(folder, "run")
        most = 0
        for _ in range(100):
            time.sleep(0.2)
            found = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{child.pid}/status").read_text())
            most = max(most, int(found[1]) >> 10)
        child.kill()
        child.wait()
        peaks.append(most)
    bound = peaks[0] + 32 + 2 * 32 + 2 * 64 + 64
    print(f"64 partitions, {count:,} messages of 100 B unread, a slow guest: {peaks[1]} MiB; idle {peaks[0]} MiB, bound {bound} MiB", flush=True)


FIGURES = {each.__name__: each for each in [relay, pause, partitions, delivery, counter, latency, restart, memory]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True)
    parser.add_argument("--guests", required=True)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []])
    options = parser.parse_args()
    bench = Bench(options)
    try:
        for name in options.figures or FIGURES:
            FIGURES[name](bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
