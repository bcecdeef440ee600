"""The manifest: what an index is made of, written last and checked first.

It is one JSON object that carries a checksum of itself. Whatever cannot be read as one, or was
written by a newer format, is an IndexFormatError that says what to do. Secrets never enter it.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search import __version__
from resizable_search.errors import IndexFormatError
from resizable_search.index.layout import NAMES
from resizable_search.index.steps import Step, reached

FORMAT_VERSION = 1
MOST_BYTES = 64_000_000
"""Of a manifest: it has a few kB, and some hundred bytes for each file."""


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
        temporary = folder / f"{NAMES.manifest}.new"
        with temporary.open("wb") as file:
            file.write(manifest_text(dated.to_json()))
            file.flush()
            os.fsync(file.fileno())
        reached(Step.MANIFEST_BESIDE)
        temporary.replace(folder / NAMES.manifest)
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
        raise IndexFormatError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise _damaged(path, "it is no rsearch manifest")
    if data["format"] > FORMAT_VERSION:
        raise IndexFormatError(
            f"{folder} has format {data['format']}, and this rsearch reads up to {FORMAT_VERSION}: "
            "upgrade with `pip install -U resizable_search`"
        )
    checksum = data.pop("checksum", None)
    try:
        if checksum != _checksum(data):
            raise _damaged(path, "its checksum does not match")
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def file_entry(path: Path) -> FileEntry:
    """Measure a file: its size and its SHA-256."""
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _parse(data: Mapping[str, Any]) -> Manifest:
    parts = tuple(
        Part(str(p["path"]), int(p["rows"]), _entries(p["files"]), int(p["deleted"]), str(p["bitmap"]))
        for p in data["parts"]
    )
    known = {name: data[name] for name in Manifest.__slots__ if name in data}
    manifest = Manifest(
        **{
            **known,
            "dims": tuple(int(dim) for dim in data["dims"]),
            "source": Source(**data["source"]),
            "parts": parts,
            "files": _entries(data["files"]),
        }
    )
    for name, kind in _KINDS.items():
        if not isinstance(getattr(manifest, name), kind):
            raise TypeError(f"its {name} is no {kind.__name__}")
    for name in ("read", "inside", "left_out"):
        if not isinstance(getattr(manifest.source, name), int):
            raise TypeError(f"its source's {name} is no number")
    dims = manifest.dims
    if not dims or dims[0] < 1 or list(dims) != sorted(set(dims)):
        raise ValueError("its dimensions make no sense")
    if manifest.rows != sum(part.rows for part in parts) or not parts:
        raise ValueError("its rows do not add up")
    for name in manifest.all_files():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not name.isprintable():
            raise ValueError("it names a file outside its folder")
    for part in parts:
        lacking = {NAMES.documents, *(NAMES.vectors(dim) for dim in dims)} - set(part.files)
        if lacking:
            raise ValueError(f"it lists no {sorted(lacking)[0]}")
        if not 0 <= part.deleted <= part.rows or bool(part.deleted) != (part.bitmap in part.files):
            raise ValueError("its deleted rows make no sense")
    return manifest


_KINDS = {
    "rows": int,
    "corpus": dict,
    "label": str,
    "embedder": dict,
    "plans": dict,
    "fitted_rows": int,
    "generation": int,
    "created": str,
    "changed": str,
    "written_by": str,
}
"""What the plain fields must be: a manifest that was written by hand may hold anything."""


def _entries(data: Mapping[str, Any]) -> dict[str, FileEntry]:
    return {str(name): FileEntry(int(e["bytes"]), str(e["sha256"])) for name, e in data.items()}


def _checksum(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, why: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged ({why}): build the index again with --restart")
