"""What an update is asked for, and where it works: its lock, its log, and what an earlier run left behind."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resizable_search import __version__
from resizable_search.build.journal import Journal
from resizable_search.corpora.base import Corpus
from resizable_search.corpora.hub import WIKIPEDIA
from resizable_search.embedders.base import Embedder
from resizable_search.errors import BuildStateError, IndexFormatError, UsageError
from resizable_search.progress import SILENT, LoggedProgress, Progress, logged
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES, Home, UnfinishedBuild, unfinished_build
from resizable_search.store.manifest import Part, read_manifest
from resizable_search.store.writer import discard, sweep
from resizable_search.system import ANOTHER_HOME, CHECK, build_lock, make_home, storage_errors
from resizable_search.text import quoted

STANDARD_DIMS = (64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)  # by default, if below the full one

MOST_AT_ONCE = 256  # the most requests at once: each has a thread
LEAST_RATE = 0.001  # the fewest requests a minute: with fewer, a build would take weeks


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is built. Raises UsageError for an impossible number."""

    name: str
    limit: int | None = None  # None: the whole corpus
    dims: tuple[int, ...] | None = None  # None: the standard ones
    concurrency: int | None = None
    requests_per_minute: float | None = None
    on_bad_text: Literal["skip", "fail"] = "skip"
    restart: bool = False
    command: str = ""  # what the user types to resume the build

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
    files = NAMES.queries, NAMES.trusted, NAMES.history, NAMES.config, NAMES.socket  # beside the indexes
    is_odd = name.startswith((".", *files)) or not name.isprintable() or {"/", "\\"} & set(name)
    if not name or is_odd or len(name.encode()) > 100:
        words = "choose a `name` of up to 100 letters, digits, - and _"
        raise UsageError(f"{quoted(name)} is no name for an index: {words}")


def choose_dims(wanted: Sequence[int] | None, full: int) -> tuple[int, ...]:
    """The dimensions to store, ascending: those wanted (None: the standard ones) below `full`, and `full`."""
    wanted = STANDARD_DIMS if wanted is None else wanted
    return tuple(sorted({dim for dim in wanted if dim < full} | {full}))


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an update of the index `options.name` works, while it holds the index's lock."""

    home: Home
    options: BuildOptions
    log: LoggedProgress
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self.home.index(self.options.name)

    @property
    def unfinished(self) -> Path:
        """The folder of the unfinished update."""
        return self.home.building(self.options.name)

    @property
    def begun(self) -> UnfinishedBuild | None:
        """The unfinished update that is resumed, if there is one."""
        return None if self.options.restart else unfinished_build(self.unfinished)

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
        parts: Sequence[Part] = ()
        aside = self.unfinished / NAMES.replaced
        if aside.exists() and not self.folder.exists():
            aside.rename(self.folder)  # the old index stays until the new one is in place
        with suppress(IndexFormatError):  # without an index that can be read, one can still be built
            manifest = read_manifest(self.folder)
            parts = manifest.parts
            sweep(self.folder, manifest)
        if not (self.unfinished / NAMES.work).exists():  # a new journal must not find files of another one
            discard(self.unfinished)
        elif parts:
            with closing(Journal(self.unfinished)) as journal:
                placing = journal.get("placing")
            if placing in map(checksums, parts):
                discard(self.unfinished)


def checksums(part: Part) -> dict[str, str]:
    """The SHA-256 of each file of a part but its bitmap. They show whether it was put in place."""
    return {name: entry.sha256 for name, entry in part.files.items() if name != part.bitmap}


@contextmanager
def lock_build(
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
    remedy: str = ANOTHER_HOME,
) -> Iterator[Workspace]:
    """Hold the lock of an index that is changed, and keep its log. Raises IndexBusyError, StorageError."""
    make_home(home.path)
    state = home.state(options.name)
    with (
        storage_errors(home.path, remedy),
        build_lock(state / NAMES.lock, options.name),
        logged(progress, state / NAMES.log) as log,
    ):
        log.log(f"begun: rsearch {__version__}, {options.command or 'from Python'}")
        yield Workspace(home, options, log, stop or threading.Event())


@contextmanager
def lock_index(
    folder: Path,
    options: BuildOptions | None = None,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Iterator[Workspace]:
    """`lock_build` of an index that is changed. A build or compaction that died is cleaned up first."""
    folder = folder.resolve()
    options = options or BuildOptions(folder.name)
    with lock_build(Home(folder.parent), options, progress, stop, CHECK) as workspace:
        workspace.recover()
        yield workspace


_FIRST = ("kind", "paths", "repo", "embedder", "model", "chunk", "lang", "date")
"""What a difference is named by first: others follow from it."""


def refuse_differences(
    options: BuildOptions, how: str, asked: Mapping[str, Any], stored: Mapping[str, Any]
) -> None:
    """Raise BuildStateError, with both values, if the request is not that of the index or build."""
    asked, stored = by_option(asked), by_option(stored)
    keys = [key for key in sorted({*asked, *stored}) if asked.get(key) != stored.get(key)]
    if keys:
        key = next((key for key in _FIRST if key in keys), keys[0])
        option = key if key in _NO_OPTIONS else f"`{key}`"
        before, now = (_shown(request.get(key), key) for request in (stored, asked))
        command = f"`{options.command}`" if options.command else "the same command"
        raise BuildStateError(
            f"{options.name} {how} with {option} {before}, not {now} as asked now: {command} with `restart` "
            "builds it again, another `name` keeps both"
        )


_NO_OPTIONS = {"kind", "rules", "paths", "path", "repo", "python", "root", "extends rows read"}
_NO_OPTIONS |= {"sha256", "documents", "rows", "width", "dtype", "bytes"}  # of arguments or the corpus


def made_of(corpus: Corpus, embedder: Embedder) -> dict[str, Any]:
    """The corpus and the embedder that are asked for; the model is None if fitting makes it."""
    if embedder.needs_fit:
        return {**corpus.spec().to_json(), "embedder": embedder.kind, "model": None}
    return {**corpus.spec().to_json(), **embedder_request(embedder.spec)}


def embedder_request(spec: EmbedderSpec) -> dict[str, Any]:
    """What a request says of the embedder: its kind and model, and prefixes, which make other vectors."""
    names = ("document_prefix", "query_prefix")
    prefixes = {name.replace("_", " "): spec.options[name] for name in names if name in spec.options}
    width = {"width": spec.width} if prefixes else {}
    return {"embedder": spec.kind, "model": spec.model, **prefixes, **width}


def by_option(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a corpus or a request is made of, by the names of the options of a build."""
    values = {key.replace(" prefix", "_prefix"): value for key, value in request.items()}
    if isinstance(columns := values.pop("columns", None), dict):
        optional = values.pop("optional", None) or ()
        values |= {f"{field}_column": None if field in optional else columns[field] for field in columns}
    if values.get("repo") == WIKIPEDIA:
        values |= dict(zip(("date", "lang"), str(values["config"]).split(".", 1), strict=False))
    return values


def _shown(value: Any, key: str) -> str:
    if key == "chunk" and value is None:
        return "0"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, str) and value != value.strip() or value == "":  # a prefix, whose spaces count
        return repr(value)
    return "the default" if value is None else str(value)
