"""Read a corpus that waits for a network in a thread of its own, so that nothing else waits with it.

While a read hangs, answers of a service still have to be journalled, Ctrl-C to be heard, and the user to
be told what is waited for. The thread is a daemon: one that hangs in a socket keeps no process alive.
"""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import cast

from resizable_search.corpora.base import Block
from resizable_search.progress import Progress

AHEAD_BLOCKS = 2
"""Blocks that are read before anybody asks for them."""

MOMENT = 0.01
"""Seconds that a block is waited for before whoever reads is given something else to do."""

FIRST_WORD = 5.0
"""Seconds without a block after which the user is told so."""

NEXT_WORD = 30.0
"""Seconds after which the user is told again."""

CLOSE_SECONDS = 1.0
"""How long a stream that is closed in the middle of a read is waited for."""


def read_ahead(
    blocks: Iterator[Block], progress: Progress, label: str, patience: str
) -> Generator[Block | None]:
    """The blocks in order; None whenever none has come for a moment. Closing it closes `blocks`.

    `label` is what is read, `patience` tells how long a read that fails goes on being tried. Raises what
    reading raises.
    """
    reader = _Reader(blocks)
    waits = _Waits(progress, label, patience)
    try:
        while True:
            try:
                item = reader.items.get(timeout=MOMENT)
            except queue.Empty:
                waits.nothing()
                yield None
                continue
            waits.something()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
            waits.something()  # what was done with the block is no waiting for the next
    finally:
        reader.close()


class _Reader:
    """The thread that reads; its `items` are blocks, then None at their end or what went wrong."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.items: queue.Queue[Block | BaseException | None] = queue.Queue(AHEAD_BLOCKS)
        self._blocks = cast("Generator[Block, None, None]", blocks)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="rsearch-reading", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with closing(self._blocks):
                for block in self._blocks:
                    if not self._put(block):
                        return
            self._put(None)
        except BaseException as error:  # raised again where the blocks are taken
            self._put(error)

    def _put(self, item: Block | BaseException | None) -> bool:
        """Hand an item over, when there is room; False where nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self.items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def close(self) -> None:
        """Have the thread end; one that hangs is left alone."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)


class _Waits:
    """Tells the user when nothing comes, and when something does again."""

    def __init__(self, progress: Progress, label: str, patience: str) -> None:
        self._progress, self._label, self._patience = progress, label, patience
        self._since = time.monotonic()
        self._next = FIRST_WORD
        self._told = False

    def nothing(self) -> None:
        waited = time.monotonic() - self._since
        if waited >= self._next:
            self._progress.note(f"nothing of {self._label} has come for {waited:.0f} s; {self._patience}")
            self._next = waited + NEXT_WORD
            self._told = True

    def something(self) -> None:
        if self._told:
            waited = time.monotonic() - self._since
            self._progress.note(f"{self._label} comes again, after {waited:.0f} s")
        self._since, self._next, self._told = time.monotonic(), FIRST_WORD, False
