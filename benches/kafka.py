#!/usr/bin/env python3
"""What Kafka costs: figures of the whole binary beside a broker on the same cores.

    ./kafka.py --host PATH --guests FOLDER              all figures
    ./kafka.py --host PATH --guests FOLDER counter      some of them: relay, partitions, counter, latency, restart

FOLDER has the components of benches/guests. The broker is started by scripts/kafka, and has 1 GiB of heap. A rate is that from the first
message that is read to the last that is delivered, start and end of the process left out by running the job once over nothing.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KAFKA = ROOT / "scripts" / "kafka"
PORT = 39092


class Bench:
    def __init__(self, host, guests):
        self.host, self.guests = host, pathlib.Path(guests)
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="wasm-host-bench-kafka-"))
        self.count = 0
        os.environ["KAFKA_HEAP"] = "1g"
        subprocess.run([KAFKA, "start", self.work / "broker", str(PORT)], check=True)

    def close(self):
        subprocess.run([KAFKA, "stop", self.work / "broker"], check=True)
        shutil.rmtree(self.work)

    def topic(self):
        self.count += 1
        return f"t{self.count}"

    def job(self, component, source, sink, *, checkpoint="", stage="", store=False, cluster="", general=""):
        self.count += 1
        folder = self.work / f"job{self.count}"
        folder.mkdir()
        lines = ["[job]", f'name = "job{self.count}"', general, "[checkpoint]", checkpoint]
        lines += ["[clusters.local]", f'brokers = ["127.0.0.1:{PORT}"]', cluster]
        lines += ["[streams.in]", source, "[streams.out]", sink]
        lines += ["[[stage]]", 'name = "bench"', f'component = "{self.guests / component}.wasm"', 'inputs = ["in"]', 'outputs = ["out"]', stage]
        if store:
            lines += ["[stage.stores.counts]", 'type = "rocksdb"']
        (folder / "job.toml").write_text("\n".join(lines) + "\n")
        return folder

    def command(self, folder, *arguments):
        return [self.host, *arguments, "--job", str(folder)]

    def run(self, folder, *arguments):
        """Runs it to its end: wall time, and CPU time of the host."""
        environment = {**os.environ, "RUST_LOG": "warn", "XDG_CACHE_HOME": str(self.work / "cache")}
        begin = time.monotonic()
        child = subprocess.Popen(self.command(folder, "run", *arguments), env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{folder}: the host ended with {status}")
        return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss

    def fill(self, partitions, count, keys, distribution="zipfian"):
        """A topic with generated messages of 100 B."""
        topic = self.topic()
        source = f'system = "generate"\ncount = {count}\nkeys = {keys}\ndistribution = "{distribution}"\npartitions = {partitions}'
        sink = kafka(topic, create(partitions) + 'delivery = "at-least-once"')
        self.run(self.job("relay", source, sink))
        return topic

    def rate(self, count, make):
        """Messages a second of a job, less what a run over nothing takes."""
        job = make()
        full, cpu, memory = self.run(job)
        empty, idle, _ = self.run(job)
        return count / (full - empty), count / (cpu - idle), memory


def kafka(topic, more=""):
    return f'system = "kafka"\ntopic = "{topic}"\n{more}'


def create(partitions):
    # Generated messages are of 2025, and older than a topic keeps them by default.
    return f'create = {{ partitions = {partitions}, config = {{ "retention.ms" = "-1" }} }}\n'


def relay(bench, count=2_000_000):
    topic = bench.fill(4, count, 100_000)
    rates = {}
    for delivery in ["exactly-once", "at-least-once"]:
        for interval in ["1s", "100ms"]:
            def make():
                sink = kafka(bench.topic(), create(4) + f'delivery = "{delivery}"')
                return bench.job("relay", kafka(topic, 'until = "end"'), sink, checkpoint=f'interval = "{interval}"\nearly = false')
            runs = [bench.rate(count, make) for _ in range(3)]
            rates[delivery, interval] = statistics.median(run[0] for run in runs)
            cpu = statistics.median(run[1] for run in runs)
            print(f"relay, 4 partitions, {delivery}, epochs of {interval}: {rates[delivery, interval]:,.0f}/s, {cpu:,.0f} per CPU-second of the host", flush=True)
    for interval in ["1s", "100ms"]:
        share = rates["exactly-once", interval] / rates["at-least-once", interval]
        print(f"exactly once against at least once, epochs of {interval}: {share:.0%}", flush=True)


def partitions(bench, count=2_000_000):
    rates = []
    for number in [4, 64]:
        topic = bench.fill(number, count, 100_000)
        def make():
            sink = kafka(bench.topic(), create(number))
            return bench.job("relay", kafka(topic, 'until = "end"'), sink)
        rates.append(statistics.median(bench.rate(count, make)[0] for _ in range(3)))
        print(f"relay, {number} partitions: {rates[-1]:,.0f}/s", flush=True)
    print(f"64 partitions against 4: {rates[1] / rates[0]:.0%}", flush=True)


def counter(bench, count=4_000_000):
    topic = bench.fill(4, count, 1_000_000)
    def make():
        sink = kafka(bench.topic(), create(4))
        return bench.job("columns", kafka(topic, 'until = "end"'), sink, checkpoint='interval = "1s"', store=True)
    runs = [bench.rate(count, make) for _ in range(3)]
    rate, cpu = (statistics.median(run[at] for run in runs) for at in [0, 1])
    print(f"counter, 1,000,000 zipfian keys, exactly once, epochs of 1 s: {rate:,.0f}/s, {cpu:,.0f} per CPU-second of the host", flush=True)


FIGURES = {"relay": relay, "partitions": partitions, "counter": counter}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True)
    parser.add_argument("--guests", required=True)
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []])
    options = parser.parse_args()
    bench = Bench(options.host, options.guests)
    try:
        for name in options.figures or FIGURES:
            FIGURES[name](bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
