#!/usr/bin/env python3
"""Runs the conformance scripts on a component. Python 3.9 or later, standard library only.

    ./run.py COMPONENT.wasm                   with the `wasm-host` that is on the PATH
    ./run.py COMPONENT.wasm --host PATH       with that one
    ./run.py COMPONENT.wasm --batch 1 --batch 500
                                              batches of at most so many messages (both is the default)
    ./run.py COMPONENT.wasm --without wide    for languages whose numbers end at 2^53
    ./run.py COMPONENT.wasm scripts/x.script  these scripts only

Exit code 1 if anything differs. What the scripts and the commands mean is in README.md. Another host needs another `Host` class.
"""

import argparse
import base64
import collections
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


# Scripts

LEVELS = ("trace", "debug", "info", "warn", "error", "critical", "*")


class Message:
    """A message of a script, and what it must lead to."""

    def __init__(self, value, headers):
        self.key = headers.get("key")
        self.timestamp = headers.get("timestamp", 0)
        self.headers = headers.get("headers", [])
        self.value = value
        self.results = []
        self.rejected = None

    def json(self):
        return json.dumps(
            {
                "key": encoded(self.key),
                "value": encoded(self.value),
                "timestamp": self.timestamp,
                "headers": [[name, encoded(value)] for name, value in self.headers],
            }
        )


class Script:
    """A parsed script."""

    def __init__(self, path):
        self.path = path
        self.runs = [[]]
        self.out = []
        self.entries = []
        self.logs = []
        self.silent = []
        self.metrics = []
        self.on_request = False
        self.only = None
        self.batch = None
        self.needs = set()
        self.bounded = False
        self.fails = None
        about = {}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                about = self.line(line, about)
            except (ValueError, IndexError) as error:
                sys.exit(f"{path}:{number}: {line!r}: {error}")

    def line(self, line, about):
        """Takes a line; returns what is said about the next message."""
        if not line or line.startswith("#"):
            return about
        word, _, rest = line.partition(" ")
        if word == "key":
            return {**about, "key": read_bytes(rest)}
        if word == "timestamp":
            return {**about, "timestamp": int(rest)}
        if word == "header":
            name, _, value = rest.partition(" ")
            return {**about, "headers": about.get("headers", []) + [(name, read_bytes(value))]}
        if word == "tail":
            return {**about, "tail": read_bytes(rest)}
        if word == ">":
            value = rest.encode()
            if "tail" in about:
                value += b"\n" + about["tail"]
            self.runs[-1].append(Message(value, about))
        elif word == ">~":
            self.runs[-1].append(Message(None, about))
        elif word == "<":
            self.runs[-1][-1].results.append(rest)
        elif word == "!":
            self.runs[-1][-1].rejected = rest
        elif word == "@":
            partition, key, value, timestamp, headers = rest.split(" ")
            self.out.append((int(partition), read_bytes(key), read_bytes(value), int(timestamp), headers))
        elif word == "=":
            store, key, value = rest.split(" ")
            self.entries.append((store, read_bytes(key), read_bytes(value)))
        elif word == "run":
            self.runs.append([])
        elif word == "logs":
            level, text = rest.split(" ", 1)
            if level not in LEVELS:
                raise ValueError("no such level")
            self.logs.append((level, text))
        elif word == "silent":
            self.silent.append(rest)
        elif word == "metric":
            self.metrics.append(rest.split(" "))
        elif word == "on-request":
            self.on_request = True
        elif word == "only":
            self.only = rest
        elif word == "batch":
            self.batch = int(rest)
        elif word == "bounded":
            self.bounded = True
        elif word == "needs":
            self.needs.add(rest)
        elif word == "fails":
            self.fails = rest
        else:
            raise ValueError("no such line")
        return {}

    @property
    def messages(self):
        return [message for run in self.runs for message in run]


