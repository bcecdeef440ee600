"""Where everything lies: each file name of the on-disk format, once."""

import os
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import StorageError, UsageError

HOME_VARIABLE = "RSEARCH_HOME"
ANOTHER_HOME = f"choose another home with --home or ${HOME_VARIABLE}"


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
    serving: str = "serve.lock"
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
        """Where a running service answers the command line; `serving` beside it is its lock."""
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
