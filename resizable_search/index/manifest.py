"""The manifest: what an index is made of, written last and checked first.

It is one JSON object that carries a checksum of itself. Whatever cannot be read as one, or was
written by a newer format, is an IndexFormatError that says what to do. Secrets never enter it.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search import __version__
from resizable_search.errors import IndexFormatError
from resizable_search.index.layout import NAMES
from resizable_search.index.sense import check_manifest
from resizable_search.index.steps import Step, reached
from resizable_search.index.storage import replace_file, unreadable
from resizable_search.wording import BACK, clipped

FORMAT_VERSION = 1
MOST_BYTES = 16_000_000
"""Of a manifest: it has a few kB, and some hundred bytes for each file. Parsed, it takes many times that."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """The size in bytes and the SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable part: its folder inside the index ('' for the top level), rows and files by name.

    `deleted` of its rows are no longer found; `bitmap` names the file that says which, '' if none are.
    """

    path: str
    rows: int
    files: Mapping[str, FileEntry]
    deleted: int = 0
    bitmap: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the corpus was left, so that a larger limit can go on.

    `read` source rows in all, the last of them `last_id`; the stream is reopened at `position` and
    `inside` more are passed over, the last of which must be that one; `exhausted`: it had ended there;
    `left_out` of the rows read have no text or were refused.
    """

    read: int = 0
    position: Any = None
    inside: int = 0
    exhausted: bool = False
    left_out: int = 0
    last_id: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says.

    `corpus` and `embedder` are specs as JSON, from which each is opened again; `dims` ascending, the
    last is the full dimension; `label` names the corpus for people; `files` are those that belong to
    no part (an embedder's state); `plans` are tuned plans by "k:target"; a fitted embedder has learned
    from the first `fitted_rows` rows.
    """

    rows: int
    dims: tuple[int, ...]
    corpus: Mapping[str, Any]
    label: str
    embedder: Mapping[str, Any]
    source: Source
    parts: tuple[Part, ...]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    plans: Mapping[str, Any] = field(default_factory=dict)
    fitted_rows: int = 0
    generation: int = 1
    created: str = ""
    changed: str = ""
    written_by: str = f"resizable_search {__version__}"
    format: int = FORMAT_VERSION

    @property
    def documents(self) -> int:
        """How many documents can be found: the rows less those deleted."""
        return self.rows - sum(part.deleted for part in self.parts)

    @property
    def full_dim(self) -> int:
        """The embedder's width, which is always stored."""
        return self.dims[-1]

    def all_files(self) -> dict[str, FileEntry]:
        """Every file of the index but the manifest, by its path inside the folder."""
        found = dict(self.files)
        for part in self.parts:
            found.update({str(PurePosixPath(part.path) / name): entry for name, entry in part.files.items()})
        return found

    def to_json(self) -> dict[str, Any]:
        """The object as it is written, with its checksum."""
        plain = asdict(self)
        plain["dims"] = list(self.dims)
        plain["parts"] = [asdict(part) for part in self.parts]
        return {**plain, "checksum": _checksum(plain)}

    def next_generation(self, **changes: Any) -> "Manifest":
        """The manifest that follows this one, with these changes.

        Tuned plans were measured on these very parts, and go when the parts change.
        """
        if "parts" in changes:
            changes = {"plans": {}, **changes}
        return replace(
            self, generation=self.generation + 1, written_by=f"resizable_search {__version__}", **changes
        )

    def write(self, folder: Path) -> "Manifest":
        """Put the manifest in place by rename, dated now; a reader sees the old one or the one returned."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        dated = replace(self, created=self.created or now, changed=now)
        path = folder / NAMES.manifest
        replace_file(path, manifest_text(dated.to_json()), lambda: reached(Step.MANIFEST_BESIDE))
        reached(Step.MANIFEST)
        return dated


def manifest_text(data: Mapping[str, Any]) -> bytes:
    """A manifest's object as its file holds it: another text of the same object is not as it was written."""
    return json.dumps(data, indent=1, ensure_ascii=True).encode("ascii")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index's folder. Raises IndexFormatError."""
    path = folder / NAMES.manifest
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _damaged(path, "it is no file")
        if found.st_size > MOST_BYTES:
            raise _damaged(path, f"it has {found.st_size:,} bytes")
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise IndexFormatError(
            f"{folder} is not an index: it has no {NAMES.manifest}; build it again, or name another folder"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(data, dict) or type(data.get("format")) is not int or data["format"] < 1:
        raise _damaged(path, "it is no rsearch manifest")
    if data["format"] > FORMAT_VERSION:
        raise IndexFormatError(
            f"{folder} has format {clipped(str(data['format']))}, and this rsearch reads up to "
            f"{FORMAT_VERSION}: upgrade with `pip install -U resizable_search`"
        )
    checksum = data.pop("checksum", None)
    try:
        if checksum != _checksum(data):
            raise _damaged(path, "its checksum does not match")
        check_manifest(data)
    except RecursionError:
        raise _damaged(path, "it nests too deep") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return _parsed(data)


def file_entry(path: Path) -> FileEntry:
    """Measure a file: its size and its SHA-256."""
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _parsed(data: Mapping[str, Any]) -> Manifest:
    """The manifest of an object that makes sense."""
    known = {name: data[name] for name in Manifest.__slots__ if name in data}
    source = {name: data["source"][name] for name in Source.__slots__ if name in data["source"]}
    parts = (
        Part(part["path"], part["rows"], _entries(part["files"]), part["deleted"], part["bitmap"])
        for part in data["parts"]
    )
    return Manifest(
        **{
            **known,
            "dims": tuple(data["dims"]),
            "source": Source(**source),
            "parts": tuple(parts),
            "files": _entries(data["files"]),
        }
    )


def _entries(data: Mapping[str, Any]) -> dict[str, FileEntry]:
    return {name: FileEntry(entry["bytes"], entry["sha256"]) for name, entry in data.items()}


def _checksum(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, why: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged ({why}): {BACK}")
