"""The counter in every shape of wit/shapes.wit, on the bindings of componentize-py."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from struct import Struct

from wit_world import exports
from wit_world.imports import store
from wit_world.imports.types import (
    Batch,
    BytesColumn,
    Message,
    Messages,
    Outgoing,
    PackedBatch,
    PackedColumn,
    PackedMessages,
)

PORT = "out"

STATE = Struct("<3Q")
"""The state of a key: how many messages, the sum of their first bytes, and the greatest of them."""

NO_STATE = bytes(STATE.size)


def entries(ends: Sequence[int], data: bytes) -> list[bytes]:
    """The entries of a column. What is absent is empty, and an empty entry means the same to the counter."""
    return [data[start:end] for start, end in pairwise([0, *ends])]


def first_bytes(ends: Sequence[int], data: bytes) -> list[int]:
    """The first byte of each entry of a column, 0 where it is empty."""
    return [data[start] if start < end else 0 for start, end in pairwise([0, *ends])]


def touch(
    key_ends: Sequence[int],
    value_ends: Sequence[int],
    values: bytes,
    offsets: Sequence[int],
    timestamps: Sequence[int],
) -> int:
    """Reads the messages of some columns."""
    total = key_start = value_start = 0
    for key_end, value_end, offset, timestamp in zip(key_ends, value_ends, offsets, timestamps):
        total += key_end - key_start + offset + timestamp
        if value_start < value_end:
            total += values[value_start]
        key_start, value_start = key_end, value_end
    return total


def touch_row(message: Message) -> int:
    """Reads a message."""
    return len(message.key) + first_byte(message) + message.offset + message.timestamp


def first_byte(message: Message) -> int:
    """The first byte of a message's value."""
    return message.value[0] if message.value else 0


def count(entry: bytes | None, first: int) -> bytes:
    """The state of a key after one more message, given its state before."""
    messages, total, greatest = STATE.unpack(entry or NO_STATE)
    return STATE.pack(messages + 1, total + first, first if first > greatest else greatest)


def count_single(keys: Iterable[bytes], firsts: Iterable[int]) -> None:
    """Counts messages one by one."""
    for key, first in zip(keys, firsts):
        state = count(store.get(key), first)
        store.put(key, state)
        store.send(PORT, Outgoing(key, key + state, [], None, None))


def count_many(keys: Iterable[bytes], firsts: Iterable[int], stored: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Counts the messages of a call, given what is stored under their keys: the state that each has led to, and what it
    sends. A key that repeats goes on from where it was."""
    latest: dict[bytes, bytes] = {}
    states = []
    sent = []
    for key, first, entry in zip(keys, firsts, stored):
        latest[key] = state = count(latest.get(key, entry), first)
        states.append(state)
        sent.append(key + state)
    return states, sent


def column(entries: list[bytes]) -> BytesColumn:
    """A column of some entries."""
    return BytesColumn(list(accumulate(map(len, entries))), b"".join(entries), [])


def write(keys: BytesColumn, states: list[bytes], sent: list[bytes]) -> None:
    """Writes and sends what was counted, under the keys of the messages."""
    store.put_many(keys, column(states))
    store.send_many(PORT, Messages(keys, column(sent), [], None), None)


class One(exports.One):
    def touch(self, message: Message) -> int:
        return touch_row(message)

    def count_single(self, message: Message) -> None:
        count_single([message.key], [first_byte(message)])


class Rows(exports.Rows):
    def touch(self, messages: list[Message]) -> int:
        return sum(map(touch_row, messages))

    def count_single(self, messages: list[Message]) -> None:
        count_single([message.key for message in messages], map(first_byte, messages))

    def count_many(self, messages: list[Message]) -> None:
        keys = [message.key for message in messages]
        all_keys = column(keys)
        stored = store.get_many(all_keys)
        write(all_keys, *count_many(keys, map(first_byte, messages), entries(stored.ends, stored.data)))


class Columns(exports.Columns):
    def touch(self, batch: Batch) -> int:
        messages = batch.messages
        return touch(messages.keys.ends, messages.values.ends, messages.values.data, batch.offsets, messages.timestamps)

    def count_single(self, batch: Batch) -> None:
        keys, values = batch.messages.keys, batch.messages.values
        count_single(entries(keys.ends, keys.data), first_bytes(values.ends, values.data))

    def count_many(self, batch: Batch) -> None:
        keys, values = batch.messages.keys, batch.messages.values
        stored = store.get_many(keys)
        counted = count_many(
            entries(keys.ends, keys.data),
            first_bytes(values.ends, values.data),
            entries(stored.ends, stored.data),
        )
        write(keys, *counted)


def numbers(packed: bytes, code: str) -> list[int]:
    """Numbers from bytes: `I` for u32, `Q` for u64, `q` for s64. WebAssembly is little-endian."""
    return memoryview(packed).cast(code).tolist()


def unpack(column: PackedColumn) -> tuple[list[int], bytes]:
    """The ends and the data of a packed column."""
    return numbers(column.ends, "I"), column.data


def packed_column(entries: list[bytes]) -> PackedColumn:
    """A packed column of some entries."""
    return PackedColumn(array("I", accumulate(map(len, entries))).tobytes(), b"".join(entries), b"")


class Packed(exports.Packed):
    def touch(self, batch: PackedBatch) -> int:
        messages = batch.messages
        return touch(
            numbers(messages.keys.ends, "I"),
            *unpack(messages.values),
            numbers(batch.offsets, "Q"),
            numbers(messages.timestamps, "q"),
        )

    def count_single(self, batch: PackedBatch) -> None:
        messages = batch.messages
        count_single(entries(*unpack(messages.keys)), first_bytes(*unpack(messages.values)))

    def count_many(self, batch: PackedBatch) -> None:
        keys = batch.messages.keys
        stored = store.get_many_packed(keys)
        states, sent = count_many(
            entries(*unpack(keys)),
            first_bytes(*unpack(batch.messages.values)),
            entries(*unpack(stored)),
        )
        store.put_many_packed(keys, packed_column(states))
        store.send_many_packed(PORT, PackedMessages(keys, packed_column(sent), b"", None), None)
