"""The word count, a batch a call."""

from wit_world import exports
from wit_world.imports.types import Batch, Rejection

from columns import pack, unpack
from stores import open_store
from word_count import EndOfInput, send_counts, stored, words

# componentize-py finds the exports by these names.
__all__ = ["BatchHandler", "EndOfInput"]


class BatchHandler(exports.BatchHandler):
    def process(self, batch: Batch) -> list[Rejection]:
        seen = [word for line in unpack(batch.messages.values) for word in words(line)]
        distinct = list(dict.fromkeys(seen))
        with open_store("counts") as store:
            # However many words there are: one read, and one write.
            before = unpack(store.get_many(pack(distinct)))
            counts = dict(zip(distinct, map(stored, before), strict=True))
            messages = []
            for word in seen:
                counts[word] += 1
                messages.append((word, counts[word]))
            store.put_many(pack(counts), pack(b"%d" % count for count in counts.values()), None)
        send_counts("counts", messages)
        return []
