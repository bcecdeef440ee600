"""What an update is asked for, and where it works: its lock, its log, and what an earlier run left behind."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from resizable_search import __version__
from resizable_search.build.journal import Journal, discard
from resizable_search.errors import BuildStateError, UsageError
from resizable_search.progress import SILENT, LoggedProgress, Progress, logged
from resizable_search.store.layout import NAMES, Home, hold_lock, unfinished_build
from resizable_search.store.manifest import Part, read_manifest
from resizable_search.store.writer import sweep
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


CHANGE: dict[str, Any] = {"kind": "change"}
"""The request of every update that compares its documents anew in each run."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an update of the index `options.name` works, while it holds the index's lock."""

    home: Home
    options: BuildOptions
    log: LoggedProgress
    stop: threading.Event

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self.home.index(self.options.name)

    @property
    def unfinished(self) -> Path:
        """The folder of the unfinished update."""
        return self.home.building(self.options.name)

    @property
    def same_command(self) -> str:
        """What resumes the update, in words: a restart that has begun is not begun again."""
        begun = unfinished_build(self.unfinished) if self.options.restart else None
        return "the same command without `restart`" if begun and begun.replaces else "the same command"

    def note_dims(self, width: int, *, fitted: bool) -> None:
        """Say why the dimensions that are stored are not those that were asked for."""
        asked = self.options.dims
        most = max(asked or STANDARD_DIMS[:5])
        if fitted and most > width:
            self.log.note(f"the corpus gives {width} dimensions, not {most}: its documents or words are few")
        elif asked and width not in asked:
            self.log.note(f"{width} is stored too: the full dimension always is")

    def check_stop(self) -> None:
        """Stop here if that was asked for."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    def recover(self) -> None:
        """Clean up after an update or compaction that died, or end it if it was complete."""
        work = self.unfinished / NAMES.work
        aside = self.unfinished / NAMES.replaced
        if aside.exists() and not self.folder.exists():
            aside.rename(self.folder)  # the old index stays until the new one is in place
        if work.exists() and (self.folder / NAMES.manifest).exists():
            with closing(Journal(self.unfinished)) as journal:
                placing = journal.get("placing")
            parts = read_manifest(self.folder).parts if placing else ()
            if placing in [checksums(part) for part in parts]:
                discard(self.unfinished)
        elif not work.exists():  # a new journal must not find files of another one
            discard(self.unfinished)


def checksums(part: Part) -> dict[str, str]:
    """The SHA-256 of each file of a part but its bitmap, which tells whether it was put in place."""
    return {name: entry.sha256 for name, entry in part.files.items() if name != part.bitmap}


@contextmanager
def lock_build(
    home: Home, options: BuildOptions, progress: Progress, stop: threading.Event | None = None
) -> Iterator[Workspace]:
    """Hold the lock of the index that is built, and keep its log. `stop`, once set, ends the update.

    Raises UsageError for a wrong name, IndexBusyError, and StorageError if the disk refuses.
    """
    check_name(options.name)
    make_home(home.path)
    state = home.state(options.name)
    workspace = Workspace(home, options, LoggedProgress(progress), stop or threading.Event())
    with (
        storage_errors(home.path, again=lambda: workspace.same_command),
        build_lock(state / NAMES.lock, options.name),
        logged(progress, state / NAMES.log) as log,
    ):
        log.log(f"begun: rsearch {__version__}, {options.command or 'from Python'}")
        yield replace(workspace, log=log)


@contextmanager
def lock_index(
    folder: Path,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Iterator[Workspace]:
    """Hold the lock of an index that is changed. A build or compaction that died is cleaned up first.

    Raises IndexBusyError, BuildStateError for a damaged journal, and StorageError if the disk refuses.
    """
    folder = folder.resolve()
    with hold_lock(folder) as home, logged(progress, home.state(folder.name) / NAMES.log) as log:
        workspace = Workspace(home, options or BuildOptions(folder.name), log, stop or threading.Event())
        workspace.recover()
        sweep(folder, read_manifest(folder))
        yield workspace


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
