"""Delete documents of an index by their ids: from then on no search finds them.

Their rows stay where they are until the index is compacted (`compaction`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import RsearchError
from resizable_search.index.changes import delete_rows
from resizable_search.index.ids import ids_of, row_of
from resizable_search.index.manifest import read_manifest
from resizable_search.living.place import changing
from resizable_search.wording import counted, quoted

SHOWN_IDS = 3
"""Ids that a message names."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What deleting these ids does, or did: `rows` are those of the documents, `missing` the unknown ids.

    `left` documents remain in the index.
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
