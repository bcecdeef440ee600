"""A Ray cluster: one that runs somewhere, or one that is started on this machine and ended again.

Ray itself waits two minutes for an address that does not answer, and ends the process then. So the address is
tried before: Ray's head speaks gRPC, which is HTTP/2.
"""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from resizable_search import __version__
from resizable_search.environment import needs
from resizable_search.errors import ClusterError, RsearchError, UsageError

LOCAL, AUTO = "local", "auto"
ANSWER_SECONDS = 5.0  # how long the address of a cluster may take to answer
ASK_SECONDS = 5.0  # how often an actor that works is asked for a sign of life
PATIENCE = 30.0  # seconds that it may take to give one: it may be restarting

SILENT = f"no sign of life for {PATIENCE:.0f} s: its node is lost, or no node has room for it (`ray status`)"

MOST_WORKERS = 1000

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SIGNS = "signs"  # a thread of each actor that answers while the others work
_SETTINGS = 4  # the type of the frame with which each HTTP/2 server begins


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which cluster, and the workers on it, each of which takes one CPU. Raises UsageError."""

    address: str  # 'local', 'auto' (the one of this machine) or HOST:PORT
    workers: int | None = None  # None: one for each node, or as many as its GPUs serve
    gpus: float = 0.0  # of each worker
    resources: Mapping[str, float] = field(default_factory=dict)  # of each worker, by Ray's names

    def __post_init__(self) -> None:
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"`workers` must be 1 to {MOST_WORKERS}, not {self.workers}")
        if not 0 <= self.gpus < math.inf:
            raise UsageError(f"`gpus_per_worker` must be 0 or more, not {self.gpus:g}")
        if self.address.startswith("ray://"):
            raise UsageError(
                f"`ray` takes no address of a Ray client ({self.address}): run rsearch on a node of the "
                "cluster, and give HOST:PORT of its head, or auto"
            )
        host, _, port = self.address.rpartition(":")
        if self.address not in (LOCAL, AUTO) and not (host and port.isascii() and port.isdigit()):
            raise UsageError(f"`ray` must be local, auto or HOST:PORT, not {self.address}")

    def actor_options(self) -> dict[str, Any]:
        """What each worker takes, as Ray has it."""
        resources = dict(self.resources)
        return {
            "num_cpus": resources.pop("CPU", 1),
            "num_gpus": self.gpus or None,
            "resources": resources or None,
            "scheduling_strategy": "SPREAD",
        }


@contextmanager
def connected(options: RayOptions) -> Iterator[Any]:
    """The module `ray`, connected to the cluster; one that is connected already is used, and left so.

    Raises RsearchError if Ray is not installed, ClusterError if the cluster cannot be used.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # else it prints on stdout that a worker died
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # not by a call after the end
    with needs("ray"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    if options.address not in (LOCAL, AUTO):
        _refuse_silence(options.address)
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    own: dict[str, Any] = {}
    if options.address == LOCAL:
        os.environ.setdefault("RAY_worker_niceness", "0")  # else all else on this machine goes before them
        own = {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, options.workers or 1)}
    try:
        ray.init(options.address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except ConnectionError:
        raise ClusterError(
            "no Ray cluster runs on this machine: start one with `ray start --head`, or use `ray=local`"
        ) from None
    except Exception as error:
        raise ClusterError(f"cannot join the Ray cluster at {options.address}: {_reason(error)}") from None
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Raise ClusterError if no head of a Ray cluster answers at an address."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(_PREFACE)
            answer = connection.recv(9)
    except (OSError, OverflowError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"no Ray cluster answers at {address} ({why}): check HOST:PORT of its head (`ray status`)"
        ) from None
    if answer[3:4] != bytes([_SETTINGS]):
        raise ClusterError(f"what answers at {address} is no Ray cluster: check HOST:PORT of its head")


def _reason(error: Exception) -> str:
    """What Ray says, in one line; of other versions, what to do."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    if "ersion mismatch" in words:
        return f"{words}; install the same versions of Ray and Python here and there"
    return f"{words}; look at its logs in /tmp/ray"


def actor_class(ray: Any, worker: type) -> Any:
    """An actor of this class of `worker.Worker`, which gives signs of life while it works."""
    return ray.remote(concurrency_groups={_SIGNS: 1})(worker)


def without_sign(ray: Any, calls: Mapping[Any, Any]) -> Collection[Any]:
    """Wait for calls of actors, each with its actor; those whose actors give no sign of life meanwhile."""
    # Ray itself would wait for ever: for a node that has room, or for its own process on this machine.
    pending, silent = list(calls), set()
    while pending:
        _, late = ray.wait(pending, num_returns=len(pending), timeout=ASK_SECONDS)
        signs = {calls[call].sign.options(concurrency_group=_SIGNS).remote(): call for call in late}
        if signs:
            _, missing = ray.wait(list(signs), num_returns=len(signs), timeout=PATIENCE, fetch_local=False)
            silent |= {signs[sign] for sign in missing}
        pending = [call for call in late if call not in silent]
    return silent


def as_raised(error: Any, who: str) -> RsearchError:
    """The error that an actor raised on purpose; of another `RayTaskError`, what `who` failed with."""
    if isinstance(error.cause, RsearchError):
        return error.cause
    return ClusterError(f"{who} failed: {last_line(error)}")


def start_problem(error: BaseException) -> str:
    """Why no process of a worker starts, of what Ray says, and what to do."""
    what, all_words = last_line(error), str(error)
    own = f"{ClusterError.__module__}.ClusterError: "
    if what.startswith(own):
        return what.removeprefix(own)
    if "creation task" in all_words or "ModuleNotFoundError" in all_words or "ImportError" in all_words:
        return f"{what}; install resizable_search {__version__} on every node"
    return (
        f"they die before they are ready ({what}): look at Ray's logs, and at memory and disks of the nodes"
    )


def last_line(error: BaseException) -> str:
    """The last line of what Ray says, which is the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
