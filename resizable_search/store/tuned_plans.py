"""Tuned plans, as an index's manifest keeps them: what was measured fastest for a wanted overlap.

They stand in the manifest's `plans` under `k:target`, each with its evidence. Keeping one changes
nothing else: the generation stays, so that an open reader and an unfinished extension go on.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resizable_search.engine.plan import Plan
from resizable_search.errors import IndexFormatError, RsearchError, UsageError
from resizable_search.specs import from_json
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.writer import sync_folder
from resizable_search.system import CHECK, build_lock, storage_errors
from resizable_search.text import quoted

_KEY = re.compile(r"([1-9][0-9]{0,17}):([0-9.e-]{1,20})", re.ASCII)
"""A plan's place in the manifest: k and target."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan that was tried: the overlap@k that it was seen to have, and milliseconds a query."""

    plan: str
    overlap: float
    ms: float


@dataclass(frozen=True, slots=True)
class TunedPlan:
    """The fastest plan whose overlap@k is proven to reach `recall`, and the evidence.

    `overlap` is the mean over `queries` queries that had no part in choosing it, `overlap_ci` its 95 %
    interval (`confidence`), the lower end of which reaches `recall`; `chosen_on` others chose it. The
    queries come from `source`, by `seed` if they are the index's own rows. `ms` is a single query's
    median, files in memory, on `threads` threads of `engine`. `candidates` are all plans that were
    timed, fastest first. `measured` is the time in UTC, `version` that of resizable_search.
    """

    plan: str
    k: int
    recall: float
    overlap: float
    overlap_ci: tuple[float, float]
    ms: float
    queries: int
    chosen_on: int
    source: str
    seed: int | None
    engine: str
    threads: int
    measured: str
    version: str
    candidates: tuple[Candidate, ...]

    @property
    def key(self) -> str:
        """Its place in the manifest."""
        return plan_key(self.k, self.recall)


def check_recall(recall: float) -> float:
    """The target itself, if it is one. Raises UsageError."""
    if not 0.0 < recall <= 1.0:
        raise UsageError(f"recall must be above 0 and at most 1, as 0.99 is, not {recall:g}")
    return recall


def plan_key(k: int, recall: float) -> str:
    """How the manifest calls the plan for k hits and that overlap: `10:0.99`."""
    return f"{k}:{recall:.12g}"


def stored_plan(plans: Mapping[str, Any], key: str, name: str, full_dim: int) -> TunedPlan | None:
    """The plan of that key among a manifest's, None if there is none; `name` is the index's.

    Raises IndexFormatError for one that makes no sense.
    """
    if key not in plans:
        return None
    try:
        found: TunedPlan = from_json(TunedPlan, plans[key])
        if found.key != key:
            raise ValueError(f"it is for {found.key}")
        Plan.parse(found.plan).check(found.k, full_dim)
        check_recall(found.recall)
    except (RsearchError, ValueError) as error:
        raise IndexFormatError(
            f"the plan of {name} for {quoted(key)} is damaged ({error}): measure it again with "
            f"`{tune_command(name, key)}`"
        ) from None
    return found


class StoredPlans:
    """The tuned plans of an index that is open, as its manifest has them; each is read once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._plans = manifest.plans
        self._read: dict[tuple[int, float], TunedPlan] = {}

    def get(self, k: int, recall: float) -> TunedPlan | None:
        """The plan for k hits and that overlap; None if there is none, also on disk by now.

        Raises UsageError for a recall outside (0, 1], IndexFormatError for a plan that makes no sense.
        """
        known = self._read.get((k, recall))
        if known is not None:
            return known
        Plan.of(None, 0, k, self._manifest.full_dim)
        key = plan_key(k, check_recall(recall))
        if key not in self._plans:
            self.read_again()
        found = self._stored(key)
        if found is not None:
            self._read[k, recall] = found
        return found

    def all(self) -> list[TunedPlan]:
        """Every tuned plan, by k and target. Raises IndexFormatError for one that makes no sense."""
        found = [self._stored(key) for key in self._plans]
        return sorted((plan for plan in found if plan), key=lambda plan: (plan.k, plan.recall))

    def read_again(self) -> None:
        """Learn of plans that were tuned meanwhile, if the index still is of this generation."""
        now = read_manifest(self._folder)
        if (now.generation, now.parts) == (self._manifest.generation, self._manifest.parts):
            self._plans, self._read = now.plans, {}

    def _stored(self, key: str) -> TunedPlan | None:
        return stored_plan(self._plans, key, self._folder.name, self._manifest.full_dim)


def tune_command(name: str, key: str) -> str:
    """What to type to have the plan of that key measured."""
    found = _KEY.fullmatch(key)
    k, recall = found.groups() if found else ("10", "0.99")
    return f"tune index={shlex.quote(name)} recall={recall}{'' if k == '10' else f' k={k}'}"


def keep_plan(folder: Path, generation: int, tuned: TunedPlan) -> Manifest:
    """Put a tuned plan into the manifest of an index, under the lock of its build.

    `generation` is the one it was measured on. Raises IndexBusyError, StorageError, and RsearchError if
    the index has another generation by now.
    """
    folder = folder.resolve()
    home = Home(folder.parent)
    with storage_errors(home.path, CHECK), build_lock(home.state(folder.name) / NAMES.lock, folder.name):
        manifest = read_manifest(folder)
        if manifest.generation != generation:
            raise RsearchError(f"{folder.name} has changed while it was measured: tune it again")
        written = replace(manifest, plans={**manifest.plans, tuned.key: asdict(tuned)}).write(folder)
        sync_folder(folder)
    return written
