"""What was measured on an index: the fastest plan for a wanted overlap, and overlap by dimension.

Tuned plans are in the manifest's `plans` under `k:target`, each with its evidence. Writing one keeps the
generation, so that open readers and unfinished builds go on. The curve of overlap is a file beside the index.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resizable_search.engine.plan import MODES, Plan, check_recall
from resizable_search.errors import IndexFormatError, RsearchError
from resizable_search.specs import from_json
from resizable_search.store.layout import NAMES, hold_lock, state_of
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.system import replace_file
from resizable_search.text import quoted

_KEY = re.compile(r"([1-9][0-9]{0,17}):([0-9.e-]{1,20})", re.ASCII)  # of a plan: k and target


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that was measured: its overlap@k, and milliseconds a query."""

    plan: str
    overlap: float
    ms: float


@dataclass(frozen=True, slots=True)
class TunedPlan:
    """The fastest plan whose overlap@k is proven to reach `recall`, and the evidence."""

    plan: str
    k: int
    recall: float
    overlap: float  # the mean over `queries` queries
    overlap_ci: tuple[float, float]  # its 95 % interval, whose lower end reaches `recall`
    ms: float  # the median of single queries, files in memory, on `threads` threads of `engine`
    queries: int  # that did not choose it
    chosen_on: int  # other queries, which chose it
    source: str  # of the queries
    seed: int | None  # by which they were drawn, if they are the index's own rows
    engine: str
    threads: int
    measured: str  # when, in UTC
    version: str  # of resizable_search
    candidates: tuple[Candidate, ...]  # all timed plans, fastest first

    @property
    def key(self) -> str:
        """Its key in the manifest."""
        return plan_key(self.k, self.recall)


@dataclass(frozen=True, slots=True)
class DefaultMode:
    """How an index searches if nobody says otherwise, and the evidence."""

    mode: str
    weight: float  # of words
    metric: str
    dense: float  # the metric by meaning alone, over `queries` queries
    value: float  # the metric by this mode, over the same queries
    gain_ci: tuple[float, float]  # the 95 % interval of their difference
    queries: int  # that did not choose it
    chosen_on: int  # other queries, which chose it
    source: str
    measured: str
    version: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The mean overlap of a dimension and rerank over so many queries, its 95 % interval, and median ms."""

    dim: int
    rerank: int
    overlap: float
    overlap_ci: tuple[float, float]
    ms: float
    queries: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Overlap@k by dimension, as `bench` measured it at `measured` (UTC) with queries of `source`."""

    k: int
    source: str
    measured: str
    points: tuple[CurvePoint, ...]


def plan_key(k: int, recall: float) -> str:
    """The key of the plan for k hits and that overlap: `10:0.99`."""
    return f"{k}:{recall:.12g}"


class StoredPlans:
    """The tuned plans of an open index, as its manifest has them; each is parsed once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._plans = manifest.plans
        self._parsed: dict[str, TunedPlan] = {}
        self.times_read = 0
        self.mode = _parse_mode(manifest)  # of a search that names none; None: dense

    def get(self, k: int, recall: float) -> TunedPlan | None:
        """The plan for k hits and that overlap, on disk now; None if none. Raises IndexFormatError."""
        key = plan_key(k, recall)
        if key not in self._plans:
            self.read_again()
        return self._parse(key) if key in self._plans else None

    def all(self) -> list[TunedPlan]:
        """Every tuned plan, by k and target. Raises IndexFormatError for a damaged one."""
        return sorted(map(self._parse, self._plans), key=lambda plan: (plan.k, plan.recall))

    def read_again(self) -> None:
        """Read plans that were tuned meanwhile, if the index still has this generation."""
        now = read_manifest(self._folder)
        if (now.generation, now.parts) == (self._manifest.generation, self._manifest.parts):
            self._plans, self._parsed, self.mode = now.plans, {}, _parse_mode(now)
            self.times_read += 1

    def _parse(self, key: str) -> TunedPlan:
        if key not in self._parsed:
            try:
                tuned: TunedPlan = from_json(TunedPlan, self._plans[key])
                if tuned.key != key:
                    raise ValueError(f"it is for {tuned.key}")
                Plan.parse(tuned.plan).check(tuned.k, self._manifest.full_dim)
                check_recall(tuned.recall)
            except (RsearchError, ValueError) as error:
                name = self._folder.name
                raise IndexFormatError(
                    f"the plan of {name} for {quoted(key)} is damaged ({error}): measure it again with "
                    f"`{tune_command(name, key)}`"
                ) from None
            self._parsed[key] = tuned
        return self._parsed[key]


def tune_command(name: str, key: str) -> str:
    """The command that measures the plan of that key."""
    match = _KEY.fullmatch(key)
    k, recall = match.groups() if match else ("10", "0.99")
    return f"tune index={shlex.quote(name)} recall={recall}{'' if k == '10' else f' k={k}'}"


def store_plan(folder: Path, generation: int, tuned: TunedPlan) -> Manifest:
    """Write a plan into the manifest under its lock. Raises RsearchError, also for another `generation`."""
    with _measured_manifest(folder, generation) as manifest:
        return replace(manifest, plans={**manifest.plans, tuned.key: asdict(tuned)}).write(folder.resolve())


def store_mode(folder: Path, generation: int, mode: Mapping[str, Any]) -> Manifest:
    """Write a default mode (a `DefaultMode` as JSON; empty: none) as `store_plan` writes a plan."""
    with _measured_manifest(folder, generation) as manifest:
        return replace(manifest, mode=mode).write(folder.resolve())


@contextmanager
def _measured_manifest(folder: Path, generation: int) -> Iterator[Manifest]:
    """The manifest that was measured, under the lock of its build."""
    folder = folder.resolve()
    with hold_lock(folder):
        manifest = read_manifest(folder)
        if manifest.generation != generation:
            raise RsearchError(f"{folder.name} has changed while it was measured: tune it again")
        yield manifest


def _parse_mode(manifest: Manifest) -> DefaultMode | None:
    try:
        mode: DefaultMode = from_json(DefaultMode, dict(manifest.mode))
    except ValueError:
        return None
    return mode if mode.mode in MODES and 0 < mode.weight <= 1 else None


def store_curve(folder: Path, manifest: Manifest, curve: Curve) -> None:
    """Keep a curve beside an index, with points known for the same k and source. Raises OSError."""
    known = read_curve(folder, manifest)
    points = {(point.dim, point.rerank): point for point in curve.points}
    if known is not None and (known.k, known.source) == (curve.k, curve.source):
        points = {(point.dim, point.rerank): point for point in known.points} | points
    curve = replace(curve, points=tuple(points[key] for key in sorted(points)))
    path = state_of(folder, NAMES.curve)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"of": _content_of(manifest), **asdict(curve)}
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())


def read_curve(folder: Path, manifest: Manifest) -> Curve | None:
    """The curve of an index; None if none was measured since the index last changed."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        content = json.loads(state_of(folder, NAMES.curve).read_bytes())
        if content.pop("of") == _content_of(manifest):
            curve: Curve = from_json(Curve, content)
            return curve
    return None


def _content_of(manifest: Manifest) -> list[Any]:
    """What differs if answers may; a tuned plan leaves it as it is."""
    return [manifest.generation, manifest.parts[-1].files[NAMES.documents].sha256, *manifest.dims]
