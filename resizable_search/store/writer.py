"""From a finished build to an index in its place: derived files, checksums, manifest, rename.

Change an index that is there: a further part, rows that are not to be found, each by one new manifest.

New files are written beside the old ones, then the manifest is replaced: readers see all of a change or
nothing of it. What a change that died has left is swept away by the next one.
"""

import ctypes
import os
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import NpyWriter, npy_bytes, read_blocks, read_shape
from resizable_search.engine import vectors
from resizable_search.engine.quantise import WORD, quantise, sign_words
from resizable_search.engine.scheduling import unordered
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.delete import remove_own
from resizable_search.store.documents import allowed_rows
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import FileEntry, Manifest, Part, file_entry, read_manifest
from resizable_search.system import Failpoint, beside, failpoint, thread_count

RENAME_EXCHANGE = 2
"""Of renameat2(2)."""


def derive(folder: Path, dims: Sequence[int], progress: Progress = SILENT) -> None:
    """Write every file that follows from the full rows, in one pass over them and bounded memory.

    That is each smaller dimension, the int8 tier of every dimension and the sign bits. `dims`
    ascending, the last is the full dimension, whose file is in `folder` and is only read.
    """
    names = [name for name in derived_files(0, dims) if name != NAMES.vectors(dims[-1])]
    derive_beside(folder, dims, names, progress)
    for name in names:
        beside(folder / name).replace(folder / name)


def derive_beside(folder: Path, dims: Sequence[int], names: Sequence[str], progress: Progress) -> None:
    """As `derive`, but these files alone, each left under the name that `beside` gives."""
    n, _ = read_shape(folder / NAMES.vectors(dims[-1]))
    shapes = derived_files(n, dims)
    files: dict[str, NpyWriter] = {}
    try:
        for name in names:
            files[name] = NpyWriter(beside(folder / name), *shapes[name])
        blocks = read_blocks(folder / NAMES.vectors(dims[-1]))
        for rows in unordered(lambda block: _derive_block(files, dims, n, *block), blocks, thread_count()):
            progress.advance(rows)
        for file in files.values():
            file.finish()
    finally:
        for file in files.values():
            file.close()


def derived_files(n: int, dims: Sequence[int]) -> dict[str, tuple[tuple[int, ...], str]]:
    """The arrays of a part of n rows, by their files' names: shape and dtype of each."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for dim in reversed(dims):
        found[NAMES.vectors(dim)] = (n, dim), "<f4"
        found[NAMES.codes(dim)] = (n, dim), "|i1"
        found[NAMES.steps(dim)] = (n,), "<f4"
        found[NAMES.errors(dim)] = (n,), "<f4"
    found[NAMES.signs(dims[-1])] = (-(-dims[-1] // WORD), n), "<u8"
    return found


def array_bytes(n: int, dims: Sequence[int]) -> dict[str, int]:
    """The size of every array's file of a part of n rows, by its name: exact."""
    return {name: npy_bytes(shape, dtype) for name, (shape, dtype) in derived_files(n, dims).items()}


