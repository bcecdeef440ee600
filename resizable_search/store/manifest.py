"""The manifest: what an index is made of, written last and checked first.

It is one JSON object that carries a checksum of itself. Whatever cannot be read as one, or was
written by a newer format, is an IndexFormatError that says what to do. Secrets never enter it.

Whether what a manifest's file holds makes sense: each field by itself, and what they say together.

The checksum tells that it is what somebody wrote, not that it was us. What is found here is refused
before anything is opened, measured or deleted by it.
"""

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search import __version__
from resizable_search.errors import IndexFormatError
from resizable_search.specs import Checkpoint
from resizable_search.store.layout import NAMES
from resizable_search.system import Failpoint, failpoint, replace_file, unreadable
from resizable_search.text import BACK, clipped, quoted

MOST = 2**62
"""Above any number of rows, bytes or changes."""

MOST_DEEP = 40
"""Lists and objects in one another: corpora and embedders keep a few, and Python copies some hundred."""

LONGEST_PATH = 1000
"""Bytes of a file's path inside the index."""

_FIELDS: Mapping[str, type] = {
    "format": int,
    "generation": int,
    "rows": int,
    "dims": list,
    "corpus": dict,
    "label": str,
    "source": dict,
    "embedder": dict,
    "parts": list,
    "files": dict,
    "plans": dict,
    "created": str,
    "changed": str,
    "written_by": str,
}
_SOURCE: Mapping[str, type] = {"read": int, "inside": int, "left_out": int, "exhausted": bool, "last_id": str}
_PART: Mapping[str, type] = {"path": str, "rows": int, "files": dict, "deleted": int, "bitmap": str}
_ENTRY: Mapping[str, type] = {"bytes": int, "sha256": str}

_WORDS: Mapping[type, str] = {
    int: "whole number of 0 or more",
    str: "text",
    bool: "true or false",
    list: "list",
    dict: "object",
}
_PATH = re.compile(rf"(?:{NAMES.parts}/[1-9][0-9]{{0,8}})?", re.ASCII)
_BITMAP = re.compile(r"deleted\.[0-9]{1,19}\.npy", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_manifest(data: Mapping[str, Any]) -> None:
    """Raise ValueError, with what is wrong in a few words, for an object that describes no index."""
    _check_values(data)
    _check_fields(data, _FIELDS, "its")
    _check_fields(data, {"fitted_rows": int}, "its", optional=True)
    _check_fields(data["source"], _SOURCE, "its source's", optional=True)
    if set(data["source"]) - {*_SOURCE, "position"}:
        raise ValueError("its source has a field of another format")
    dims = data["dims"]
    if not all(type(dim) is int and 0 < dim < MOST for dim in dims):
        raise ValueError("its dims are no numbers of 1 or more")
    if not dims or dims != sorted(set(dims)):
        raise ValueError("its dims do not ascend")
    width = data["embedder"].get("width")
    if type(width) is int and width != dims[-1]:
        raise ValueError("its full dimension is not its embedder's width")
    if not data["generation"]:
        raise ValueError("its generation is 0")
    parts = data["parts"]
    for number, part in enumerate(parts, 1):
        _check_part(part, dims, f"part {number}'s")
    if not parts or data["rows"] != sum(part["rows"] for part in parts):
        raise ValueError("its rows do not add up")
    if len({part["path"] for part in parts}) < len(parts):
        raise ValueError("two of its parts are the same")
    if len({part["files"][NAMES.documents]["sha256"] for part in parts}) < len(parts):
        raise ValueError("two of its parts have the same documents")
    for name, entry in data["files"].items():
        path = PurePosixPath(name)
        if (
            len(path.parts) < 2
            or path.parts[0] != NAMES.embedder
            or ".." in path.parts
            or str(path) != name
            or not name.isprintable()
            or len(name.encode()) > LONGEST_PATH
        ):
            raise ValueError(f"it lists {quoted(name)}, which is no file of an index")
        _check_entry(entry, clipped(name))


def _check_values(data: Any) -> None:
    """Refuse numbers that JSON does not have, and nesting that nobody needs."""
    level = [data]
    for _ in range(MOST_DEEP):
        below: list[Any] = []
        for node in level:
            for value in node.values() if isinstance(node, dict) else node:
                if isinstance(value, dict | list):
                    below.append(value)
                elif isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"it holds {value}, which is no number")
        if not below:
            return
        level = below
    raise ValueError(f"it nests more than {MOST_DEEP} deep")


def _check_fields(data: Any, kinds: Mapping[str, type], whose: str, *, optional: bool = False) -> None:
    if type(data) is not dict:
        raise ValueError(f"{whose} fields are no object's")
    for name, kind in kinds.items():
        value = data.get(name)
        if optional and name not in data:
            continue
        # Not isinstance: true and false are integers to it.
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < MOST):
            raise ValueError(f"{whose} {name} is no {_WORDS[kind]}")


def _check_entry(entry: Any, name: str) -> None:
    _check_fields(entry, _ENTRY, f"{name}'s")
    if not _SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{name}'s sha256 is none")


def _check_part(part: Any, dims: list[int], whose: str) -> None:
    _check_fields(part, _PART, whose)
    files, bitmap = part["files"], part["bitmap"]
    if not _PATH.fullmatch(part["path"]):
        raise ValueError(f"{whose} path is {quoted(part['path'])}, which is no folder of an index")
    if not part["rows"]:
        raise ValueError(f"{whose} rows are 0")
    if part["deleted"] > part["rows"] or bool(part["deleted"]) != bool(bitmap):
        raise ValueError(f"{whose} deleted rows make no sense")
    if bitmap and not _BITMAP.fullmatch(bitmap):
        raise ValueError(f"{whose} bitmap is {quoted(bitmap)}, which is none")
    needed = {NAMES.documents, *map(NAMES.vectors, dims), *({bitmap} if bitmap else ())}
    for dim in dims:
        tier = {NAMES.codes(dim), NAMES.steps(dim), NAMES.errors(dim)}
        if tier & set(files):
            needed |= tier
    if lacking := sorted(needed - set(files)):
        raise ValueError(f"it lists no {lacking[0]}")
    if strange := sorted(set(files) - needed - {NAMES.signs(dims[-1])}):
        raise ValueError(f"it lists {quoted(strange[0])}, which is no file of a part")
    for name, entry in files.items():
        _check_entry(entry, name)


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
    source: Checkpoint
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
        replace_file(path, manifest_text(dated.to_json()))
        failpoint(Failpoint.MANIFEST)
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
    source = {name: data["source"][name] for name in Checkpoint.__slots__ if name in data["source"]}
    parts = (
        Part(part["path"], part["rows"], _entries(part["files"]), part["deleted"], part["bitmap"])
        for part in data["parts"]
    )
    return Manifest(
        **{
            **known,
            "dims": tuple(data["dims"]),
            "source": Checkpoint(**source),
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
