"""Check that an index's files are as they were written and agree, and rebuild damaged derived files.

First the bytes of every file are checked (size, SHA-256), then the contents of the sound (SQLite's integrity,
the number of documents, unit rows, deletions, and derived files bit for bit), some blocks of rows at a time.
A rebuilt file that is not what the manifest lists is discarded: then the vectors or the manifest are wrong.
"""

import hashlib
import json
import sqlite3
import stat
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resizable_search.arrays import map_array, read_blocks, read_shape, read_slice
from resizable_search.engine.vectors import UNIT_TOLERANCE, Floats, norms
from resizable_search.errors import IndexFormatError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.documents import ROWS_AT_ONCE, allowed_rows, connect, read_documents
from resizable_search.store.layout import NAMES, Home, hold_lock, resolve_index, state_of
from resizable_search.store.lexical import derive_lexical, lexical_files
from resizable_search.store.manifest import (
    FileEntry,
    Manifest,
    Part,
    file_entry,
    manifest_text,
    read_manifest,
)
from resizable_search.store.writer import derive, derived_files, derived_slices, list_files, mean_of_rows
from resizable_search.system import exhausted, remove_folder, replace_file, storage_errors, sync_folder
from resizable_search.text import BACK, clipped, counted

SAMPLED_ROWS = 4096  # of a part, whose derived files are compared, unless all are
SAMPLED_AT_ONCE = 64  # of them are neighbours
CHUNK = 1 << 20  # bytes read at once for a checksum


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file by its path inside the index's folder, its kind, and what is wrong."""

    file: str
    kind: str  # manifest, vectors, derived, documents, deletions or embedder
    wrong: str


@dataclass(frozen=True, slots=True)
class Repair:
    """The files that were rebuilt, and what to do about each that could not be, by its path."""

    mended: list[str]
    lost: dict[str, str]


def examine(
    folder: Path, manifest: Manifest, *, full: bool = False, progress: Progress = SILENT
) -> Iterator[Damage]:
    """Every damaged file of an index, each once; derived files by a sample of their rows unless `full`."""
    return _Examination(folder, manifest, full, progress).run()


