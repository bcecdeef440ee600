"""Delete documents of an index: they are not found any more; their rows stay until it is compacted."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resizable_search.build.workspace import lock_index
from resizable_search.errors import DocumentNotFoundError
from resizable_search.store.filter import Filter
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import commit
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

    Raises DocumentNotFoundError with the unknown ids, unless `missing_ok`, and what `Filter.select` does.
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
        unknown = f"({counted(len(missing), 'id')} of {len(ids):,} unknown)"
        none = f"{reader.name} has no document {shown} {unknown}"
        raise DocumentNotFoundError(f"{none}: nothing was deleted; skip such ids with `missing_ok`")
    return Deletion(reader.name, tuple(rows), missing, reader.manifest.documents - len(rows))


def delete(
    folder: Path,
    ids: Sequence[str] = (),
    *,
    where: str | None = None,
    missing_ok: bool = False,
    confirm: Callable[[Deletion], object] | None = None,
) -> Deletion:
    """Delete documents by their ids, or by an SQL expression: all of them, or none.

    `confirm` gets the deletion, and may raise. Raises what `plan_deletion` does, and IndexBusyError.
    """
    with lock_index(folder):
        deletion = plan_deletion(folder, ids, where=where, missing_ok=missing_ok)
        if deletion.rows:
            if confirm is not None:
                confirm(deletion)
            commit(folder, read_manifest(folder), deletion.rows)
    return deletion
