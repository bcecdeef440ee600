"""Where everything lies: the file names of the on-disk format, the home, and how a name becomes a folder."""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from resizable_search.errors import IndexNotFoundError, StorageError, UsageError
from resizable_search.system import ANOTHER_HOME, CHECK, HOME_VARIABLE, build_lock, storage_errors


class FileNames:
    """The names inside an index's folder and beside it."""

    manifest: str = "manifest.json"
    documents: str = "documents.sqlite"
    parts: str = "parts"
    tiers: str = "tiers"
    embedder: str = "embedder"
    state: str = ".state"
    building: str = ".building"
    work: str = "work.sqlite"
    documents_copy: str = "documents.copy"
    staged: str = "index"
    replaced: str = "replaced"
    removed: str = "removed.json"
    lock: str = "build.lock"
    report: str = "report.json"
    log: str = "build.log"
    verified: str = "verified.json"
    curve: str = "curve.json"
    queries: str = "queries.sqlite"
    trusted: str = "trusted.json"
    history: str = "prompt.history"
    socket: str = "serve.sock"
    config: str = "rsearch.toml"

    def deleted(self, generation: int | str) -> str:
        """The bitmap of a part's deleted rows, as of a generation."""
        return f"deleted.{generation}.npy"

    def vectors(self, dim: int) -> str:
        """The file of the rows at one dimension."""
        return f"{dim}.npy"

    def tier(self, dim: int) -> tuple[str, str, str]:
        """The int8 codes of the rows at one dimension, the factor of each row's codes, and its error."""
        codes, steps, errors = (f"{self.tiers}/{dim}.{what}.npy" for what in ("int8", "scale", "error"))
        return codes, steps, errors

    def signs(self, dim: int) -> str:
        """The sign bits of the rows in an older index. Nothing reads them."""
        return f"{self.tiers}/{dim}.bits.npy"

    def one_bit(self, dim: int) -> str:
        """The one-bit codes of the full rows, which serve every smaller dimension."""
        return f"{self.tiers}/{dim}.1bit.npy"

    def four_bit(self, dim: int) -> tuple[str, str]:
        """The codes of the full rows in four bits, and their steps and errors."""
        return f"{self.tiers}/{dim}.4bit.npy", f"{self.tiers}/{dim}.bounds.npy"

    def mean(self, dim: int) -> str:
        """The mean that codes of one and four bits are made with: that of the index's first part."""
        return f"{self.tiers}/{dim}.mean.npy"

    def short_codes(self, dim: int) -> tuple[tuple[str, ...], ...]:
        """The mean and what is made with it: the files of one bit, and those of four."""
        return (self.mean(dim), self.one_bit(dim)), self.four_bit(dim)

    @property
    def lexical(self) -> tuple[str, str, str, str, str]:
        """The lexical tier: hashes of terms, where the rows of each start, rows, counts, lengths of rows."""
        names = ("terms", "starts", "rows", "counts", "lengths")
        terms, starts, rows, counts, lengths = (f"{self.tiers}/lexical.{name}.npy" for name in names)
        return terms, starts, rows, counts, lengths


NAMES = FileNames()


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced by the user's folder. Raises UsageError for an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path} names a user that is unknown: write the folder out") from None


class Home:
    """The folder of all indexes, and the paths in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_usual(self) -> bool:
        """Whether commands find it without `home`."""
        return self.path == home_of(None).path

    def index(self, name: str) -> Path:
        """The folder of a finished index."""
        return self.path / name

    def building(self, name: str) -> Path:
        """The folder of an unfinished build."""
        return self.path / NAMES.building / name

    def state(self, name: str) -> Path:
        """The folder of an index's lock, log and reports; or a file of the whole home."""
        return self.path / NAMES.state / name

    @property
    def queries(self) -> Path:
        """The cache of query embeddings."""
        return self.state(NAMES.queries)

    @property
    def trusted(self) -> Path:
        """The addresses that a secret may be sent to."""
        return self.state(NAMES.trusted)

    @property
    def socket(self) -> Path:
        """Where a running service answers the command line."""
        return self.state(NAMES.socket)

    def names(self) -> list[str]:
        """The finished indexes, which have a manifest, sorted. Raises StorageError."""
        return sorted(
            entry.name
            for entry in entries(self.path)
            if not entry.name.startswith(".") and (entry / NAMES.manifest).is_file()
        )

    def unfinished(self) -> list[str]:
        """The unfinished builds, sorted. Raises StorageError."""
        folder = self.path / NAMES.building
        return sorted(entry.name for entry in entries(folder) if (entry / NAMES.work).is_file())


def home_of(folder: str | Path | None) -> Home:
    """The home in this folder; None: in $RSEARCH_HOME, else the user's data directory. Raises UsageError."""
    if folder is None:
        folder = os.environ.get(HOME_VARIABLE) or None
    if folder is not None:
        return Home(expanded(folder))
    from platformdirs import user_data_path

    return Home(user_data_path("rsearch"))


