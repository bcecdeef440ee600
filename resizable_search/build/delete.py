"""Delete documents of an index, by their ids or by what is true of them: from then on no search finds them.

Their rows stay where they are until the index is compacted (`compaction`).
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resizable_search.build.workspace import changing
from resizable_search.errors import RsearchError
from resizable_search.store.filter import Filter
from resizable_search.store.ids import ids_of, row_of
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import delete_rows
from resizable_search.text import counted, quoted

SHOWN_IDS = 3
"""Ids that a message names."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion does, or did: `rows` are those of the documents, `left` documents remain.

    `ids` are those that were named and found, `missing` those that there are not.
    """

    index: str
    folder: Path
    ids: tuple[str, ...]
    rows: tuple[int, ...]
    missing: tuple[str, ...]
    left: int


def deletion(folder: Path, ids: Sequence[str], *, missing_ok: bool = False) -> Deletion:
    """What deleting the documents with these ids from the index in `folder` means; nothing is written.

    Raises RsearchError, and names them, where there are no such ids, unless `missing_ok`.
    """
    manifest = read_manifest(folder)
    found: dict[str, int] = {}
    missing: dict[str, None] = {}
    with ids_of(folder, manifest) as parts:
        for id_ in ids:
            row = row_of(parts, id_)
            if row is None:
                missing[id_] = None
            else:
                found[id_] = row
    name = folder.resolve().name
    if missing and not missing_ok:
        shown = ", ".join(quoted(id_) for id_ in list(missing)[:SHOWN_IDS])
        more = " …" if len(missing) > SHOWN_IDS else ""
        raise RsearchError(
            f"{name} has no document {shown}{more} ({counted(len(missing), 'id')} of {len(set(ids)):,} "
            "unknown): nothing was deleted; leave them out, or pass over them with --missing-ok"
        )
    left = manifest.documents - len(found)
    return Deletion(name, folder, tuple(found), tuple(found.values()), tuple(missing), left)


def delete(folder: Path, ids: Sequence[str], *, missing_ok: bool = False) -> Deletion:
    """Delete the documents with these ids from the index in `folder`: all of them, or none.

    Readers that have it open keep what they have; whoever opens it next no longer finds them. Raises
    RsearchError as `deletion` does, IndexBusyError and StorageError.
    """
    with changing(folder):
        found = deletion(folder, ids, missing_ok=missing_ok)
        if found.rows:
            delete_rows(folder, found.rows)
    return found


def deletion_where(folder: Path, where: str) -> Deletion:
    """What deleting the documents that an expression is true of means, as `query --where` takes it.

    Nothing is written. Raises UsageError for one that is not allowed, RsearchError for one that is too slow.
    """
    with closing(IndexReader(folder)) as reader, closing(Filter(reader)) as conditions:
        rows = np.flatnonzero(np.concatenate(conditions.select(where).allowed))
        left = reader.manifest.documents - len(rows)
        return Deletion(folder.resolve().name, folder, (), tuple(rows.tolist()), (), left)


def delete_where(folder: Path, where: str, shown: Deletion | None = None) -> Deletion:
    """Delete the documents that an expression is true of: all of them, or none.

    `shown` is what somebody has agreed to: RsearchError is raised if it is no longer what would be deleted.
    Otherwise as `delete`, and raises what `deletion_where` does.
    """
    with changing(folder):
        found = deletion_where(folder, where)
        if shown is not None and found != shown:
            raise RsearchError(
                f"{found.index} has changed meanwhile, and {counted(len(found.rows), 'document')} would be "
                "deleted now: nothing was; delete again"
            )
        if found.rows:
            delete_rows(folder, found.rows)
    return found
