"""The options of commands that work on a Ray cluster."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.cluster.connection import RayOptions
    from resizable_search.cluster.search import RayEngines

GpusOption = Annotated[float, Option(help="GPUs of each worker.")]
PartialOption = Annotated[
    bool, Option("--partial", help="With --ray: answer without unreadable parts, and say so.")
]
NodesOption = Annotated[
    str | None, Option(metavar="auto|HOST:PORT", help="Show which parts each node of a Ray cluster can read.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayArguments:
    """The cluster of a command, and what it may use there."""

    ray: Annotated[
        str | None,
        Option(metavar="local|HOST:PORT", help="Work on a Ray cluster (extra `ray`); local starts one here."),
    ] = None
    workers: Annotated[int | None, Option(help="Workers of --ray.", show_default="one a node or GPU")] = None
    resources: Annotated[
        str | None,
        Option(metavar="JSON", help="What each worker takes, by Ray's names.", show_default='{"CPU": 1}'),
    ] = None

    def cluster(self, gpus_per_worker: float = 0.0) -> "RayOptions | None":
        """The cluster; None without --ray. Raises UsageError."""
        if self.ray is None:
            if self.workers is not None or gpus_per_worker or self.resources is not None:
                raise UsageError("options of workers belong to --ray: name a cluster")
            return None
        from resizable_search.cluster.connection import RayOptions

        try:
            wanted = json.loads(self.resources or "{}")
            is_sound = isinstance(wanted, dict) and all(type(n) in (int, float) for n in wanted.values())
        except (ValueError, RecursionError):
            is_sound = False
        if not is_sound:
            raise UsageError('--resources is a JSON object of numbers, such as {"CPU": 2, "big_disk": 1}')
        return RayOptions(self.ray, self.workers, gpus_per_worker, wanted)

    def engines(self, *, partial: bool = False) -> "RayEngines | None":
        """What scans on the cluster; None without --ray. Raises UsageError."""
        options = self.cluster()
        if options is None:
            if partial:
                raise UsageError("--partial belongs to --ray: name a cluster")
            return None
        from resizable_search.cluster.search import RayEngines

        return RayEngines(options, partial=partial)
