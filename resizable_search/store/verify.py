"""Check that an index's files are as they were written, and that their contents agree.

Nothing is written, and only some blocks of rows are in memory. Each damaged file is reported once, with the
first error: first the bytes of every file (size, SHA-256), then the contents (SQLite's integrity, the number
of documents, unit rows, deletions, and derived files bit for bit).
"""

import hashlib
import json
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import map_array, read_blocks, read_slice
from resizable_search.engine.vectors import UNIT_TOLERANCE, norms
from resizable_search.errors import IndexFormatError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.documents import ROWS_AT_ONCE, allowed_rows, connect, read_some
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import FileEntry, Manifest, Part, manifest_text
from resizable_search.store.writer import derived_files, derived_slices
from resizable_search.system import exhausted
from resizable_search.text import clipped

SAMPLED_ROWS = 4096  # of a part, whose derived files are compared, unless all are
SAMPLED_AT_ONCE = 64  # of them are neighbours
CHUNK = 1 << 20  # bytes read at once for a checksum


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file by its path inside the index's folder, its kind, and what is wrong.

    Kinds: manifest, vectors, derived, documents, deletions, embedder.
    """

    file: str
    kind: str
    wrong: str


def _damage(file: str, wrong: str, manifest: Manifest) -> Damage:
    """The damage of a file that the manifest lists, with its kind."""
    kinds = {NAMES.vectors(manifest.full_dim): "vectors", NAMES.documents: "documents"}
    kinds.update((part.bitmap, "deletions") for part in manifest.parts)
    return Damage(
        file, "embedder" if file in manifest.files else kinds.get(PurePosixPath(file).name, "derived"), wrong
    )


def examine(
    folder: Path, manifest: Manifest, *, full: bool = False, progress: Progress = SILENT
) -> Iterator[Damage]:
    """Every damaged file of an index, each once. `manifest` is that of `folder`.

    With `full` every row of derived files is compared, else a random sample.
    """
    written = (folder / NAMES.manifest).read_bytes()
    if written != manifest_text(json.loads(written)):
        yield Damage(NAMES.manifest, "manifest", "its bytes are not as they were written (its content is)")
    bad: set[str] = set()
    files = manifest.all_files()
    progress.stage("reading", sum(-(-entry.bytes // CHUNK) for entry in files.values()), "MiB")
    for file, entry in files.items():
        if wrong := _wrong_bytes(folder / file, entry, progress):
            bad.add(file)
            yield _damage(file, wrong, manifest)
    progress.stage("looking at rows", manifest.rows, "rows")
    for part in manifest.parts:
        for name, wrong in _part(folder, part, manifest, bad, full=full, progress=progress):
            file = str(PurePosixPath(part.path) / name)
            if file not in bad:
                bad.add(file)
                yield _damage(file, wrong, manifest)


def _wrong_bytes(path: Path, entry: FileEntry, progress: Progress) -> str:
    """What is wrong with the bytes of a file; '' if nothing is."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "it is not a file"
        if found.st_size != entry.bytes:
            return f"it has {found.st_size:,} bytes where {entry.bytes:,} belong"
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                progress.advance(1)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        if (limit := exhausted(error)) is not None:
            raise limit from None  # which says nothing of the file
        return f"it cannot be read ({error.strerror})"
    return "" if digest.hexdigest() == entry.sha256 else "its SHA-256 is not that of what was written"


def _part(
    folder: Path, part: Part, manifest: Manifest, bad: set[str], *, full: bool, progress: Progress
) -> Iterator[tuple[str, str]]:
    """What is wrong with the contents of a part's files, but those in `bad`: name and words."""
    inside = folder / part.path
    sound = {name for name in part.files if str(PurePosixPath(part.path) / name) not in bad}
    shapes = derived_files(part.rows, manifest.dims)
    for name in sorted(sound & set(shapes)):
        shape, dtype = shapes[name]
        try:
            map_array(inside / name, shape, dtype)
        except IndexFormatError:
            sound.discard(name)
            yield name, f"it is no .npy file of {np.dtype(dtype)} {shape}"
    if NAMES.documents in sound and (wrong := _wrong_documents(inside / NAMES.documents, part.rows)):
        yield NAMES.documents, wrong
    if part.bitmap in sound:
        try:
            allowed_rows(inside, part)
        except IndexFormatError:
            yield part.bitmap, f"it is no bitmap of {part.rows:,} rows with {part.deleted:,} of them deleted"
    rows = NAMES.vectors(manifest.full_dim)
    if rows not in sound:
        return
    if wrong := _wrong_rows(inside / rows, progress):
        yield rows, wrong
        return
    derived = {name: shapes[name] for name in sound & set(shapes) if name != rows}
    yield from _underived(inside, part.rows, manifest.dims, derived, full=full, progress=progress)


def _wrong_documents(path: Path, rows: int) -> str:
    """What is wrong with a file of documents whose bytes are as written; '' if nothing is."""
    try:
        with closing(connect(path, rows)) as db:
            (outcome,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if outcome != "ok":
                return f"SQLite finds it damaged ({clipped(str(outcome))})"
            for start in range(0, rows, ROWS_AT_ONCE):
                read_some(db, range(start, min(start + ROWS_AT_ONCE, rows)), rows)
    except sqlite3.Error as error:
        return f"SQLite cannot read it ({clipped(str(error))})"
    except (OSError, ValueError, RecursionError) as error:
        return clipped(str(error))
    return ""


def _wrong_rows(path: Path, progress: Progress) -> str:
    for start, block in read_blocks(path):
        lengths = norms(block)
        # NaN is near neither; infinity overflows nothing here, as lengths are float64.
        odd = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths <= UNIT_TOLERANCE)))
        if len(odd):
            return f"row {start + odd[0]} has length {lengths[odd[0]]:.6g}, neither 1 nor 0"
        progress.advance(len(block))
    return ""


def _underived(
    folder: Path,
    n: int,
    dims: tuple[int, ...],
    files: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    full: bool,
    progress: Progress,
) -> Iterator[tuple[str, str]]:
    """The derived files among `files` that differ from what the full rows give."""
    left = dict(files)
    if full:
        progress.stage("deriving", n, "rows")
    blocks = read_blocks(folder / NAMES.vectors(dims[-1])) if full else _sample(folder, n, dims[-1])
    for start, block in blocks:
        for name, values, at in derived_slices(start, block, n, dims, left):
            held = read_slice(folder / name, *left[name], at, values.size)
            if held.tobytes() != np.ascontiguousarray(values, held.dtype).tobytes():
                yield name, "it does not follow from the full vectors"
                del left[name]
        if full:
            progress.advance(len(block))


def _sample(folder: Path, n: int, dim: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Random blocks of rows; all rows of a small part."""
    path = folder / NAMES.vectors(dim)
    if n <= SAMPLED_ROWS:
        yield from read_blocks(path)
        return
    starts = np.random.default_rng().choice(
        n // SAMPLED_AT_ONCE, SAMPLED_ROWS // SAMPLED_AT_ONCE, replace=False
    )
    for start in sorted(int(number) * SAMPLED_AT_ONCE for number in starts):
        yield start, read_slice(path, (n, dim), "<f4", start * dim, SAMPLED_AT_ONCE * dim).reshape(-1, dim)
