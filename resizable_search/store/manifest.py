"""The manifest: what an index consists of, written last and checked first.

It is one JSON object with a checksum of itself. `Manifest` declares its fields; `from_json` checks them one
by one, `_check` what they say together: nothing is opened or deleted by a manifest that makes no sense.
Secrets never enter it.
"""

import hashlib
import json
import math
import re
import stat
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search import __version__
from resizable_search.errors import IndexFormatError
from resizable_search.specs import Checkpoint, from_json
from resizable_search.store.layout import NAMES, Failpoint, failpoint
from resizable_search.system import replace_file, unreadable
from resizable_search.text import BACK, clipped, listed, quoted

FORMAT_VERSION = 2

MOST_BYTES = 16_000_000  # of a manifest, which has some kB. Parsed, it takes many times that
MOST = 2**62  # above any number of rows, bytes or changes
MOST_DEEP = 40  # lists and objects in one another: a few are needed, and Python copies some hundred
LONGEST_PATH = 1000  # bytes of a file's path inside the index

_PATH = re.compile(rf"(?:{NAMES.parts}/[1-9][0-9]{{0,8}})?", re.ASCII)
_BITMAP = re.compile(r"deleted\.[0-9]{1,19}\.npy", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """The size in bytes and the SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable part of an index, with its files by name."""

    path: str  # its folder inside the index; '' for the top level
    rows: int
    files: Mapping[str, FileEntry]
    deleted: int = 0
    bitmap: str = ""  # the file that marks the `deleted` rows; '' if there are none

    def file(self, name: str) -> str:
        """The path of one of its files inside the index."""
        return str(PurePosixPath(self.path) / name)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The fields of `manifest.json`, in the order in which they are written."""

    rows: int
    dims: tuple[int, ...]  # ascending; the last is the full dimension
    corpus: Mapping[str, Any]  # its spec as JSON
    label: str  # the name of the corpus for people
    embedder: Mapping[str, Any]  # its spec as JSON
    source: Checkpoint
    parts: tuple[Part, ...]
    files: Mapping[str, FileEntry] = field(default_factory=dict)  # of no part: an embedder's state
    plans: Mapping[str, Any] = field(default_factory=dict)  # tuned plans by "k:target"
    mode: Mapping[str, Any] = field(default_factory=dict)  # a tuned mode (`tuned_plans.DefaultMode`)
    fitted_rows: int = 0  # the first rows, from which a fitted embedder has learned
    generation: int = 1
    created: str = ""
    changed: str = ""
    written_by: str = f"resizable_search {__version__}"
    format: int = FORMAT_VERSION

    @property
    def documents(self) -> int:
        """The number of documents that can be found: the rows but those deleted."""
        return self.rows - sum(part.deleted for part in self.parts)

    @property
    def full_dim(self) -> int:
        """The embedder's width, which is always stored."""
        return self.dims[-1]

    @property
    def state(self) -> str:
        """What differs after every change of the index, and after it is built again."""
        documents = self.parts[-1].files[NAMES.documents].sha256
        whole = f"{self.changed} {self.dims} {self.rows} {documents}"
        return f"{self.generation}-{zlib.crc32(whole.encode()):08x}"

    @property
    def starts(self) -> list[int]:
        """The first row of each part."""
        return [0, *accumulate(part.rows for part in self.parts[:-1])]

    @property
    def followed(self) -> str:
        """What the index is made of: the paths of its files, or the name of its corpus."""
        return listed([path for path in self.corpus.get("paths", ()) if path != "-"] or [self.label], 3)

    def all_files(self) -> dict[str, FileEntry]:
        """Every file of the index but the manifest, by its path inside the folder."""
        files = dict(self.files)
        for part in self.parts:
            files.update({part.file(name): entry for name, entry in part.files.items()})
        return files

    def to_json(self) -> dict[str, Any]:
        """The object as it is written, with its checksum."""
        plain = asdict(self)
        return {**plain, "checksum": _checksum(plain)}

    def next_generation(self, **changes: Any) -> "Manifest":
        """The manifest that follows this one; tuned plans go when the parts change."""
        if changes.get("parts", self.parts) != self.parts:
            changes = {"plans": {}, "mode": {}, **changes}
        changes = {"format": FORMAT_VERSION, "written_by": f"resizable_search {__version__}", **changes}
        return replace(self, generation=self.generation + 1, **changes)

    def write(self, folder: Path) -> "Manifest":
        """Replace the manifest of `folder` in one step. Returns it as written, with the time."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        dated = replace(self, created=self.created or now, changed=now)
        replace_file(folder / NAMES.manifest, manifest_text(dated.to_json()))
        failpoint(Failpoint.MANIFEST)
        return dated


def manifest_text(data: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest's file. Another text of the same object is not as it was written."""
    return json.dumps(data, indent=1, ensure_ascii=True).encode("ascii")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index's folder. Raises IndexFormatError."""
    path = folder / NAMES.manifest
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise damaged(path, "it is not a file")
        if status.st_size > MOST_BYTES:
            raise damaged(path, f"it has {status.st_size:,} bytes")
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        none = f"{folder} is not an index: it has no {NAMES.manifest}"
        raise IndexFormatError(f"{none}; build it again, or name another folder") from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise damaged(path, "it is not JSON") from None
    if not isinstance(data, dict) or type(data.get("format")) is not int or data["format"] < 1:
        raise damaged(path, "it is no rsearch manifest")
    if data["format"] > FORMAT_VERSION:
        newer = f"format {clipped(str(data['format']))}, and this rsearch reads up to {FORMAT_VERSION}"
        raise IndexFormatError(f"{folder} has {newer}: upgrade with `pip install -U resizable_search`")
    try:
        _check_values(data)
        if data.pop("checksum", None) != _checksum(data):
            raise ValueError("its checksum does not match")
        if set(data.get("source") or ()) - set(Checkpoint.__slots__):
            raise ValueError("its source has a field of another format")
        manifest: Manifest = from_json(Manifest, data)
        _check(manifest)
    except (TypeError, ValueError) as error:
        raise damaged(path, str(error)) from None
    return manifest


def file_entry(path: Path) -> FileEntry:
    """Measure a file: its size and its SHA-256."""
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _check_values(value: Any, depth: int = 0) -> None:
    """Refuse numbers that JSON does not have, and nesting that nothing needs."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"it holds {value}, which is no number")
    if isinstance(value, dict | list):
        if depth >= MOST_DEEP:
            raise ValueError(f"it nests more than {MOST_DEEP} deep")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_values(inner, depth + 1)


def _check(manifest: Manifest) -> None:
    dims, parts, source = manifest.dims, manifest.parts, manifest.source
    numbers = [manifest.rows, manifest.generation, manifest.fitted_rows, *dims]
    if max(*numbers, source.read, source.inside, source.left_out) >= MOST:
        raise ValueError("a number of it is too large")
    if not dims or list(dims) != sorted(set(dims)) or not dims[0]:
        raise ValueError("its dims do not ascend from 1 or more")
    width = manifest.embedder.get("width")
    if type(width) is int and width != dims[-1]:
        raise ValueError("its full dimension is not its embedder's width")
    if not manifest.generation:
        raise ValueError("its generation is 0")
    for number, part in enumerate(parts, 1):
        _check_part(part, dims, f"part {number}'s")
    if not parts or manifest.rows != sum(part.rows for part in parts):
        raise ValueError("its rows do not add up")
    if len({part.path for part in parts}) < len(parts):
        raise ValueError("two of its parts are the same")
    if len({part.files[NAMES.documents].sha256 for part in parts}) < len(parts):
        raise ValueError("two of its parts have the same documents")
    for name in manifest.files:
        folder, *inside = PurePosixPath(name).parts or [""]
        is_inside = folder == NAMES.embedder and inside and ".." not in inside
        is_plain = str(PurePosixPath(name)) == name and name.isprintable()
        if not is_inside or not is_plain or len(name.encode()) > LONGEST_PATH:
            raise ValueError(f"it lists {quoted(name)}, which is no file of an index")
    for name, entry in manifest.all_files().items():
        if entry.bytes >= MOST or not _SHA256.fullmatch(entry.sha256):
            raise ValueError(f"its size or SHA-256 of {clipped(name)} is none")


def _check_part(part: Part, dims: tuple[int, ...], whose: str) -> None:
    files, bitmap = part.files, part.bitmap
    if not _PATH.fullmatch(part.path):
        raise ValueError(f"{whose} path is {quoted(part.path)}, which is no folder of an index")
    if not part.rows:
        raise ValueError(f"{whose} rows are 0")
    if part.deleted > part.rows or bool(part.deleted) != bool(bitmap):
        raise ValueError(f"{whose} deleted rows make no sense")
    if bitmap and not _BITMAP.fullmatch(bitmap):
        raise ValueError(f"{whose} bitmap is {quoted(bitmap)}, which is none")
    needed = {NAMES.documents, *map(NAMES.vectors, dims), *({bitmap} if bitmap else ())}
    for tier in (NAMES.lexical, *map(NAMES.tier, dims), *NAMES.short_codes(dims[-1])):
        if set(tier) & set(files):
            needed |= set(tier)
    if lacking := sorted(needed - set(files)):
        raise ValueError(f"it lists no {lacking[0]}")
    if strange := sorted(set(files) - needed - {NAMES.signs(dims[-1])}):
        raise ValueError(f"it lists {quoted(strange[0])}, which is no file of a part")


def _checksum(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def damaged(path: Path, why: object) -> IndexFormatError:
    """The error for a damaged file that cannot be rebuilt."""
    return IndexFormatError(f"{path} is damaged ({why}): {BACK}")