def entries(folder: Path) -> list[Path]:
    """The entries of a folder; none if it is not one. Raises StorageError."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot read the folder {folder} ({error.strerror}): {ANOTHER_HOME}") from None


INDEX_VARIABLE = "RSEARCH_INDEX"
FAVOURITE = "wiki100k"

REPLACED_SECONDS = 1.0  # how long a reader waits for an index that is being replaced


def default_name(home: Home) -> str:
    """$RSEARCH_INDEX, else `wiki100k` if it exists, else the only index. Raises IndexNotFoundError."""
    chosen = os.environ.get(INDEX_VARIABLE)
    if chosen:
        return chosen
    for name in home.unfinished():
        await_replacement(home.index(name))
    there = home.names()
    if FAVOURITE in there:
        return FAVOURITE
    if len(there) == 1:
        return there[0]
    if not there:
        raise none_yet(home)
    raise IndexNotFoundError(f"which index? name one with `index`: there are {', '.join(there)}")


def none_yet(home: Home) -> IndexNotFoundError:
    """The error for a home without any index."""
    unfinished = home.unfinished()
    if unfinished:
        begun = f"the build of {', '.join(unfinished)} was begun: give its build command again to go on"
        return IndexNotFoundError(f"no finished index in {home.path}; {begun}")
    elsewhere = "" if home.is_usual else f" home={shlex.quote(str(home.path))}"
    return IndexNotFoundError(f"no index in {home.path}: build one with `build pydoc{elsewhere}`")


def resolve_index(name: str | Path, home: Home) -> Path:
    """The folder of an index. Raises IndexNotFoundError with the names that exist and the nearest."""
    if name == "":
        raise UsageError("the name of the index is empty: name one, or leave it out")
    if isinstance(name, Path) or "/" in name or "\\" in name:
        folder = expanded(name)
        if not os.path.isdir(folder) and not await_replacement(folder):
            raise IndexNotFoundError(f"there is no folder {folder}: name one that holds an index")
        return folder
    folder = home.index(name)
    if not name.startswith(".") and (os.path.isdir(folder) or await_replacement(folder)):
        return folder
    there = home.names()
    if name in home.unfinished():
        raise IndexNotFoundError(f"the build of {name} is not finished: give its build command again")
    if not there:
        raise none_yet(home)
    import difflib  # only a wrong name needs it

    near = difflib.get_close_matches(name, there, 1, 0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    raise IndexNotFoundError(f"no index {name}: {guess}there are {', '.join(there)}")


def state_of(folder: Path, name: str) -> Path:
    """A file of this name beside the index in a folder, in the home where the index is."""
    real = folder.resolve()
    return Home(real.parent).state(real.name) / name


@contextmanager
def hold_lock(folder: Path) -> Iterator[Home]:
    """Hold the lock of a finished index, and yield its home. Raises IndexBusyError and StorageError."""
    folder = folder.resolve()
    home = Home(folder.parent)
    with storage_errors(home.path, CHECK), build_lock(home.state(folder.name) / NAMES.lock, folder.name):
        yield home


def await_replacement(folder: Path) -> bool:
    """Wait up to a second for an index that is being replaced in two steps. Returns whether it exists now."""
    aside = Home(folder.parent).building(folder.name) / NAMES.replaced
    until = time.monotonic() + REPLACED_SECONDS
    waited = False
    # os.path.exists takes names that no disk could hold; Path.exists raises.
    while os.path.exists(aside) and not os.path.exists(folder):
        if time.monotonic() > until:
            return False
        waited = True
        time.sleep(0.005)
    return waited or os.path.exists(folder)


class UnfinishedBuild(NamedTuple):
    """An unfinished build: documents `read`, those whose vectors are `safe`, and the request, if recorded."""

    read: int
    safe: int
    request: dict[str, Any] | None
    replaces: bool


def unfinished_build(folder: Path) -> UnfinishedBuild | None:
    """The unfinished build in a folder; None if there is no readable one."""
    import sqlite3

    path = (folder / NAMES.work).resolve()
    # SQLite writes files to read a write-ahead log. Without a log it need not; where it cannot, the build is
    # read without the log.
    is_still = not path.with_name(f"{path.name}-wal").exists()
    for how in ("&immutable=1",) if is_still else ("", "&immutable=1"):
        with suppress(sqlite3.Error, ValueError, AttributeError):
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro{how}", uri=True)) as db:
                meta = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
                (safe,) = db.execute(
                    "SELECT count(*) FROM documents WHERE source NOTNULL "
                    "OR text_sha256 IN (SELECT text_sha256 FROM answers)"
                ).fetchone()
            read = int((meta.get("stream") or {}).get("read", 0))
            return UnfinishedBuild(read, safe, meta.get("request"), bool(meta.get("replaces", False)))
    return None


class Failpoint(StrEnum):
    """The commits of a build and of other changes, in order: a test lets the process die just behind each.

    Wherever a process dies, the same command resumes (docs/format.md, "An unfinished build").
    """

    READ = "documents are in the journal"
    ANSWERED = "answers are in the journal"
    DOCUMENTS = "documents.sqlite is written"
    MARKED = "new bitmaps of deleted rows are on disk, but not listed"
    MANIFEST = "the manifest is written"
    EXCHANGED = "the old and the new index have changed places"
    PLACED = "an index or a part is in its place"
    DISCARDED = "the journal of the build is deleted"


on_failpoint: Callable[[Failpoint], None] | None = None  # set by tests


def failpoint(point: Failpoint) -> None:
    """Pass a failpoint."""
    if on_failpoint is not None:
        on_failpoint(point)