@dataclass(slots=True)
class _Examination:
    folder: Path
    manifest: Manifest
    full: bool
    progress: Progress
    bad: set[str] = field(default_factory=set)  # the files whose bytes are not as they were written

    def run(self) -> Iterator[Damage]:
        manifest, progress = self.manifest, self.progress
        written = (self.folder / NAMES.manifest).read_bytes()
        if written != manifest_text(json.loads(written)):
            yield Damage(NAMES.manifest, "manifest", "its bytes are not as they were written")
        unread = {part.file(NAMES.signs(manifest.full_dim)) for part in manifest.parts}
        files = {file: entry for file, entry in manifest.all_files().items() if file not in unread}
        progress.stage("reading", sum(-(-entry.bytes // CHUNK) for entry in files.values()), "MiB")
        for file, entry in files.items():
            if wrong := self._wrong_bytes(self.folder / file, entry):
                self.bad.add(file)
                yield self._damage(file, wrong)
        mean = self.mean(self.bad)
        progress.stage("looking at rows", manifest.rows, "rows")
        for part in manifest.parts:
            for name, wrong in self._part(part, mean):
                yield self._damage(part.file(name), wrong)

    def _damage(self, file: str, wrong: str) -> Damage:
        kinds = {NAMES.vectors(self.manifest.full_dim): "vectors", NAMES.documents: "documents"}
        kinds.update((part.bitmap, "deletions") for part in self.manifest.parts)
        kind = "embedder" if file in self.manifest.files else kinds.get(PurePosixPath(file).name, "derived")
        return Damage(file, kind, wrong)

    def _wrong_bytes(self, path: Path, entry: FileEntry) -> str:
        """What is wrong with the bytes of a file; '' if nothing is."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return "it is not a file"
            if status.st_size != entry.bytes:
                return f"it has {status.st_size:,} bytes where {entry.bytes:,} belong"
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    self.progress.advance(1)
        except FileNotFoundError:
            return "it is missing"
        except OSError as error:
            if (limit := exhausted(error)) is not None:
                raise limit from None  # which says nothing of the file
            return f"it cannot be read ({error.strerror})"
        return "" if digest.hexdigest() == entry.sha256 else "its SHA-256 is not that of what was written"

    def _part(self, part: Part, mean: Floats | None) -> Iterator[tuple[str, str]]:
        """What is wrong with the contents of a part's files, but those in `bad`: name and words."""
        inside, dims = self.folder / part.path, self.manifest.dims
        sound = {name for name in part.files if part.file(name) not in self.bad}
        shapes = derived_files(part.rows, dims)
        arrays = {**shapes, **lexical_files(part)}
        for name in sorted(sound & arrays.keys()):
            shape, dtype = arrays[name]
            try:
                map_array(inside / name, shape, dtype)
            except IndexFormatError:
                sound.discard(name)
                yield name, f"it is no .npy file of {np.dtype(dtype)} {shape}"
        if NAMES.documents in sound:
            if wrong := _wrong_documents(inside / NAMES.documents, part.rows):
                yield NAMES.documents, wrong
            elif self.full and sound.issuperset(NAMES.lexical):
                for name in self._other_words(part):
                    yield name, "it does not follow from the documents"
        if part.bitmap in sound:
            try:
                allowed_rows(inside, part)
            except IndexFormatError:
                deleted = f"{part.rows:,} rows with {part.deleted:,} of them deleted"
                yield part.bitmap, f"it is no bitmap of {deleted}"
        rows = NAMES.vectors(dims[-1])
        if rows not in sound:
            return
        if wrong := self._wrong_rows(inside / rows):
            yield rows, wrong
            return
        left = {name: shapes[name] for name in sound & shapes.keys() if name != rows}
        if self.full:
            self.progress.stage("deriving", part.rows, "rows")
        blocks = read_blocks if self.full else _sample
        for start, block in blocks(inside / rows):
            for name, values, at in derived_slices(start, block, part.rows, dims, left.keys(), mean):
                if name in left:
                    held = read_slice(inside / name, *left[name], at, values.size)
                    if held.tobytes() != np.ascontiguousarray(values, held.dtype).tobytes():
                        yield name, "it does not follow from the full vectors"
                        del left[name]
            if self.full:
                self.progress.advance(len(block))

    def mean(self, bad: Container[str]) -> Floats | None:
        """The mean that codes are made with; if `full`, from the rows. None if what tells it is in `bad`."""
        width, parts = self.manifest.full_dim, self.manifest.parts
        name, rows = NAMES.mean(width), parts[0].file(NAMES.vectors(width))
        if self.full and rows not in bad and any(name in part.files for part in parts):
            return mean_of_rows(self.folder / rows)
        for part in parts:
            if name in part.files and part.file(name) not in bad:
                return read_slice(self.folder / part.file(name), (width,), "<f4", 0, width)
        return None

    def _other_words(self, part: Part) -> list[str]:
        """The files of the lexical tier that are not what the documents give."""
        with (
            storage_errors(Path(tempfile.gettempdir()), again=lambda: "verify again"),
            tempfile.TemporaryDirectory() as made,
        ):
            names = derive_lexical(self.folder / part.path, Path(made), part.rows, self.progress)
            new = list_files(Path(made), names)
        return [name for name in NAMES.lexical if new.get(name) != part.files[name]]

    def _wrong_rows(self, path: Path) -> str:
        for start, block in read_blocks(path):
            lengths = norms(block)
            # NaN is near neither; infinity overflows nothing here, as lengths are float64.
            odd = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths <= UNIT_TOLERANCE)))
            if len(odd):
                return f"row {start + odd[0]} has length {lengths[odd[0]]:.6g}, neither 1 nor 0"
            self.progress.advance(len(block))
        return ""

    def rebuild(
        self, part: Part, made: Path, kinds: Mapping[str, str], mean: Floats | None, done: Repair
    ) -> None:
        """Derive the damaged derived files of a part again, in the folder `made`, and put them in place."""
        names = []
        for name in part.files:
            file = part.file(name)
            source, words = NAMES.vectors(self.manifest.full_dim), "full vectors"
            if name in NAMES.lexical:
                source, words = NAMES.documents, "documents"
            if kinds.get(file) != "derived":
                continue
            if part.file(source) in kinds:
                done.lost[file] = f"the {words} that it follows from are damaged: {BACK}"
            elif _is_blocked(self.folder.resolve() / file):
                done.lost[file] = "something else lies in its place: move it away, and repair it again"
            else:
                names.append(name)
                done.lost[file] = f"the {words} or the manifest are another index's: {BACK}"
        remove_folder(made)
        made.mkdir()
        dims, folder = self.manifest.dims, self.folder / part.path
        for name in derive(folder, made, part.rows, dims, names, mean, self.progress):
            if name in names and file_entry(made / name) == part.files[name]:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                (made / name).replace(path)
                done.mended.append(part.file(name))
                del done.lost[part.file(name)]
        remove_folder(made)


