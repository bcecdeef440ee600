"""rsearch in the comparison: which plans are measured, what they read, and how the index is made.

What the comparison must show: ratios of figures of one run, with verdicts.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _measure import files_of, index_of_matrix, verdict
from _rivals import THREADS, Given, Way
from numpy.typing import NDArray

from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.errors import RsearchError
from resizable_search.evaluate.tune import tune
from resizable_search.search.index import Index, open_index
from resizable_search.search.results import SearchOptions
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

        plan = str(self.index.plan(SearchOptions(self.given.k, **options)))
        self.plan_of[name] = plan
        size = sum(path.stat().st_size for path in files_of(self.index, plan))
        return Way(name, search, self.derive_seconds, size)

    def tuned(self, target: float) -> Way | None:
        """The plan that tuning found for an overlap, on the index's own rows."""
        plan = self.index.plan(SearchOptions(self.given.k, recall=target))
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


BATCH_RIVAL = "numpy float32"
REFINED = "faiss PQ192x4fs + refine, k_factor "


@dataclass(slots=True)
class Figures:
    """What was measured of a way: seconds of single queries and seconds a query in a batch, by threads."""

    way: Way
    single: dict[int, list[float]] = field(default_factory=dict)
    batch: dict[int, float] = field(default_factory=dict)
    overlap: float = 0.0

    def median(self, threads: int | None = None) -> float:
        """The median of single queries in seconds, at a number of threads or at the best."""
        if threads is not None:
            return statistics.median(self.single[threads])
        return min(statistics.median(spent) for spent in self.single.values())

    def batched(self) -> float:
        """Seconds a query in a batch, at the best number of threads."""
        return min(self.batch.values())


class Missing(Exception):
    """A way that a target needs was not measured."""


class Measured:
    """All figures of a run, found by the beginning of a way's name."""

    def __init__(self, figures: Mapping[str, Figures], full: int, rows: int, derive: float | None) -> None:
        self.figures, self.full, self.rows, self._derive = figures, full, rows, derive

    def get(self, beginning: str) -> Figures:
        """The figures of the first way whose name begins so. Raises Missing."""
        for name, found in self.figures.items():
            if name.startswith(beginning):
                return found
        raise Missing(f"{beginning} was not measured")

    def equally_good(self, beginning: str, overlap: float) -> Figures:
        """Of the ways whose names begin so, the fastest that finds as much; else the one that finds most."""
        some = [found for name, found in self.figures.items() if name.startswith(beginning)]
        if not some:
            raise Missing(f"{beginning} was not measured")
        reaching = [found for found in some if found.overlap >= overlap]
        return reaching[0] if reaching else max(some, key=lambda found: found.overlap)

    def derive_seconds(self) -> float:
        """Seconds to derive dimensions and tiers of 100,000 rows."""
        if self._derive is None:
            raise Missing("the index was there already")
        return self._derive * 100_000 / self.rows


Target = tuple[str, float, float, Callable[[Measured], tuple[float, str]]]
"""What it says, what it must be at most, what it aims at, and the figure with a remark."""


def _exact_numpy(run: Measured) -> tuple[float, str]:
    ours, rival = run.get(f"rsearch exact {run.full}"), run.get(f"numpy float32 {run.full}")
    return ours.median(2) / rival.median(2), _both(ours.median(2), rival.median(2))


def _exact_cookbook(run: Measured) -> tuple[float, str]:
    ours, rival = run.get(f"rsearch exact {run.full}").median(), run.get(f"cookbook {run.full}").median()
    return ours / rival, _both(ours, rival)


def _rerank_cookbook(run: Measured) -> tuple[float, str]:
    ours, rival = run.get("rsearch --dim 256 --rerank 10"), run.get("cookbook 256, rerank")
    remark = f"{_both(ours.median(), rival.median())}; overlap {ours.overlap:.4f} and {rival.overlap:.4f}"
    # Finding less than the cookbook does is no way to be faster.
    ratio = ours.median() / rival.median() if ours.overlap >= rival.overlap else float("inf")
    return ratio, remark


def _tuned_cookbook(run: Measured) -> tuple[float, str]:
    ours, rival = run.get("rsearch tuned 0.99 "), run.get(f"cookbook {run.full}")
    remark = f"{_both(ours.median(), rival.median())}; overlap {ours.overlap:.4f}"
    return _if_reached(ours, 0.99, ours.median() / rival.median()), remark


def _tuned_faiss(run: Measured) -> tuple[float, str]:
    ours = run.get("rsearch tuned 0.997")
    rival = run.equally_good(REFINED, ours.overlap)
    factor = rival.way.name.removeprefix(REFINED)
    remark = (
        f"{_both(ours.median(), rival.median())}; overlap {ours.overlap:.4f} "
        f"and {rival.overlap:.4f} at k_factor {factor}"
    )
    return _if_reached(ours, 0.997, ours.median() / rival.median()), remark


def _if_reached(ours: Figures, target: float, ratio: float) -> float:
    """The ratio, if these queries too find as much as the plan was tuned for; else none is good enough."""
    return ratio if ours.overlap >= target else float("inf")


def _batch_numpy(run: Measured) -> tuple[float, str]:
    found = run.get("rsearch tuned 0.99 ")
    ours, rival = found.batched(), run.get(f"{BATCH_RIVAL} {run.full}").batched()
    return _if_reached(found, 0.99, ours / rival), _both(ours, rival)


def _derive(run: Measured) -> tuple[float, str]:
    return run.derive_seconds(), f"of {run.rows:,} rows, in proportion"


def _unstored(run: Measured) -> tuple[float, str]:
    ours, stored = run.get("rsearch exact 300").median(), run.get("rsearch exact 512").median()
    return ours / stored, _both(ours, stored)


def _both(ours: float, rival: float) -> str:
    return f"{ours * 1e3:.2f} ms against {rival * 1e3:.2f} ms"


REQUIREMENTS: list[Target] = [
    ("exact, full width, 2 threads / numpy float32 + argpartition", 0.5, 0.3, _exact_numpy),
    ("exact, full width / the cookbook's scan", 1 / 4, 1 / 6, _exact_cookbook),
    ("--dim 256 --rerank 10 / the cookbook's reranking scan", 1 / 6, 1 / 10, _rerank_cookbook),
    ("tuned for 0.99 / the cookbook's full scan", 1 / 25, 1 / 60, _tuned_cookbook),
    ("tuned for 0.997 / faiss PQ192x4fs + refine finding as much", 1.0, 0.5, _tuned_faiss),
    ("a batch, tuned for 0.99 / numpy GEMM + argpartition, per query", 1 / 3, 1 / 8, _batch_numpy),
    ("seconds to derive dimensions and tiers of 100,000 rows", 10, 3, _derive),
    ("an unstored dimension (300) / the next larger stored one (512)", 1.3, 1.0, _unstored),
]


def judge(run: Measured) -> tuple[list[tuple[str, ...]], bool]:
    """A line for each target, (what, figure, must, aim, remark), and whether every must is kept."""
    lines: list[tuple[str, ...]] = []
    held = True
    for what, must, aim, figure_of in REQUIREMENTS:
        try:
            figure, remark = figure_of(run)
        except Missing as missing:
            lines.append((what, "–", "not measured", "", str(missing)))
            held = False
            continue
        said = verdict(figure, at_most=must)
        held = held and not said.startswith("MISSED")
        lines.append((what, f"{figure:.3f}", said, verdict(figure, at_most=aim), remark))
    return lines, held
