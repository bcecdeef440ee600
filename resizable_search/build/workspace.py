"""What a build is asked for, and where it works: its lock, its log, and what an earlier run left behind."""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resizable_search import __version__
from resizable_search.build.journal import Journal
from resizable_search.errors import BuildStateError, UsageError
from resizable_search.progress import LoggedProgress, Progress, logged
from resizable_search.store.layout import NAMES, Failpoint, Home, failpoint, hold_lock
from resizable_search.store.manifest import Manifest, file_entry, read_manifest
from resizable_search.store.writer import replace_folder, sweep
from resizable_search.system import build_lock, make_home, storage_errors
from resizable_search.text import quoted

STANDARD_DIMS = (64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""The dimensions that are stored by default, as far as they are below the full one."""

MOST_AT_ONCE = 256
"""The most requests at once: each has a thread."""

LEAST_RATE = 0.001
"""The fewest requests a minute: with fewer, a build would take weeks."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built. `dims` None: the standard ones; `limit` None: the whole corpus.

    `command` is what the user types to resume the build, '' if nobody types. Raises UsageError for an
    impossible limit, concurrency or rate.
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
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"`limit` must be 1 or more, not {self.limit}")
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


def choose_dims(wanted: Sequence[int] | None, full: int) -> tuple[int, ...]:
    """The dimensions to store, ascending: those wanted (None: the standard ones) below `full`, and `full`."""
    wanted = STANDARD_DIMS if wanted is None else wanted
    return tuple(sorted({dim for dim in wanted if dim < full} | {full}))


_PLACING = "placing"
"""The checksum of the manifest of the build that is being put in place."""


@contextmanager
def lock_build(home: Home, options: BuildOptions, progress: Progress) -> Iterator[LoggedProgress]:
    """Hold the lock of the index that is built; yields the progress with the build's log.

    Raises UsageError for a wrong name, IndexBusyError, and StorageError if the disk refuses.
    """
    check_name(options.name)
    make_home(home.path)
    state = home.state(options.name)
    with (
        storage_errors(home.path, again=lambda: resuming(home, options)),
        build_lock(state / NAMES.lock, options.name),
        logged(progress, state / NAMES.log) as log,
    ):
        log.log(f"begun: rsearch {__version__}, {options.command or 'from Python'}")
        yield log


@contextmanager
def lock_index(folder: Path) -> Iterator[Home]:
    """Hold the lock of an index that is changed; yields the home that it lies in.

    A build or compaction that died is cleaned up first. Raises IndexBusyError, and StorageError if the disk
    refuses.
    """
    folder = folder.resolve()
    with hold_lock(folder) as home:
        unfinished = home.building(folder.name)
        recover(unfinished, folder)
        discard_compaction(unfinished)
        sweep(folder, read_manifest(folder))
        yield home


def resuming(home: Home, options: BuildOptions) -> str:
    """What resumes a build, in words: a restart that has begun is not begun again."""
    begun = options.restart and (home.building(options.name) / NAMES.work).exists()
    return "the same command without `restart`" if begun else "the same command"


def recover(unfinished: Path, folder: Path) -> None:
    """Bring a build that died between two of its last steps to a state that can be resumed, or end it.

    `unfinished` is its folder, `folder` the index's.
    """
    staged, aside = unfinished / NAMES.staged, unfinished / NAMES.replaced
    if aside.exists() and not folder.exists():
        aside.rename(folder)  # the old index stays until the new one is in place
    if not (unfinished / NAMES.work).exists():
        # A new journal must not find files of another one.
        discard(unfinished)
        return
    if (staged / NAMES.manifest).exists() and (folder / NAMES.manifest).exists():
        with closing(Journal(unfinished)) as journal:
            placing = journal.get(_PLACING)
        if placing not in (None, file_entry(staged / NAMES.manifest).sha256):
            discard(unfinished)  # the folders were exchanged already, and this is the old index
    elif not staged.exists() and (folder / NAMES.manifest).exists():
        parts = len(read_manifest(folder).parts)
        unlisted = folder / NAMES.parts / str(parts + 1)
        if unlisted.exists():
            unlisted.rename(staged)
        else:
            discard(unfinished)


def put_in_place(journal: Journal, manifest: Manifest, folder: Path) -> Manifest:
    """Write the manifest of a finished build and move its files to `folder`; returns the manifest as written.

    The journal keeps the manifest's checksum, so that `recover` knows whether old and new index have been
    exchanged, whatever happened to the new one since.
    """
    journal.set(_PLACING, None)
    written = manifest.write(journal.staged)
    journal.set(_PLACING, file_entry(journal.staged / NAMES.manifest).sha256)
    replace_folder(journal.staged, folder, journal.folder / NAMES.replaced)
    return written


def discard(unfinished: Path) -> None:
    """Delete an unfinished build: its journal first, so that nothing resumes what else is left of it."""
    (unfinished / NAMES.work).unlink(missing_ok=True)
    failpoint(Failpoint.DISCARDED)
    shutil.rmtree(unfinished, ignore_errors=True)


def discard_compaction(unfinished: Path) -> None:
    """Delete what a compaction left, and the folder of an unfinished build if it is empty."""
    if unfinished.is_dir():
        shutil.rmtree(unfinished / NAMES.compacted, ignore_errors=True)
        with suppress(OSError):
            unfinished.rmdir()


def is_replacing(unfinished: Path) -> bool:
    """Whether there is an unfinished build that will replace the index."""
    if not (unfinished / NAMES.work).exists():
        return False
    with closing(Journal(unfinished)) as journal:
        return bool(journal.get("replaces", False))


def refuse_differences(name: str, how: str, asked: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise BuildStateError, with both values, if the request is not that of the index or build."""
    for key in sorted({*asked, *stored}, key=lambda key: (key != "kind", key)):
        if asked.get(key) != stored.get(key):
            raise BuildStateError(
                f"{name} {how} with {key} {_shown(stored.get(key))}, not {_shown(asked.get(key))} as asked "
                "now: `restart` builds it again, another `name` keeps both"
            )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, str) and value != value.strip() or value == "":  # a prefix, whose spaces count
        return repr(value)
    return "the default" if value is None else str(value)