def _wrong_documents(path: Path, rows: int) -> str:
    """What is wrong with a file of documents whose bytes are as written; '' if nothing is."""
    try:
        with closing(connect(path, rows)) as db:
            (outcome,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if outcome != "ok":
                return f"SQLite finds it damaged ({clipped(str(outcome))})"
            for start in range(0, rows, ROWS_AT_ONCE):
                read_documents(db, range(start, min(start + ROWS_AT_ONCE, rows)), rows)
    except sqlite3.Error as error:
        return f"SQLite cannot read it ({clipped(str(error))})"
    except (OSError, ValueError, RecursionError) as error:
        return clipped(str(error))
    return ""


def _sample(path: Path) -> Iterator[tuple[int, Floats]]:
    """Random blocks of the rows of a file; all rows of a small one."""
    n, dim = read_shape(path)
    if n <= SAMPLED_ROWS:
        yield from read_blocks(path)
        return
    count = SAMPLED_ROWS // SAMPLED_AT_ONCE
    blocks = np.random.default_rng().choice(n // SAMPLED_AT_ONCE, count, replace=False)
    for start in sorted(int(number) * SAMPLED_AT_ONCE for number in blocks):
        yield start, read_slice(path, (n, dim), "<f4", start * dim, SAMPLED_AT_ONCE * dim).reshape(-1, dim)


def repair(name: str, home: Home, progress: Progress = SILENT) -> Repair:
    """Rebuild damaged derived files of an index, each in one step. Raises IndexBusyError, StorageError."""
    folder = resolve_index(name, home)
    done = Repair([], {})
    with hold_lock(folder) as own_home:
        made = own_home.state(folder.resolve().name) / "repaired"
        manifest = read_manifest(folder)
        examination = _Examination(folder, manifest, True, progress)
        kinds = {damage.file: damage.kind for damage in examination.run()}
        if NAMES.manifest in kinds:  # its content is sound: only the text differs
            path = folder / NAMES.manifest
            replace_file(path, manifest_text(json.loads(path.read_bytes())))
            done.mended.append(NAMES.manifest)
        done.lost.update((file, BACK) for file, kind in kinds.items() if kind not in ("manifest", "derived"))
        if "derived" in kinds.values():
            progress.stage("deriving", manifest.rows, "rows")
        mean = examination.mean(kinds)
        for part in manifest.parts:
            examination.rebuild(part, made, kinds, mean, done)
        sync_folder(folder)
    verify(name, home, progress=progress)
    return done


def _is_blocked(path: Path) -> bool:
    """Whether a file cannot be put at this path, or would become another index's through a link."""
    is_linked = path.parent.resolve() != path.parent
    is_folder = path.is_dir() and not path.is_symlink()
    return is_linked or is_folder or any(above.exists() and not above.is_dir() for above in path.parents)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked (of derived files a sample unless `full`), when (UTC), and the damaged files."""

    index: str
    folder: str
    files: int
    bytes: int
    full: bool
    when: str
    damaged: tuple[Damage, ...]


def verify(name: str, home: Home, *, full: bool = False, progress: Progress = SILENT) -> Verified:
    """Check every file of an index. Raises IndexFormatError if its manifest cannot be read."""
    folder = resolve_index(name, home)
    manifest = read_manifest(folder)
    damaged = tuple(examine(folder, manifest, full=full, progress=progress))
    files = manifest.all_files()
    name, size = folder.resolve().name, sum(entry.bytes for entry in files.values())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    outcome = Verified(name, str(folder), len(files) + 1, size, full, now, damaged)
    record = {**asdict(outcome), "damaged": len(damaged)}
    record["manifest"] = file_entry(folder / NAMES.manifest).sha256
    with suppress(OSError):  # where it cannot be written, no time is shown later
        path = state_of(folder, NAMES.verified)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
    return outcome


def last_verified(folder: Path) -> str:
    """When an index was last verified, and the outcome, in words."""
    try:
        record: Mapping[str, Any] = json.loads(state_of(folder, NAMES.verified).read_bytes())
        is_same = record["manifest"] == file_entry(folder / NAMES.manifest).sha256
        damaged = int(record["damaged"])
        when, rows = str(record["when"]), "all rows" if record["full"] else "a sample of the rows"
    except (OSError, ValueError, KeyError, TypeError):
        return "never"
    if not is_same:
        return f"{when}, before it last changed"
    return f"{when}, {counted(damaged, 'damaged file') if damaged else f'all sound, {rows}'}"
