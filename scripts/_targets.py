"""What the comparison must show: ratios of figures of one run, with verdicts."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from _measure import verdict
from _rivals import Way

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


TARGETS: list[Target] = [
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
    for what, must, aim, figure_of in TARGETS:
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
