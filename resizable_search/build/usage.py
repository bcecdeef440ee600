"""What a build has cost: requests, repeats, tokens and seconds, of this run and of all its runs."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from resizable_search.build.journal import Work
from resizable_search.embedders.request_pool import Usage


@dataclass(slots=True)
class BuildUsage:
    """The costs of one build, kept with the unfinished build so that a run goes on counting.

    `spent` is of this run; `earlier` of the runs before it, that took `earlier_seconds`. A run that was
    killed has kept what it had spent when it last folded its answers.
    """

    spent: Usage = Usage()
    earlier: Usage = Usage()
    earlier_seconds: float = 0.0
    runs: int = 1
    began: float = field(default_factory=time.perf_counter)

    def open(self, work: Work) -> None:
        """Learn what earlier runs of this unfinished build have spent."""
        kept: dict[str, Any] = work.get(_KEY) or {}
        if kept:
            self.earlier = Usage(kept["requests"], kept["repeats"], kept["tokens"])
            self.earlier_seconds, self.runs = kept["seconds"], kept["runs"] + 1

    def save(self, work: Work) -> None:
        """Keep what has been spent so far."""
        work.set(_KEY, {**asdict(self.total), "seconds": self.total_seconds, "runs": self.runs})

    @property
    def seconds(self) -> float:
        """Of this run."""
        return time.perf_counter() - self.began

    @property
    def total(self) -> Usage:
        """Of all runs."""
        one, other = self.earlier, self.spent
        return Usage(one.requests + other.requests, one.repeats + other.repeats, one.tokens + other.tokens)

    @property
    def total_seconds(self) -> float:
        """Of all runs."""
        return self.earlier_seconds + self.seconds


_KEY = "spent"
