"""Where everything lies: each file name of the on-disk format, once.

Which index is meant: by name, by folder, or by what there is.

A folder that is held, so that it can be told from whatever lies at its path later.
"""

import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import IndexNotFoundError, StorageError, UsageError
from resizable_search.system import ANOTHER_HOME, HOME_VARIABLE, exhausted


@dataclass(frozen=True, init=False, repr=False, eq=False)  # every command would wait for those to be made
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
    compacted: str = "compacted"
    staged: str = "index"
    replaced: str = "replaced"
    removed: str = "removed.json"
    lock: str = "build.lock"
    report: str = "report.json"
    log: str = "build.log"
    verified: str = "verified.json"
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

    def codes(self, dim: int) -> str:
        """The int8 codes of the rows at one dimension."""
        return f"{self.tiers}/{dim}.int8.npy"

    def steps(self, dim: int) -> str:
        """What a row's codes are multiplied by."""
        return f"{self.tiers}/{dim}.scale.npy"

    def errors(self, dim: int) -> str:
        """How far each row is from what its codes say."""
        return f"{self.tiers}/{dim}.error.npy"

    def signs(self, dim: int) -> str:
        """The sign bits of the rows; the full dimension's serve every smaller one."""
        return f"{self.tiers}/{dim}.bits.npy"


NAMES = FileNames()


def default_home() -> Path:
    """The folder of all indexes: $RSEARCH_HOME, else the user's data directory."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return expanded(chosen)
    from platformdirs import user_data_path

    return user_data_path("rsearch")


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced by the user's folder. Raises UsageError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{path} is in the folder of a user that this machine does not know: write it out"
        ) from None


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of all indexes, and the places in it."""

    path: Path

    def index(self, name: str) -> Path:
        """The folder of a finished index."""
        return self.path / name

    def building(self, name: str) -> Path:
        """The folder of an unfinished build."""
        return self.path / NAMES.building / name

    def state(self, name: str) -> Path:
        """What is kept about an index beside it: its lock and its build report."""
        return self.path / NAMES.state / name

    @property
    def queries(self) -> Path:
        """The cache of query embeddings."""
        return self.path / NAMES.state / NAMES.queries

    @property
    def trusted(self) -> Path:
        """The addresses that a secret may be sent to."""
        return self.path / NAMES.state / NAMES.trusted

    @property
    def socket(self) -> Path:
        """Where a running service answers the command line."""
        return self.path / NAMES.state / NAMES.socket

    @property
    def history(self) -> Path:
        """What was typed at the prompt."""
        return self.path / NAMES.state / NAMES.history

    def names(self) -> list[str]:
        """The finished indexes, sorted: the folders that have a manifest. Raises StorageError."""
        return sorted(
            entry.name
            for entry in _entries(self.path)
            if not entry.name.startswith(".") and (entry / NAMES.manifest).is_file()
        )

    def unfinished(self) -> list[str]:
        """The builds that were begun and not finished, sorted. Raises StorageError."""
        folder = self.path / NAMES.building
        return sorted(entry.name for entry in _entries(folder) if (entry / NAMES.work).is_file())


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder: nothing if it is none."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot read the folder {folder} ({error.strerror}): {ANOTHER_HOME}") from None


INDEX_VARIABLE = "RSEARCH_INDEX"
FAVOURITE = "wiki100k"

REPLACED_SECONDS = 1.0
"""How long a reader waits for an index that is being replaced this moment."""


def default_name(home: Home) -> str:
    """The index that is meant when none is named. Raises IndexNotFoundError.

    $RSEARCH_INDEX, else `wiki100k` if it exists, else the only one.
    """
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
    if there:
        raise IndexNotFoundError(f"which index? name one with `index`: there are {', '.join(there)}")
    raise none_yet(home)


def none_yet(home: Home) -> IndexNotFoundError:
    """The error for a home without any index."""
    unfinished = home.unfinished()
    if unfinished:
        return IndexNotFoundError(
            f"no finished index in {home.path}; the build of {', '.join(unfinished)} was begun: "
            "give its build command again to go on"
        )
    return IndexNotFoundError(f"no index in {home.path}: build one with `build pydoc`")


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
        raise IndexNotFoundError(
            f"the build of {name} is not finished: give its build command again to go on"
        )
    if not there:
        raise none_yet(home)
    import difflib  # only a wrong name needs it

    near = difflib.get_close_matches(name, there, 1, 0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    raise IndexNotFoundError(f"no index {name}: {guess}there are {', '.join(there)}")


def await_replacement(folder: Path) -> bool:
    """Whether an index that was not there a moment ago is there now, after waiting up to a second.

    Where the system cannot exchange two folders in one step (`writer.place`), the old index is put
    aside before the new one takes its place: only for that instant is it waited for.
    """
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


def remaining_names(folder: Path) -> list[str]:
    """The names in a folder; none if somebody has removed it in this moment."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


class FolderHandle:
    """The folder that a path leads to now, or that there is none.

    It is held open: the number of a folder that was deleted (its inode) may be another's at once, and two
    quick replacements would look like none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        try:
            # O_PATH needs no right to list the folder; where there is none, O_RDONLY has to do.
            self._handle = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        except OSError as error:
            if (limit := exhausted(error)) is not None:
                raise limit from None
        else:
            self._release = weakref.finalize(self, os.close, self._handle)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to that very folder."""
        if self._handle is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Hold it no longer."""
        if self._handle is not None:
            self._handle = None
            self._release()
