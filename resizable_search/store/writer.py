"""Write an index: derived files, its folder, further parts and deletions.

New files are written beside the old ones, then the manifest is replaced: readers see all of a change or none
of it. The next change removes what one that failed has left.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter, npy_bytes, read_blocks, read_shape, read_slice
from resizable_search.engine import short_codes, vectors
from resizable_search.engine.scheduling import map_ahead
from resizable_search.engine.short_codes import CODE_ROWS, HEAD, four_bit_width
from resizable_search.engine.vectors import Floats, quantise
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.documents import allowed_rows
from resizable_search.store.layout import NAMES, Failpoint, failpoint
from resizable_search.store.lexical import derive_lexical
from resizable_search.store.manifest import (
    FORMAT_VERSION,
    FileEntry,
    Manifest,
    Part,
    file_entry,
    read_manifest,
)
from resizable_search.system import exchange, remove_folder, sync_folder, thread_count


def derive(
    folder: Path,
    target: Path,
    rows: int,
    dims: Sequence[int],  # ascending
    names: Collection[str],
    mean: Floats | None,  # of the index's first part; None: this is the first part
    progress: Progress = SILENT,
) -> list[str]:
    """Derive files of a part in `folder` into `target`; their names: no lexical tier without a text."""
    made = [name for name in names if name not in NAMES.lexical]
    full = folder / NAMES.vectors(dims[-1])
    shapes = derived_files(rows, dims)
    files: dict[str, NpyWriter] = {}
    if mean is None and not set(chain(*NAMES.short_codes(dims[-1]))).isdisjoint(made):
        mean = mean_of_rows(full)

    def write(numbered: tuple[int, NDArray[np.float32]]) -> int:
        for name, values, at in derived_slices(*numbered, rows, dims, files.keys(), mean):
            if name in files:
                files[name].write(values, at)
        return len(numbered[1])

    with ExitStack() as stack:
        for name in made:
            files[name] = stack.enter_context(NpyWriter(target / name, *shapes[name]))
        for count in map_ahead(write, read_blocks(full) if made else (), thread_count()):
            progress.advance(count)
    return made if len(made) == len(names) else [*made, *derive_lexical(folder, target, rows, progress)]


def derive_missing(index: Path, manifest: Manifest, progress: Progress = SILENT) -> Manifest:
    """Derive the files that parts of an index lack. Returns the manifest that lists them, not written."""
    dims, mean, parts = manifest.dims, mean_of_index(index, manifest), []
    for part in manifest.parts:
        folder, names = index / part.path, [name for name in derived_names(dims) if name not in part.files]
        made = derive(folder, folder, part.rows, dims, names, mean, progress)
        parts.append(replace(part, files={**part.files, **list_files(folder, made)}))
    return replace(manifest, parts=tuple(parts), format=FORMAT_VERSION)


def derived_names(dims: Sequence[int]) -> list[str]:
    """The files of a part that follow from its full vectors and its documents."""
    return [name for name in (*derived_files(0, dims), *NAMES.lexical) if name != NAMES.vectors(dims[-1])]


def mean_of_rows(path: Path) -> Floats:
    """The mean of the rows of a file."""
    sums = map_ahead(lambda block: short_codes.sum_of(block[1]), read_blocks(path), thread_count())
    return short_codes.mean_of(sum(sums), read_shape(path)[0])


def mean_of_index(index: Path, manifest: Manifest) -> Floats:
    """The mean that the one-bit codes of every part are made with, as far as files are sound."""
    full, first = manifest.full_dim, manifest.parts[0]
    if NAMES.mean(full) in first.files:
        return read_slice(index / first.file(NAMES.mean(full)), (full,), "<f4", 0, full)
    return mean_of_rows(index / first.file(NAMES.vectors(full)))


def derived_files(n: int, dims: Sequence[int]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array of a part of n rows, by its file's name."""
    arrays: dict[str, tuple[tuple[int, ...], str]] = {}
    for dim in reversed(dims):
        arrays[NAMES.vectors(dim)] = (n, dim), "<f4"
        codes, steps, errors = NAMES.tier(dim)
        arrays[codes] = (n, dim), "|i1"
        arrays[steps] = arrays[errors] = (n,), "<f4"
    full = dims[-1]
    arrays[NAMES.mean(full)] = (full,), "<f4"
    arrays[NAMES.one_bit(full)] = (-(-n // CODE_ROWS), HEAD + -(-full // 8), CODE_ROWS), "|u1"
    codes, bounds = NAMES.four_bit(full)
    arrays[codes], arrays[bounds] = ((n, four_bit_width(full)), "|u1"), ((2, n), "<f4")
    return arrays


def array_bytes(n: int, dims: Sequence[int]) -> dict[str, int]:
    """The exact size of every array's file of a part of n rows, by its name."""
    return {name: npy_bytes(shape, dtype) for name, (shape, dtype) in derived_files(n, dims).items()}


def derived_slices(
    start: int,
    block: NDArray[np.float32],
    n: int,
    dims: Sequence[int],
    wanted: Set[str],
    mean: Floats | None,
) -> Iterator[tuple[str, NDArray[Any], int]]:
    """What follows from a block of full rows, from row `start` (a multiple of CODE_ROWS) of n on.

    Yields the file's name, the values, and the number in the file of the first of them, in C order; beside
    the `wanted` files also others that come with them, without a `mean` none that is made with it.
    """
    full = dims[-1]
    for dim in dims:
        names = NAMES.vectors(dim), *NAMES.tier(dim)
        if not wanted.isdisjoint(names):
            rows = block if dim == full else vectors.truncate(block, dim)
            arrays: list[NDArray[Any]] = [rows, *quantise(rows)]
            for name, values in zip(names, arrays, strict=True):
                yield name, values, start * (values.size // len(block))
    if mean is not None:
        if start == 0:
            yield NAMES.mean(full), mean, 0
        if NAMES.one_bit(full) in wanted:
            codes = short_codes.one_bit(block, mean)
            yield NAMES.one_bit(full), codes, start // CODE_ROWS * codes[0].size
        four, bounds = NAMES.four_bit(full)
        if not wanted.isdisjoint((four, bounds)):
            codes, (steps, errors) = short_codes.four_bit(block, mean)
            yield four, codes, start * codes.shape[1]
            yield bounds, steps, start
            yield bounds, errors, n + start


def list_files(folder: Path, names: Sequence[str]) -> dict[str, FileEntry]:
    """Measure these files of a folder, for the manifest."""
    with ThreadPoolExecutor(thread_count()) as pool:
        return dict(zip(names, pool.map(lambda name: file_entry(folder / name), names), strict=True))


def replace_folder(staged: Path, target: Path) -> None:
    """Rename a finished folder to `target`, and delete the one that was there."""
    aside = staged.with_name(NAMES.replaced)
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_folder(staged)
    remove_folder(aside)
    if target.exists() and exchange(staged, target):
        failpoint(Failpoint.EXCHANGED)
        staged.rename(aside)
    else:
        if target.exists():  # the system cannot exchange folders: there is an instant without either
            target.rename(aside)
        staged.rename(target)
    sync_folder(target.parent)
    failpoint(Failpoint.PLACED)
    remove_folder(aside)


def commit(index: Path, manifest: Manifest, deleted: Sequence[int], *added: Part, **changes: Any) -> Manifest:
    """Write bitmaps of the deleted rows, then the manifest of all changes: readers see all at once."""
    try:
        wanted = np.unique(np.asarray(deleted, np.int64))
        name = NAMES.deleted(manifest.generation + 1)
        parts = []
        for part, start in zip(manifest.parts, manifest.starts, strict=True):
            mine = wanted[(wanted >= start) & (wanted < start + part.rows)] - start
            if len(mine):
                folder = index / part.path
                allowed = allowed_rows(folder, part)
                gone = np.zeros(part.rows, bool) if allowed is None else ~allowed
                gone[mine] = True
                packed = np.packbits(gone)
                with NpyWriter(folder / name, packed.shape, "|u1") as bitmap:
                    bitmap.write(packed, 0)
                sync_folder(folder)
                files = {key: entry for key, entry in part.files.items() if key != part.bitmap}
                files[name] = file_entry(folder / name)
                part = replace(part, files=files, deleted=int(gone.sum()), bitmap=name)
            parts.append(part)
        failpoint(Failpoint.MARKED)
        rows = manifest.rows + sum(part.rows for part in added)
        written = manifest.next_generation(rows=rows, parts=(*parts, *added), **changes).write(index)
        sync_folder(index)
        return written
    finally:
        with suppress(OSError, RsearchError):  # a change that failed leaves no bitmap
            sweep(index, read_manifest(index))


def sweep(index: Path, manifest: Manifest) -> None:
    """Delete the bitmaps of earlier generations and of changes that failed."""
    for part in manifest.parts:
        for path in (index / part.path).glob(NAMES.deleted("*")):
            if path.name != part.bitmap:
                path.unlink()


def was_index(folder: Path) -> bool:
    """Whether a folder has a manifest of any kind, or the one that an interrupted removal leaves."""
    files = folder / NAMES.manifest, folder / NAMES.removed
    return any(path.is_symlink() or (path.exists() and not path.is_dir()) for path in files)


def discard(unfinished: Path) -> None:
    """Delete an unfinished update: its journal first, so that nothing resumes what else is left of it."""
    (unfinished / NAMES.work).unlink(missing_ok=True)
    failpoint(Failpoint.DISCARDED)
    shutil.rmtree(unfinished, ignore_errors=True)
