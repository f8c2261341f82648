"""The word count, one message a call."""

from wit_world import exports
from wit_world.imports import output
from wit_world.imports.types import Message, Outgoing

from stores import open_store
from word_count import EndOfInput, stored, value, words

# componentize-py finds the exports by these names.
__all__ = ["EndOfInput", "MessageHandler"]


class MessageHandler(exports.MessageHandler):
    def process(self, message: Message) -> None:
        with open_store("counts") as store:
            for word in words(message.value):
                count = stored(store.get(word)) + 1
                store.put(word, b"%d" % count, None)
                output.send("counts", Outgoing(word, value(word, count), headers=[], timestamp=None, partition=None))