def _derive_block(
    files: Mapping[str, NpyWriter], dims: Sequence[int], n: int, start: int, block: NDArray[np.float32]
) -> int:
    for dim in dims:
        for name, values in derived_rows(block, dim, dims[-1], files).items():
            files[name].write(values, start * (values.size // len(block)))
    if NAMES.signs(dims[-1]) in files:
        for number, word in enumerate(sign_words(block).T):
            files[NAMES.signs(dims[-1])].write(word, number * n + start)
    return len(block)


def derived_rows(
    block: NDArray[np.float32], dim: int, full: int, wanted: Container[str]
) -> dict[str, NDArray[Any]]:
    """What follows at one dimension from full rows (n, full), by the files' names, those wanted alone.

    That is the rows (n, dim) themselves, unless it is the full dimension, and their int8 tier: codes
    (n, dim), steps and errors (n,).
    """
    tier = (NAMES.codes(dim), NAMES.steps(dim), NAMES.errors(dim))
    if dim != full and NAMES.vectors(dim) not in wanted and not any(name in wanted for name in tier):
        return {}
    rows = block if dim == full else vectors.truncate(block, dim)
    found: dict[str, NDArray[Any]] = {} if dim == full else {NAMES.vectors(dim): rows}
    if any(name in wanted for name in tier):
        found.update(zip(tier, quantise(rows), strict=True))
    return {name: values for name, values in found.items() if name in wanted}


def has_tiers(manifest: Manifest) -> bool:
    """Whether an index lacks nothing that is derived."""
    wanted = set(derived_files(0, manifest.dims))
    return all(wanted <= set(part.files) for part in manifest.parts)


def add_tiers(index: Path, progress: Progress = SILENT) -> bool:
    """Derive the int8 tiers and sign bits of an index that was built before there were any.

    Nothing else changes, so the generation stays. Returns whether there was anything to do. The caller
    holds the index's lock.
    """
    manifest = read_manifest(index)
    if has_tiers(manifest):
        return False
    wanted = derived_files(0, manifest.dims)
    progress.stage("deriving", manifest.rows, "rows")
    parts = []
    try:
        for part in manifest.parts:
            folder = index / part.path
            derive(folder, manifest.dims, progress)
            parts.append(replace(part, files={**part.files, **list_files(folder, list(wanted))}))
        replace(manifest, parts=tuple(parts)).write(index)
    except BaseException:
        _remove_unlisted(index, manifest, wanted)
        raise
    sync_folder(index)
    return True


def _remove_unlisted(index: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Delete files of the parts that were begun, or are there and not in the manifest."""
    for part in manifest.parts:
        for name in names:
            path = index / part.path / name
            beside(path).unlink(missing_ok=True)
            if name not in part.files:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            (index / part.path / NAMES.tiers).rmdir()  # if nothing is left in it


def list_files(folder: Path, names: Sequence[str]) -> dict[str, FileEntry]:
    """Measure these files of a folder, for the manifest."""
    with ThreadPoolExecutor(thread_count()) as pool:
        return dict(zip(names, pool.map(lambda name: file_entry(folder / name), names), strict=True))


def part_files(dims: Sequence[int]) -> list[str]:
    """The names of the files that a part consists of."""
    return [*derived_files(0, dims), NAMES.documents]


def place(staged: Path, target: Path, aside: Path) -> None:
    """Put a finished folder in its place by rename; what was there goes `aside`, and then away.

    Where the system can exchange two folders in one step (Linux), readers find one or the other at any
    moment; elsewhere there is an instant without either.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_folder(staged)
    remove_folder(aside)
    if target.exists() and exchange(staged, target):
        failpoint(Failpoint.EXCHANGED)
        staged.rename(aside)
    else:
        if target.exists():
            target.rename(aside)
        staged.rename(target)
    sync_folder(target.parent)
    failpoint(Failpoint.PLACED)
    remove_folder(aside)


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it, or a link to one."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def exchange(one: Path, other: Path) -> bool:
    """Have two folders change places in one step; False, and nothing done, where that cannot be.

    By renameat2 of Linux's C library, which Python does not offer.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here = -100  # AT_FDCWD: names are as for open
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), RENAME_EXCHANGE) == 0)


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_index(folder: Path) -> list[str]:
    """Delete an index: the files that its manifest names, and the folders that are empty then.

    Returns the names of what else lies in the folder, which is left alone. The manifest goes first, so
    that what is half removed is no index; under its other name it tells a later `remove` that it was one.
    """
    names = read_manifest(folder).all_files()
    (folder / NAMES.manifest).replace(folder / NAMES.removed)
    # Files beside others are of somebody who died while writing them.
    written = {beside(Path(name)).as_posix() for name in (NAMES.manifest, *names)}
    return remove_own(folder, {NAMES.removed, *names, *written}.__contains__)


def strange_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files in an index's folder that its manifest does not know, by their paths inside."""
    known: Mapping[str, FileEntry] = manifest.all_files()
    lying = (p for p in folder.rglob("*") if p.is_file() or (p.is_symlink() and not p.is_dir()))
    found = (str(p.relative_to(folder)) for p in lying)
    return sorted(name for name in found if name != NAMES.manifest and name not in known)


def place_part(
    staged: Path,
    index: Path,
    manifest: Manifest,
    part_rows: int,
    deleted: Sequence[int] = (),
    **changes: object,
) -> Manifest:
    """Add a finished part to an index: its folder first, then the manifest that knows of it.

    `deleted` rows of the parts that were there are no longer found from that moment on.
    """
    path = f"{NAMES.parts}/{len(manifest.parts) + 1}"
    target = index / path
    target.parent.mkdir(exist_ok=True)
    remove_folder(target)  # of an extension that was stopped before its manifest
    part = Part(path, part_rows, list_files(staged, part_files(manifest.dims)))
    sync_folder(staged)
    staged.rename(target)
    sync_folder(target.parent)
    failpoint(Failpoint.PLACED)
    parts = (*_marked(index, manifest, deleted), part)
    written = manifest.next_generation(rows=manifest.rows + part_rows, parts=parts, **changes).write(index)
    sync_folder(index)
    sweep(index, written)
    return written


def delete_rows(index: Path, rows: Sequence[int], **changes: object) -> Manifest:
    """Have these rows of an index never be found again: new bitmaps, then the manifest that names them.

    The rows stay where they are, and so do the numbers of the others. Returns the new manifest. Where the
    disk refuses, nothing is left of it.
    """
    manifest = read_manifest(index)
    try:
        written = manifest.next_generation(parts=_marked(index, manifest, rows), **changes).write(index)
    except BaseException:
        with suppress(OSError, RsearchError):
            sweep(index, read_manifest(index))  # which may be the new one already
        raise
    sync_folder(index)
    sweep(index, written)
    return written


def sweep(index: Path, manifest: Manifest) -> None:
    """Delete the bitmaps that are not the manifest's: of earlier generations, and of changes that died."""
    for part in manifest.parts:
        for path in (index / part.path).glob(NAMES.deleted("*")):
            if path.name != part.bitmap:
                path.unlink()


def _marked(index: Path, manifest: Manifest, rows: Sequence[int]) -> tuple[Part, ...]:
    """The parts with these rows deleted too; their new bitmaps are written and safe."""
    wanted = np.unique(np.asarray(rows, np.int64))
    name = NAMES.deleted(manifest.generation + 1)
    parts, start = [], 0
    for part in manifest.parts:
        mine = wanted[(wanted >= start) & (wanted < start + part.rows)] - start
        start += part.rows
        if len(mine):
            part = _with_bitmap(index / part.path, part, mine, name)
        parts.append(part)
    failpoint(Failpoint.MARKED)
    return tuple(parts)


def _with_bitmap(folder: Path, part: Part, rows: NDArray[np.int64], name: str) -> Part:
    allowed = allowed_rows(folder, part)
    gone = np.zeros(part.rows, bool) if allowed is None else ~allowed
    gone[rows] = True
    packed = np.packbits(gone)
    with closing(NpyWriter(folder / name, packed.shape, "|u1")) as bitmap:
        bitmap.write(packed, 0)
        bitmap.finish()
    sync_folder(folder)
    files = {key: entry for key, entry in part.files.items() if key != part.bitmap}
    files[name] = file_entry(folder / name)
    return replace(part, files=files, deleted=int(gone.sum()), bitmap=name)
