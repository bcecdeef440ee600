"""The options of commands that work on a Ray cluster."""

import json
from typing import TYPE_CHECKING, Annotated

from typer import Option

from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.cluster.connection import RayOptions
    from resizable_search.cluster.search import RayEngines

RayOption = Annotated[
    str | None,
    Option(metavar="local|HOST:PORT", help="Embed on a Ray cluster (extra `ray`); local starts one here."),
]
RayScanOption = Annotated[
    str | None,
    Option(metavar="local|HOST:PORT", help="Scan on a Ray cluster (extra `ray`); local starts one here."),
]
PartialOption = Annotated[
    bool, Option("--partial", help="With --ray: answer without unreadable parts, and say so.")
]
NodesOption = Annotated[
    str | None, Option(metavar="auto|HOST:PORT", help="Show which parts each node of a Ray cluster can read.")
]
WorkersOption = Annotated[int | None, Option(help="Workers of --ray.", show_default="one a node or GPU")]
GpusOption = Annotated[float, Option(help="GPUs of each worker.")]
ResourcesOption = Annotated[
    str | None,
    Option(metavar="JSON", help="What each worker takes, by Ray's names.", show_default='{"CPU": 1}'),
]


def ray_options(
    ray: str | None,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    resources: str | None = None,
) -> "RayOptions | None":
    """The cluster of a command; None without --ray. Raises UsageError."""
    if ray is None:
        if workers is not None or gpus_per_worker or resources is not None:
            raise UsageError("options of workers belong to --ray: name a cluster")
        return None
    from resizable_search.cluster.connection import RayOptions

    try:
        wanted = json.loads(resources or "{}")
        is_sound = isinstance(wanted, dict) and all(type(value) in (int, float) for value in wanted.values())
    except (ValueError, RecursionError):
        is_sound = False
    if not is_sound:
        raise UsageError('--resources is a JSON object of numbers, such as {"CPU": 2, "big_disk": 1}')
    return RayOptions(ray, workers, gpus_per_worker, wanted)


def ray_engine(
    ray: str | None, workers: int | None, resources: str | None, *, partial: bool
) -> "RayEngines | None":
    """What scans on the cluster of a command; None without --ray. Raises UsageError."""
    options = ray_options(ray, workers, 0.0, resources)
    if options is None:
        if partial:
            raise UsageError("--partial belongs to --ray: name a cluster")
        return None
    from resizable_search.cluster.search import RayEngines

    return RayEngines(options, partial=partial)
