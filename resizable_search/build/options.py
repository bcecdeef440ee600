"""What a build is asked for, and what it tells when it is done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resizable_search.errors import UsageError
from resizable_search.store.layout import NAMES
from resizable_search.text import quoted

STANDARD_DIMS = (64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""The dimensions that are stored by default: those below the full one, and itself."""

MOST_AT_ONCE = 256
"""Requests that may be under way at once: each has a thread."""

LEAST_RATE = 0.001
"""Requests a minute: with fewer, a build would wait for weeks."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built. `dims` None: the standard ones; `limit` None: the whole corpus.

    `command` is what a person types to go on with the build if it is stopped; '' where nobody types.

    Raises UsageError for a concurrency or a rate that makes no sense.
    """

    name: str
    limit: int | None = None
    dims: tuple[int, ...] | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    on_bad_text: Literal["skip", "fail"] = "skip"
    restart: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        at_once, rate = self.concurrency, self.requests_per_minute
        if at_once is not None and not 1 <= at_once <= MOST_AT_ONCE:
            raise UsageError(f"`concurrency` must be 1 to {MOST_AT_ONCE}, not {at_once}")
        if rate is not None and not LEAST_RATE <= rate < math.inf:
            raise UsageError(f"`rate` must be above 0, {LEAST_RATE} or more and finite, not {rate:g}")


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder of the home. Raises UsageError."""
    if (
        not name
        or name.startswith(".")
        or {"/", "\\"} & set(name)
        or not name.isprintable()
        or len(name.encode()) > 100
        or name.startswith(
            (NAMES.queries, NAMES.trusted, NAMES.history, NAMES.config, NAMES.socket)
        )  # files lie where it, or its state, would
    ):
        raise UsageError(
            f"{quoted(name)} is no name for an index: choose a `name` of up to 100 letters, digits, - and _"
        )


def choose_dims(wanted: Sequence[int] | None, full: int, *, narrow: bool = False) -> tuple[int, ...]:
    """The dimensions to store, ascending, the full one last. Raises UsageError for one out of range.

    `narrow`: drop those beyond `full` instead, since the corpus could not give more.
    """
    wanted = [dim for dim in STANDARD_DIMS if dim < full] if wanted is None else wanted
    for dim in wanted:
        if dim < 1 or (dim > full and not narrow):
            raise UsageError(f"`dims`: {dim} is not within 1 to {full}, the embedder's full dimension")
    return tuple(sorted({dim for dim in wanted if dim < full} | {full}))
