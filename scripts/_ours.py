"""rsearch in the comparison: which plans are measured, what they read, and how the index is made."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _measure import index_of_matrix
from _reads import files_of
from _rivals import THREADS, Given, Way
from numpy.typing import NDArray

from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.errors import RsearchError
from resizable_search.evaluate.tune import tune
from resizable_search.search.index import Index, open_index
from resizable_search.store.tuned_plans import plan_key

NAME = "compared"
TARGETS = (0.99, 0.997)
OTHER_STAGES = ("checking", "adopting", "reading", "fitting", "embedding", "writing", "compiling")
"""What a build does besides deriving dimensions and tiers from the full vectors."""


class StageClock:
    """A progress that keeps the seconds of each stage of a build."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._since = "", time.perf_counter()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A stage begins, and the one before it ends."""
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = name, now

    def advance(self, amount: int) -> None:
        """Nothing to keep."""

    def note(self, message: str) -> None:
        """Nothing to keep."""


class Ours:
    """An index of what is given, built and opened for each number of threads."""

    def __init__(self, given: Given, home: Path, made_of: str, say: Callable[[str], None]) -> None:
        clock = StageClock()
        index_of_matrix(given.rows, made_of, home, NAME, clock).close()
        clock.stage("", None, "")
        derived = [seconds for stage, seconds in clock.seconds.items() if stage not in ("", *OTHER_STAGES)]
        self.derive_seconds = sum(derived) if derived else None  # None: it was there already
        self.given = given
        self.plan_of: dict[str, str] = {}
        self._say = say
        compile_kernels()
        tune_all(home, given.k)
        self._open = {threads: _open(home, threads) for threads in THREADS}
        self.index = self._open[1]

    def ways(self) -> list[Way]:
        """What is measured: exact scans, the cookbook's plan, tuned plans, fixed plans."""
        full = self.given.width
        ways = [self.way(f"rsearch exact {dim}", dim=dim) for dim in (full, 512, 256, 300)]
        ways.append(self.way("rsearch --dim 256 --rerank 10", dim=256, rerank=10))
        for target in TARGETS:
            ways.append(self.tuned(target))
        for plan in fixed_plans(full):
            ways.append(self.way(f"rsearch {plan}", plan=plan))
        return [way for way in ways if way is not None]

    def way(self, name: str, **options: Any) -> Way | None:
        """A way by the options of `Index.scan`; None, said, if this index has no such plan."""
        try:
            for index in self._open.values():  # the first query makes what is made once
                index.scan(self.given.queries[:1], k=self.given.k, **options)
        except RsearchError as error:
            self._say(f"{name} is left out: {error}")
            return None

        def search(queries: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
            return self._open[threads].scan(queries, k=self.given.k, **options).rows

        plan = str(self.index.plan(self.given.k, **options))
        self.plan_of[name] = plan
        size = sum(path.stat().st_size for path in files_of(self.index, plan))
        return Way(name, search, self.derive_seconds, size)

    def tuned(self, target: float) -> Way | None:
        """The plan that tuning found for an overlap, on the index's own rows."""
        plan = self.index.plan(self.given.k, recall=target)
        return self.way(f"rsearch tuned {target:g} ({plan})", recall=target)

    def close(self) -> None:
        """Close the indexes."""
        for index in self._open.values():
            index.close()


def fixed_plans(full: int) -> Sequence[str]:
    """Plans of bits and int8, from fast to thorough."""
    return (
        f"{full}:bits:100,{full}",
        f"{full}:bits:200,{full}:int8:30,{full}",
        f"{full}:bits:400,{full}:int8:30,{full}",
        f"256:int8:100,{full}",
        f"{full}:int8:30,{full}",
    )


def tune_all(home: Path, k: int) -> None:
    """Find and store the plans for TARGETS, on the index's own rows: the queries measured are not seen."""
    with open_index(NAME, home=home) as index:
        for target in TARGETS:
            if plan_key(k, target) not in index.manifest.plans:
                tune(index, target, k)


def _open(home: Path, threads: int) -> Index:
    index = open_index(NAME, home=home, threads=threads)
    index.warm()
    return index
