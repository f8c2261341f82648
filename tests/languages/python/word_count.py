"""The word count but for its handlers: what a word is, what is stored and sent, and the end."""

import json
import re

from wit_world import exports
from wit_world.exports.end_of_input import Progress
from wit_world.imports import output
from wit_world.imports.state import Range, ScanOptions, Store
from wit_world.imports.types import Messages

from columns import pack, present
from stores import open_store

# How many words are sent at the end.
TOP = 20


def words(line: bytes | None) -> list[bytes]:
    """The words of a line, in lower case. Apostrophes at the ends of a word are quotation marks."""
    runs = re.findall(rb"[a-z']+", (line or b"").lower())
    return [word for run in runs if (word := run.strip(b"'"))]


def stored(count: bytes | None) -> int:
    """A count from what the store has for its word."""
    return int(count or 0)


def value(word: bytes, count: int) -> bytes:
    """The value of the message about a word."""
    return json.dumps({"word": word.decode(), "count": count}, separators=(",", ":")).encode()


def send_counts(port: str, counts: list[tuple[bytes, int]]) -> None:
    """Sends a message for each word and count."""
    messages = Messages(
        keys=pack(word for word, _ in counts),
        values=pack(value(word, count) for word, count in counts),
        timestamps=b"",
        headers=None,
    )
    output.send_many(port, messages, None)


def all_counts(store: Store) -> list[tuple[bytes, int]]:
    """Each word of the store and its count, by the alphabet."""
    counts: list[tuple[bytes, int]] = []
    with store.scan(Range(None, None), ScanOptions(reverse=False, keys_only=False)) as cursor:
        while (entries := cursor.next(1_000, 1 << 20)).keys.ends:
            counts += zip(present(entries.keys), map(int, present(entries.values)), strict=True)
    return counts


class EndOfInput(exports.EndOfInput):
    def on_end(self) -> Progress:
        with open_store("counts") as store:
            counts = all_counts(store)
        # The sort is stable: words that are equally frequent stay by the alphabet.
        counts.sort(key=lambda entry: -entry[1])
        send_counts("top", counts[:TOP])
        return Progress.DONE
