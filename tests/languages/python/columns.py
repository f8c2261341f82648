"""Byte strings in the flat lists in which they cross the boundary, and back. The numbers of these lists are packed: end to end,
little-endian, which is how `array` and `memoryview` have them in WebAssembly."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from wit_world.imports.types import Batch, BytesColumn, Header, HeadersColumn, Message

# The types of packed numbers, as `array` names them.
U32 = "I"
U64 = "Q"
S64 = "q"


def pack_numbers(kind: str, numbers: Iterable[int]) -> bytes:
    """Packed numbers."""
    return array(kind, numbers).tobytes()


def numbers(kind: str, packed: bytes) -> list[int]:
    """What is packed in these bytes."""
    return memoryview(packed).cast(kind).tolist()


def pack(entries: Iterable[bytes | None]) -> BytesColumn:
    """A column of these entries; `None` is absent."""
    entries = list(entries)
    contents = [entry or b"" for entry in entries]
    return BytesColumn(
        ends=pack_numbers(U32, accumulate(map(len, contents))),
        data=b"".join(contents),
        absent=pack_numbers(U32, (index for index, entry in enumerate(entries) if entry is None)),
    )


def present(column: BytesColumn) -> list[bytes]:
    """The entries of a column of which none is absent."""
    return [column.data[start:end] for start, end in pairwise([0, *numbers(U32, column.ends)])]


def unpack(column: BytesColumn) -> list[bytes | None]:
    """The entries of a column; `None` is absent."""
    entries: list[bytes | None] = [*present(column)]
    for index in numbers(U32, column.absent):
        entries[index] = None
    return entries


def pack_headers(messages: Sequence[Sequence[Header]]) -> HeadersColumn | None:
    """The headers of many messages; `None` if there are none at all."""
    headers = [header for message in messages for header in message]
    if not headers:
        return None
    return HeadersColumn(
        ends=pack_numbers(U32, accumulate(map(len, messages))),
        names=pack(header.name.encode() for header in headers),
        values=pack(header.value for header in headers),
    )


def unpack_headers(column: HeadersColumn) -> list[list[Header]]:
    """The headers of each message."""
    entries = zip(present(column.names), unpack(column.values), strict=True)
    headers = [Header(name.decode(), value) for name, value in entries]
    return [headers[start:end] for start, end in pairwise([0, *numbers(U32, column.ends)])]


def rows(batch: Batch) -> list[Message]:
    """The messages of a batch, one by one, as `message-handler` would get them."""
    columns = batch.messages
    offsets = numbers(U64, batch.offsets)
    timestamps = numbers(S64, columns.timestamps)
    keys = unpack(columns.keys) if columns.keys else [None] * len(offsets)
    headers = unpack_headers(columns.headers) if columns.headers else [[]] * len(offsets)
    contents = zip(offsets, timestamps, keys, unpack(columns.values), headers, strict=True)
    return [Message(batch.input, batch.partition, *content) for content in contents]
