"""The conformance guest, a batch a call."""

from wit_world import exports
from wit_world.imports.types import Batch, Rejection

from columns import rows
from commands import Rejected, run
from lifecycle import EndOfInput, Lifecycle

# componentize-py finds the exports by these names.
__all__ = ["BatchHandler", "EndOfInput", "Lifecycle"]


class BatchHandler(exports.BatchHandler):
    def process(self, batch: Batch) -> list[Rejection]:
        rejections = []
        for index, message in enumerate(rows(batch)):
            try:
                run(message)
            except Rejected as rejected:
                rejections.append(Rejection(index, rejected.reason, rejected.detail))
        return rejections
