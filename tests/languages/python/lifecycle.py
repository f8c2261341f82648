"""The exports of the conformance guest other than its handler."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.end_of_input import Progress
from wit_world.imports.logging import Level, log

from commands import calls, send_result, store


class Lifecycle(exports.Lifecycle):
    def open(self) -> None:
        calls["open"] += 1
        reason = store("a").get(b"\0")
        log(Level.INFO, "lifecycle", "opened")
        if reason is not None:
            raise Err(reason.decode())

    def close(self) -> None:
        log(Level.INFO, "lifecycle", "closed")


class EndOfInput(exports.EndOfInput):
    def on_end(self) -> Progress:
        calls["on-end"] += 1
        match calls["on-end"]:
            case 1:
                send_result("end again")
                return Progress.AGAIN
            case 2:
                send_result("end done")
                return Progress.DONE
            case _:
                raise Err("a third call")
