"""Delete documents of an index, or remove an index or an unfinished build.

Deleted documents are not found any more; their rows stay until the index is compacted. Removing deletes only
files of the index's own.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resizable_search.build.journal import discard
from resizable_search.build.workspace import lock_index
from resizable_search.errors import DocumentNotFoundError, IndexFormatError, IndexNotFoundError, RsearchError
from resizable_search.store.filter import Filter
from resizable_search.store.layout import NAMES, FolderHandle, Home, remaining_names, resolve_index
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import delete_rows, remove_index, was_index
from resizable_search.system import CHECK, build_lock, remove_state, storage_errors
from resizable_search.text import counted, listed, quoted


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion does, or did: the `rows` that go, the ids that are `missing`, the documents `left`."""

    index: str
    rows: tuple[int, ...]
    missing: tuple[str, ...]
    left: int


def plan_deletion(
    folder: Path, ids: Sequence[str] = (), *, where: str | None = None, missing_ok: bool = False
) -> Deletion:
    """What deleting documents by their ids, or by an SQL expression, would do; nothing is written.

    Raises DocumentNotFoundError with the unknown ids, unless `missing_ok`, RsearchError for an expression
    that is too slow, and UsageError for one that is not allowed.
    """
    ids = list(dict.fromkeys(ids))
    with closing(IndexReader(folder)) as reader, closing(Filter(reader)) as filter_:
        known = reader.rows_of(ids)
        rows = [known[id_] for id_ in ids if id_ in known]
        if where is not None:
            rows = np.flatnonzero(np.concatenate(filter_.select(where).allowed)).tolist()
    missing = tuple(id_ for id_ in ids if id_ not in known)
    if missing and not missing_ok:
        shown = listed([quoted(id_) for id_ in missing], 3)
        raise DocumentNotFoundError(
            f"{reader.name} has no document {shown} ({counted(len(missing), 'id')} of {len(ids):,} "
            "unknown): nothing was deleted; leave them out, or skip them with `missing_ok`"
        )
    return Deletion(reader.name, tuple(rows), missing, reader.manifest.documents - len(rows))


def delete(
    folder: Path,
    ids: Sequence[str] = (),
    *,
    where: str | None = None,
    missing_ok: bool = False,
    confirmed: Deletion | None = None,
) -> Deletion:
    """Delete documents by their ids, or by an SQL expression: all of them, or none.

    Readers that have the index open keep what they have. Raises what `plan_deletion` does, IndexBusyError,
    StorageError, and RsearchError if the deletion is no longer the one that the user has `confirmed`.
    """
    with lock_index(folder):
        deletion = plan_deletion(folder, ids, where=where, missing_ok=missing_ok)
        if confirmed is not None and deletion != confirmed:
            raise RsearchError(
                f"{deletion.index} has changed meanwhile, and {counted(len(deletion.rows), 'document')} "
                "would be deleted now: nothing was; delete again"
            )
        if deletion.rows:
            delete_rows(folder, deletion.rows)
    return deletion


@dataclass(frozen=True, slots=True)
class Removal:
    """What `remove` would delete: an index (`folder`), an unfinished build (`building`), or both.

    `home` is where the name was looked up; `state` is the folder of its lock, None outside of a home.
    """

    name: str
    words: str
    home: Home
    folder: Path | None
    building: Path | None
    state: Path | None


def plan_removal(name: str, home: Home) -> Removal:
    """What removing the index of that name, or in that folder, would delete.

    Raises IndexNotFoundError, IndexFormatError, and RsearchError for a link.
    """
    if name in home.unfinished() and not home.index(name).is_dir():
        words = f"the unfinished build of {name}"
        return Removal(name, words, home, None, home.building(name), home.state(name))
    folder = resolve_index(name, home)
    if folder.is_symlink():
        raise RsearchError(
            f"{folder} is a link: remove what it leads to by its own name, or the link with rm"
        )
    real = folder.resolve()
    near = Home(real.parent)  # not `home` if the index lies in another one
    state = near.state(real.name)
    at_home = real.parent == home.path.resolve() or state.is_dir()
    building = near.building(real.name) if at_home and real.name in near.unfinished() else None
    handle = FolderHandle(folder)
    try:
        words = counted(read_manifest(folder).documents, "document")
    except IndexFormatError:
        if not was_index(folder):
            if not remaining_names(folder) or not handle.is_in_place:
                raise IndexNotFoundError(f"{folder} has been removed, or is empty") from None
            raise
        words = "damaged,"
    finally:
        handle.release()
    return Removal(name, f"{name} ({words} in {folder})", home, folder, building, state if at_home else None)


def remove(removal: Removal) -> list[str]:
    """Delete it. Returns the other files of the folder, which are not deleted.

    Raises IndexBusyError, IndexNotFoundError if it is gone, RsearchError if it has changed since it was
    shown, and StorageError if the disk refuses.
    """
    folder, state = removal.folder, removal.state
    with storage_errors(removal.home.path if folder is None else folder.resolve().parent, CHECK):
        if state is None:
            return [] if folder is None else remove_index(folder)
        lock = state / NAMES.lock
        with build_lock(lock, removal.name):
            try:
                now = plan_removal(removal.name, removal.home)
            except IndexNotFoundError:
                remove_state(lock)
                raise
            if now != removal:  # others may have been at work before the lock was taken
                raise RsearchError(
                    f"{removal.name} has changed meanwhile, and is {now.words} now: remove it again"
                )
            if removal.building is not None:
                discard(removal.building)
            left = [] if folder is None else remove_index(folder)
            remove_state(lock)
        return left
