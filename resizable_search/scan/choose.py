"""Which engine runs a search: compiled kernels where they earn their loading, numpy elsewhere."""

import threading
from typing import Literal, get_args

from resizable_search.errors import UsageError
from resizable_search.scan.base import Engine
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.scan.warm import ColdKernelsError, load_engine
from resizable_search.threads import thread_count

EngineName = Literal["auto", "numpy", "numba"]
"""`auto`: numba once the work is worth loading its kernels, if they are compiled; else numpy."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)

WORTH_LOADING = 1_500_000_000
"""Numbers that numpy multiplies in the time that loading numba and its kernels takes, about 0.5 s.

So a process never takes more than twice the time of whichever engine would have been the better.
"""

COLD = (
    "the compiled kernels are not ready here ({}): numpy searches, more slowly; `rsearch warm` compiles them"
)


class Chooser:
    """Gives the engine for each search; safe from several threads at once. Raises UsageError.

    `threads` None: $RSEARCH_THREADS, else the cores that this process may use.
    """

    def __init__(self, engine: str = "auto", threads: int | None = None) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        self.threads = thread_count(threads)
        self.remark = ""
        """Why numba does not run although it was wanted, and what to do; '' if nothing is amiss."""
        self._engine: Engine = NumpyEngine()
        self._settled = engine == "numpy"
        self._insists = engine == "numba"
        self._work = 0
        self._lock = threading.Lock()

    def pick(self, work: int) -> Engine:
        """The engine for a search; `work` is how many numbers a float32 scan would multiply for it."""
        if self._settled:
            return self._engine
        with self._lock:
            self._work += work
            worth = self._work > WORTH_LOADING
        if worth or self._insists:
            self.warm()
        return self._engine

    def warm(self) -> str:
        """Load the compiled kernels now, so that no query has to; says which engine runs from here on."""
        with self._lock:
            if not self._settled:
                try:
                    self._engine = load_engine(self.threads)
                except ColdKernelsError as error:
                    self.remark = COLD.format(error)
                    if self._insists:
                        raise UsageError(f"{error}: compile them with `rsearch warm`, or use numpy") from None
                self._settled = True
        return self._engine.name
