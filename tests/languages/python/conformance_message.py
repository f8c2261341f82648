"""The conformance guest, one message a call."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import Message

from commands import Rejected, run
from lifecycle import EndOfInput, Lifecycle

# componentize-py finds the exports by these names.
__all__ = ["EndOfInput", "Lifecycle", "MessageHandler"]


class MessageHandler(exports.MessageHandler):
    def process(self, message: Message) -> None:
        try:
            run(message)
        except Rejected as rejected:
            raise Err(rejected.reason) from rejected
