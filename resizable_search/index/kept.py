"""Documents that were read before, in memory: for a process that stays."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from resizable_search.index.documents import StoredDocument


class Kept:
    """Documents in memory, up to so many characters of text: those that were asked for last."""

    def __init__(self, characters: int) -> None:
        self._free = characters
        self._documents: OrderedDict[int, StoredDocument] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, rows: Iterable[int]) -> dict[int, StoredDocument]:
        """Those at these rows that are kept, by row."""
        found = {}
        with self._lock:
            for row in rows:
                if (document := self._documents.get(row)) is not None:
                    self._documents.move_to_end(row)
                    found[row] = document
        return found

    def put(self, documents: Iterable[StoredDocument]) -> None:
        """Keep these, in place of those that nobody has asked for longest."""
        with self._lock:
            for document in documents:
                if document.row not in self._documents:
                    self._documents[document.row] = document
                    self._free -= len(document.text)
            while self._free < 0:
                _, oldest = self._documents.popitem(last=False)
                self._free += len(oldest.text)
