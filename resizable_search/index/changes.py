"""Change an index that is there: a further part, rows that are not to be found, each by one new manifest.

New files are written beside the old ones, then the manifest is replaced: readers see all of a change or
nothing of it. What a change that died has left is swept away by the next one.
"""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError
from resizable_search.index.layout import NAMES
from resizable_search.index.manifest import Manifest, Part, file_entry, read_manifest
from resizable_search.index.reader import allowed_rows
from resizable_search.index.rows import ArrayFile
from resizable_search.index.steps import Step, reached
from resizable_search.index.writer import list_files, part_files, remove_folder, sync_folder


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
    reached(Step.PART_PLACED)
    parts = (*_marked(index, manifest, deleted), part)
    written = manifest.next_generation(rows=manifest.rows + part_rows, parts=parts, **changes).write(index)
    sync_folder(index)
    reached(Step.PART_LISTED)
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
    reached(Step.SWEPT)


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
    reached(Step.MARKED)
    return tuple(parts)


def _with_bitmap(folder: Path, part: Part, rows: NDArray[np.int64], name: str) -> Part:
    allowed = allowed_rows(folder, part)
    gone = np.zeros(part.rows, bool) if allowed is None else ~allowed
    gone[rows] = True
    packed = np.packbits(gone)
    with closing(ArrayFile(folder / name, packed.shape, "|u1")) as bitmap:
        bitmap.write(packed, 0)
        bitmap.finish()
    sync_folder(folder)
    files = {key: entry for key, entry in part.files.items() if key != part.bitmap}
    files[name] = file_entry(folder / name)
    return replace(part, files=files, deleted=int(gone.sum()), bitmap=name)
