#!/usr/bin/env python3
"""The word count of examples/word-count, whole, in each language: what a job costs with a real store and real files.

    ./words.py FOLDER --host PATH   FOLDER/LANGUAGE has the components, as tests/languages/LANGUAGE/build makes them
    ./words.py FOLDER --host PATH --times 5 rust python

The text of the example is counted so many times over. CPU time is that of the host's process, all threads, user and system, less that
of a run over nothing. Memory is its peak resident size. Everything must come out alike in all languages.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent / "examples/word-count"
LANGUAGES = ["rust", "c", "cpp", "go", "python", "javascript", "typescript"]


class Job:
    """The example's job with another component and text."""

    def __init__(self, host, component, folder, text, cache):
        self.host = pathlib.Path(host).resolve()
        self.folder = folder
        job = (EXAMPLE / "job.toml").read_text()
        ours = "${COMPONENTS:-../../target/wasm32-wasip2/release}/word_count.wasm"
        if ours not in job:
            sys.exit(f"{EXAMPLE / 'job.toml'} names no component {ours}")
        (folder / "job.toml").write_text(job.replace(ours, str(component)))
        (folder / "data").mkdir()
        (folder / "data/alice.txt").write_bytes(text)
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "RUST_LOG": "warn"}

    def call(self, command):
        """CPU-seconds and peak memory in bytes."""
        child = subprocess.Popen([self.host, command, "--job", str(self.folder)], env=self.environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit(f"{command} of {self.folder / 'job.toml'} failed")
        child.returncode = 0
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024

    def outcome(self):
        """How many words were sent, and a digest of all that was sent."""
        digest = hashlib.sha256()
        counts = (self.folder / "out/counts-0-0").read_bytes()
        digest.update(counts)
        digest.update((self.folder / "out/top-0-0").read_bytes())
        return counts.count(b"\n"), digest.hexdigest()


def run(host, component, text, cache):
    with tempfile.TemporaryDirectory(prefix="wasm-host-words-") as folder:
        job = Job(host, component, pathlib.Path(folder), text, cache)
        cpu, memory = job.call("run")
        return cpu, memory, job.outcome()


def measure(host, component, text, runs):
    """A row of the table."""
    with tempfile.TemporaryDirectory(prefix="wasm-host-words-") as work:
        work = pathlib.Path(work)
        job = Job(host, component, work, b"", work / "cache")
        compile_, _ = job.call("validate")
        load, _ = job.call("validate")
        nothing = statistics.median(run(host, component, b"", work / "cache")[0] for _ in range(runs))
        found = [run(host, component, text, work / "cache") for _ in range(runs)]
        stripped = work / "stripped.wasm"
        subprocess.run(["wasm-tools", "strip", "--all", component, "-o", stripped], check=True)
        outcomes = {outcome for _, _, outcome in found}
        if len(outcomes) != 1:
            sys.exit(f"{component}: runs over the same text differ: {outcomes}")
        (outcome,) = outcomes
        cpu = statistics.median(cpu for cpu, _, _ in found) - nothing
        return {
            "bytes": component.stat().st_size,
            "stripped": stripped.stat().st_size,
            "compile": compile_ - load,
            "words": outcome[0] / cpu,
            "memory": max(memory for _, memory, _ in found),
            "outcome": outcome,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE")
    parser.add_argument("--host", default=shutil.which("wasm-host"), help="the host's binary")
    parser.add_argument("--times", type=int, default=40, help="how often the text is counted in a run")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many runs is shown")
    arguments = parser.parse_intermixed_args()
    if arguments.host is None:
        parser.error("no wasm-host is on PATH: name it by --host")
    text = (EXAMPLE / "data/alice.txt").read_bytes() * arguments.times
    print("| language | handler | component | stripped | compile, CPU-s | words per CPU-s | lines per CPU-s | memory, MiB |")
    print("| --- | --- | --: | --: | --: | --: | --: | --: |")
    outcomes = set()
    for language in arguments.languages or LANGUAGES:
        for handler in ("message", "batch"):
            component = (arguments.folder / language / f"word-count-{handler}.wasm").resolve()
            if not component.exists():
                continue
            row = measure(arguments.host, component, text, arguments.runs)
            outcomes.add(row["outcome"])
            lines = row["words"] * text.count(b"\n") / row["outcome"][0]
            print(
                f"| {language} | {handler} | {row['bytes'] / 1e6:.2f} MB | {row['stripped'] / 1e6:.2f} MB | {row['compile']:.2f}"
                f" | {row['words'] / 1e3:,.0f}k | {lines / 1e3:,.0f}k | {row['memory'] / 2**20:.0f} |",
                flush=True,
            )
    if not outcomes:
        sys.exit(f"no component in {arguments.folder}")
    if len(outcomes) != 1:
        sys.exit(f"the languages do not agree: {outcomes}")


if __name__ == "__main__":
    main()