def read_bytes(word):
    """`~`, `.`, hexadecimal, or `NxHH`."""
    if word == "~":
        return None
    if word == ".":
        return b""
    if "x" in word:
        count, byte = word.split("x")
        return bytes.fromhex(byte) * int(count)
    return bytes.fromhex(word)


def show(value):
    """Bytes as the guest shows them."""
    if value is None:
        return "~"
    if len(value) > 64:
        return f"#{len(value)}:{sum(value)}:{value[:4].hex()}:{value[-4:].hex()}"
    return value.hex() or "."


def show_headers(headers):
    return ",".join(f"{name}={show(value)}" for name, value in headers) or "-"


def encoded(value):
    """Bytes as JSON has them."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def decoded(value):
    """JSON's as bytes."""
    if value is None:
        return None
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return value.encode()


# The host

Got = collections.namedtuple("Got", "partition key value timestamp headers")


class Host:
    """`wasm-host`, and a job in a folder."""

    def __init__(self, command, component, folder, script, batch, memory):
        self.command = command
        self.folder = folder
        self.bounded = script.bounded
        text = (HERE / "job.toml").read_text()
        text = text.replace("[[stage]]\n", f"[[stage]]\nbatch-messages = {batch}\n")
        if self.bounded:
            text = text.replace('[streams.in]\nsystem = "log"', '[streams.in]\nsystem = "file"\npath = "in.txt"')
        if script.on_request:
            text += "\n[checkpoint]\nenabled = false\n"
        (folder / "job.toml").write_text(text)
        self.environment = {
            **os.environ,
            "COMPONENT": str(component),
            "MEMORY": memory,
            "NO_COLOR": "1",
            "RUST_LOG": "info,guest=trace",
        }

    @staticmethod
    def handler(command, component):
        """Which handler a component exports: `message` or `batch`."""
        done = subprocess.run([command, "inspect", str(component), "--json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{component}: {done.stderr}")
        exports = json.loads(done.stdout)["exports"]
        return "batch" if any("/batch-handler@" in name for name in exports) else "message"

    def command_line(self, *arguments):
        return [self.command, *arguments, "--job", str(self.folder)]

    def call(self, *arguments, given=None):
        return subprocess.run(
            self.command_line(*arguments),
            input=given,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *arguments, given=None):
        done = self.call(*arguments, given=given)
        if done.returncode != 0:
            raise Failed(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def append(self, messages):
        """Appends messages to the stream `in`."""
        if self.bounded:
            with open(self.folder / "in.txt", "ab") as file:
                file.writelines(message.value + b"\n" for message in messages)
        elif messages:
            lines = [message.json() + "\n" for message in messages]
            self.must("log", "produce", "in", "--jsonl", given="".join(lines))

    def run(self):
        """Runs until the input has been read. Exit code and error."""
        done = self.call("run", "--until-idle")
        return done.returncode, done.stderr

    @staticmethod
    def guest_lines(text):
        """The lines of the guest's log that `run` yielded: level and text."""
        lines = re.findall(r"^\S+Z +([A-Z]+) (.*) task=guest/0$", text, re.MULTILINE)
        return [(level.lower(), line) for level, line in lines]

    def metrics(self, results):
        """The guest's metrics, by name, while the job runs and has sent so many results."""
        with subprocess.Popen(self.command_line("run"), env=self.environment, stderr=subprocess.DEVNULL) as job:
            try:
                deadline = time.monotonic() + 60
                # Until the job has opened its state there is no such stream.
                while len(self.call("log", "consume", "results", "--json").stdout.splitlines()) < results:
                    if time.monotonic() > deadline or job.poll() is not None:
                        raise Failed("the job does not come to its end")
                    time.sleep(0.05)
                return self.guest_metrics()
            finally:
                job.terminate()

    def guest_metrics(self):
        lock = json.loads((self.folder / ".wasm-host/conformance/lock").read_text())
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(lock["socket"])
        connection.request("GET", "/metrics")
        found = {}
        for line in connection.getresponse().read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("wasm_host_guest_"):
                found[name.partition("{")[0].removeprefix("wasm_host_guest_")] = value
        return found

    def stream(self, name):
        """The committed messages of a stream."""
        found = []
        for line in self.must("log", "consume", name, "--json").splitlines():
            message = json.loads(line)
            headers = [(name, decoded(value)) for name, value in message["headers"]]
            found.append(
                Got(message["partition"], decoded(message["key"]), decoded(message["value"]), message["timestamp"], headers)
            )
        return found

    def entries(self, store):
        """The committed entries of a store, in order."""
        lines = self.must("state", "scan", store, "--json").splitlines()
        return [(decoded(entry["key"]), decoded(entry["value"])) for entry in map(json.loads, lines)]


class Failed(Exception):
    """The host did not do what a script relies on."""


# Comparing


def play(script, host, handler, batch):
    """Gives a script to the host; returns what is not as it says."""
    log = ""
    for number, run in enumerate(script.runs, 1):
        host.append(run)
        if script.metrics:
            wrong = compare_metrics(script.metrics, host.metrics(len([message for message in run if message.results])))
            if wrong:
                return wrong
        code, error = host.run()
        log += error
        if number == len(script.runs) and script.fails is not None:
            if code == 0:
                return [f"the job must fail with: {script.fails}"]
            if script.fails not in error:
                return [f"the job's error must say {script.fails!r}, and says:\n{error}"]
        elif code != 0:
            return [f"the job failed with exit code {code}:\n{error}"]
    wrong = [f"{line}, and the log is:\n{log}" for line in compare_logs(script, host.guest_lines(log))][:1]
    return wrong + differences(script, host, handler, batch)


def compare_logs(script, lines):
    """What is not logged as often as the script says, at the levels that it says."""
    # A log may have no word for what is above an error.
    worst = "critical" if any(level == "critical" for level, _ in lines) else "error"
    expected = collections.defaultdict(list)
    for level, text in script.logs:
        expected[text].append(worst if level == "critical" else level)
    for text, levels in expected.items():
        found = [level for level, line in lines if text in line]
        missing = collections.Counter(level for level in levels if level != "*") - collections.Counter(found)
        # A host gives the messages of a call that failed to new instances again.
        often = len(found) >= len(levels) if script.fails is not None else len(found) == len(levels)
        if missing or not often:
            yield f"{text!r} must be logged at {levels}, and is at {found}"
    for text in script.silent:
        if any(text in line for _, line in lines):
            yield f"{text!r} must not be logged"


def compare_metrics(expected, found):
    shown = []
    for kind, name, *_ in expected:
        name = name.replace("-", "_")
        if kind == "counter":
            values = [found.get(f"{name}_total")]
        elif kind == "gauge":
            values = [found.get(name)]
        else:
            values = [found.get(f"{name}_count"), found.get(f"{name}_sum")]
        shown.append([kind, name, *map(str, values)])
    wanted = [[kind, name.replace("-", "_"), *values] for kind, name, *values in expected]
    return compare("metrics", [" ".join(metric) for metric in wanted], [" ".join(metric) for metric in shown])


def differences(script, host, handler, batch):
    """What the host holds at the end that is not as the script says."""
    expected = [result for message in script.messages for result in message.results]
    results = host.stream("results")
    wrong = compare("results", expected, [(message.value or b"").decode() for message in results])
    wrong += [f"results: a key or a header in {message}" for message in results if message.key is not None or message.headers]
    bounds = timestamps(script, results, alone=handler == "message" or batch == 1)
    wrong += [
        f"results: the timestamp must be from {least} to {most} in {message}"
        for message, (least, most) in zip(results, bounds)
        if not least <= message.timestamp <= most
    ][:1]
    out = host.stream("out")
    for partition in range(4):
        of = lambda messages: [shown(message) for message in messages if message[0] == partition]
        wrong += compare(f"out/{partition}", of(script.out), of(out))
    rejected = [message for message in script.messages if message.rejected is not None]
    expected = [dead(message, handler) for message in rejected]
    wrong += compare("dead", expected, [dead_letter(letter) for letter in host.stream("dead")])
    for store in ("a", "b"):
        expected = sorted((key, value) for name, key, value in script.entries if name == store)
        found = host.entries(store)
        wrong += compare(f"store {store}", [show_entry(*entry) for entry in expected], [show_entry(*entry) for entry in found])
    return wrong


def timestamps(script, results, alone):
    """Between what the timestamp of each result is: that of its message, and the latest that the message's batch can have."""
    if script.bounded:
        return bounded_timestamps(script, [message.timestamp for message in results])
    bounds = []
    for run in script.runs:
        latest = max((message.timestamp for message in run), default=0)
        for message in run:
            bounds += [(message.timestamp, message.timestamp if alone else latest)] * len(message.results)
    return bounds


def bounded_timestamps(script, found):
    """The same where the host gives messages their timestamps. What `on-end` sends has the latest of all that came before."""
    bounds = []
    for message in script.messages:
        for index, _ in enumerate(message.results):
            latest = max(found[: len(bounds)], default=0)
            bounds.append((latest, latest) if index > 0 else (1, float("inf")))
    return bounds


def shown(message):
    """A message of `out`."""
    _, key, value, timestamp, headers = message
    headers = headers if isinstance(headers, str) else show_headers(headers)
    return f"{show(key)} {show(value)} {timestamp} {headers}"


def dead(message, handler):
    reason = message.rejected if handler == "batch" else message.rejected.partition(" [")[0]
    return f"{reason}: {show(message.key)} {show(message.value)} {message.timestamp} {show_headers(message.headers)}"


def dead_letter(letter):
    headers = [(name, value) for name, value in letter.headers if not name.startswith("wasm-host.")]
    ours = dict(letter.headers)
    reason = ours["wasm-host.reason"].decode()
    if "wasm-host.detail" in ours:
        reason += f" [{show(ours['wasm-host.detail'])}]"
    return f"{reason}: {show(letter.key)} {show(letter.value)} {letter.timestamp} {show_headers(headers)}"


def show_entry(key, value):
    return f"{show(key)} {show(value)}"


def compare(what, expected, found):
    wrong = []
    for index in range(max(len(expected), len(found))):
        want = expected[index] if index < len(expected) else "(nothing)"
        got = found[index] if index < len(found) else "(nothing)"
        if want != got:
            wrong.append(f"{what} {index}:\n    expected {want}\n    found    {got}")
            break
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("component", type=pathlib.Path)
    parser.add_argument("scripts", type=pathlib.Path, nargs="*")
    parser.add_argument("--host", default="wasm-host", help="the host's binary")
    parser.add_argument("--batch", type=int, action="append", help="messages of a batch at most")
    parser.add_argument("--memory", default="128MiB", help="memory limit of an instance")
    parser.add_argument("--without", action="append", default=[], help="what the language cannot do")
    arguments = parser.parse_args()
    component = arguments.component.resolve()
    handler = Host.handler(arguments.host, component)
    scripts = arguments.scripts or sorted((HERE / "scripts").glob("*.script"))
    ran, wrong = 0, 0
    for script in map(Script, scripts):
        if script.only not in (None, handler) or script.needs & set(arguments.without):
            continue
        for batch in [script.batch] if script.batch else arguments.batch or [1, 500]:
            ran += 1
            with tempfile.TemporaryDirectory(prefix="wasm-host-conformance-") as folder:
                host = Host(arguments.host, component, pathlib.Path(folder), script, batch, arguments.memory)
                try:
                    found = play(script, host, handler, batch)
                except Failed as error:
                    found = [str(error)]
            for line in found:
                wrong += 1
                print(f"{component.name}: {script.path.name}, batches of {batch}: {line}", file=sys.stderr)
    if ran == 0:
        sys.exit("no script was run")
    print(f"{component.name}: {ran} runs, {wrong} differences")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
