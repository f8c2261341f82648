"""The commands of the conformance guest, and the interpreter of the messages that hold them."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache

from componentize_py_types import Err
from wit_world.imports import context, metrics, output
from wit_world.imports import store as config
from wit_world.imports.context import InputKind_Broadcast, InputKind_Other, InputKind_Partitioned
from wit_world.imports.logging import Level, log
from wit_world.imports.state import (
    Cursor,
    Entries,
    OpenError_NoSuchStore,
    PutOptions,
    Range,
    ScanOptions,
    Store,
)
from wit_world.imports.types import Header, Message, Messages, Outgoing

from columns import S64, U32, pack, pack_headers, pack_numbers, present, unpack
from stores import open_store

# What the instance remembers: the calls of its exports, and the cursors that it was told to keep. Every instance begins
# with a copy of what is here when the component is built.
calls: Counter[str] = Counter()
cursors: dict[str, Cursor] = {}

COMMANDS: dict[str, Callable[..., str]] = {}


class Rejected(Exception):
    """The message is not to be processed."""

    def __init__(self, reason: str, detail: bytes | None):
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def run(message: Message) -> None:
    """Carries out the commands of a message, and sends their results."""
    commands, _, _ = (message.value or b"").partition(b"\n")
    results = [carry_out(command, message) for command in (commands.decode() or "see").split(";")]
    send_result("; ".join(results))


def carry_out(command: str, message: Message) -> str:
    name, *words = command.split()
    if name == "see":
        return see(message)
    if name not in COMMANDS:
        raise ValueError(f"no such command: {name}")
    return COMMANDS[name](*words)


def send_result(result: str) -> None:
    output.send("results", Outgoing(key=None, value=result.encode(), headers=[], timestamp=None, partition=None))


# Words


def read_bytes(word: str) -> bytes:
    if word == ".":
        return b""
    match = re.fullmatch(r"(?:([0-9]+)x)?((?:[0-9a-f]{2})+)", word)
    if not match:
        raise ValueError(f"no bytes: {word}")
    count, digits = match.groups(default="1")
    return bytes.fromhex(digits) * int(count)


def maybe_bytes(word: str) -> bytes | None:
    return None if word == "~" else read_bytes(word)


def maybe_number(word: str) -> int | None:
    return None if word == "~" else int(word)


def maybe_packed(kind: str, word: str) -> bytes | None:
    return None if word == "~" else pack_numbers(kind, map(int, word.split(",")))


def read_text(word: str) -> str:
    return word.replace("_", " ")


def read_header(word: str) -> Header:
    name, _, value = word.partition("=")
    return Header(read_text(name), maybe_bytes(value))


def read_flag(word: str, no: str, yes: str) -> bool:
    if word not in (no, yes):
        raise ValueError(f"neither {no} nor {yes}: {word}")
    return word == yes


# Results


def show(value: bytes | None) -> str:
    if value is None:
        return "~"
    if len(value) > 64:
        return f"#{len(value)}:{sum(value)}:{value[:4].hex()}:{value[-4:].hex()}"
    return value.hex() or "."


def show_entries(entries: Entries) -> list[str]:
    keys = [show(key) for key in present(entries.keys)]
    values = [show(value) for value in present(entries.values)]
    # A scan of keys only has no values.
    return [f"{key}={value}" for key, value in zip(keys, values, strict=True)] if values else keys


def joined(name: str, results: list[str]) -> str:
    return " ".join([name, *results])


# Commands: they take words, and return their result.


def command(name: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Registers a function as the command of that name."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        COMMANDS[name] = function
        return function

    return register


def see(message: Message) -> str:
    """The one command that is about the message itself."""
    headers = ",".join(f"{header.name}={show(header.value)}" for header in message.headers)
    return (
        f"see input={message.input} partition={message.partition} offset={message.offset}"
        f" timestamp={message.timestamp} key={show(message.key)} value={show(message.value)} headers={headers or '-'}"
    )


@command("context")
def show_context() -> str:
    kinds = {InputKind_Partitioned: "partitioned", InputKind_Broadcast: "broadcast", InputKind_Other: "other"}
    inputs = ",".join(f"{input.port}:{kinds[type(input.kind)]}" for input in context.inputs())
    return (
        f"context job={context.job()} stage={context.stage()} task={context.task()} partition={context.partition()}"
        f" partitions={context.partitions()} inputs={inputs} version={len(context.component_version())}"
    )


@command("now")
def now() -> str:
    first, second = context.now_ms(), context.now_ms()
    return "now same" if first == second > 1_600_000_000_000 else "now differs"


# The instance keeps the stores that it has opened.
store = cache(open_store)


@command("open")
def try_to_open(name: str) -> str:
    try:
        with Store.open(name):
            return "open ok"
    except Err as error:
        return "open no-such-store" if isinstance(error.value, OpenError_NoSuchStore) else "open other"


@command("get")
def get(name: str, key: str) -> str:
    return f"get {show(store(name).get(read_bytes(key)))}"


@command("put")
def put(name: str, key: str, value: str) -> str:
    store(name).put(read_bytes(key), read_bytes(value), None)
    return "put"


@command("put-options")
def put_options(name: str, key: str, value: str) -> str:
    store(name).put(read_bytes(key), read_bytes(value), PutOptions(ttl_ms=None))
    return "put"


@command("delete")
def delete(name: str, key: str) -> str:
    store(name).delete(read_bytes(key))
    return "delete"


@command("increment")
def increment(name: str, key: str, by: str) -> str:
    return f"increment {store(name).increment(read_bytes(key), int(by))}"


@command("get-many")
def get_many(name: str, *keys: str) -> str:
    values = store(name).get_many(pack(map(read_bytes, keys)))
    return joined("get-many", [show(value) for value in unpack(values)])


@command("put-many")
def put_many(name: str, *entries: str) -> str:
    split = [entry.partition("=") for entry in entries]
    keys = pack(read_bytes(key) for key, _, _ in split)
    values = pack(maybe_bytes(value) for _, _, value in split)
    store(name).put_many(keys, values, None)
    return "put-many"


@command("delete-range")
def delete_range(name: str, start: str, end: str) -> str:
    store(name).delete_range(Range(maybe_bytes(start), maybe_bytes(end)))
    return "delete-range"


def open_cursor(name: str, start: str, end: str, order: str, what: str) -> Cursor:
    options = ScanOptions(reverse=read_flag(order, "up", "down"), keys_only=read_flag(what, "entries", "keys"))
    return store(name).scan(Range(maybe_bytes(start), maybe_bytes(end)), options)


@command("scan")
def scan(name: str, start: str, end: str, order: str, what: str, max_entries: str, max_bytes: str) -> str:
    shown = []
    with open_cursor(name, start, end, order, what) as cursor:
        while entries := show_entries(cursor.next(int(max_entries), int(max_bytes))):
            shown += entries
    return joined("scan", shown)


@command("cursor")
def keep_cursor(name: str, *scan: str) -> str:
    if name in cursors:
        drop(name)
    cursors[name] = open_cursor(*scan)
    return "cursor"


@command("next")
def next_entries(name: str, max_entries: str, max_bytes: str) -> str:
    return joined("next", show_entries(cursors[name].next(int(max_entries), int(max_bytes))))


@command("drop")
def drop(name: str) -> str:
    with cursors.pop(name):
        return "drop"


@command("send")
def send(port: str, key: str, value: str, timestamp: str, partition: str, *headers: str) -> str:
    message = Outgoing(
        key=maybe_bytes(key),
        value=maybe_bytes(value),
        headers=[read_header(header) for header in headers],
        timestamp=maybe_number(timestamp),
        partition=maybe_number(partition),
    )
    output.send(port, message)
    return "send"


@command("send-many")
def send_many(port: str, timestamps: str, partitions: str, *messages: str) -> str:
    keys, values, headers = [], [], []
    for message in messages:
        entry, *words = message.split(",")
        key, _, value = entry.partition("=")
        keys.append(maybe_bytes(key))
        values.append(maybe_bytes(value))
        headers.append([read_header(word) for word in words])
    columns = Messages(
        keys=None if all(key is None for key in keys) else pack(keys),
        values=pack(values),
        timestamps=maybe_packed(S64, timestamps) or b"",
        headers=pack_headers(headers),
    )
    output.send_many(port, columns, maybe_packed(U32, partitions))
    return "send-many"


@command("err")
def err(reason: str) -> str:
    raise Err(read_text(reason))


@command("reject")
def reject(reason: str, detail: str) -> str:
    raise Rejected(read_text(reason), maybe_bytes(detail))


@command("trap")
def trap(text: str) -> str:
    raise RuntimeError(read_text(text))


@command("log")
def log_line(level: str, about: str, text: str) -> str:
    log(Level[level.upper()], read_text(about), read_text(text))
    return "log"


@command("print")
def print_line(text: str) -> str:
    print(read_text(text))
    print(read_text(text), file=sys.stderr)
    return "print"


@command("counter")
def counter(name: str, by: str) -> str:
    metrics.counter_add(name, int(by))
    return "counter"


@command("gauge")
def gauge(name: str, value: str) -> str:
    metrics.gauge_set(name, float(value))
    return "gauge"


@command("histogram")
def histogram(name: str, value: str) -> str:
    metrics.histogram_record(name, float(value))
    return "histogram"


@command("config")
def config_value(name: str) -> str:
    value = config.get(name)
    return f"config {'~' if value is None else value}"


@command("config-all")
def config_all() -> str:
    return f"config-all {','.join(f'{name}={value}' for name, value in sorted(config.get_all()))}"


@command("checkpoint")
def checkpoint() -> str:
    context.request_checkpoint()
    return "checkpoint"


@command("stop")
def stop(reason: str) -> str:
    context.request_stop(read_text(reason))
    return "stop"


@command("opened")
def opened() -> str:
    return f"opened {calls['open']}"
