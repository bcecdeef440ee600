"""Deleting an index: its own files and nothing else, also where its manifest cannot be read.

Which files are the format's own is told by their names then.
"""

import re
from collections.abc import Callable
from pathlib import Path

from resizable_search.store.layout import NAMES

_PART = "|".join(
    (
        r"[0-9]+\.npy(?:\.new)?",
        rf"{NAMES.tiers}/[0-9]+\.[a-z0-9]+\.npy(?:\.new)?",
        r"deleted\.[0-9]+\.npy",
        re.escape(NAMES.documents),
    )
)
_OWN = re.compile(
    rf"{re.escape(NAMES.manifest)}(?:\.new)?|{re.escape(NAMES.removed)}"
    rf"|(?:{NAMES.parts}/[0-9]+/)?(?:{_PART})"
    rf"|{NAMES.embedder}/[^/]+\.(?:json|npy)(?:\.tmp)?"
)
"""Paths inside an index's folder that the format (docs/format.md) uses."""


def is_wreck(folder: Path) -> bool:
    """Whether something lies where an index has its manifest, so that the folder was meant as one.

    Or did, if its removal was broken off.
    """
    return any(
        path.is_symlink() or (path.exists() and not path.is_dir())
        for path in (folder / NAMES.manifest, folder / NAMES.removed)
    )


def remove_wreck(folder: Path) -> list[str]:
    """Delete what bears a name of the format, as `remove_own` does; the manifest last."""
    return remove_own(folder, lambda name: bool(_OWN.fullmatch(name)))


def remove_own(folder: Path, is_own: Callable[[str], bool]) -> list[str]:
    """Delete the files whose paths inside the folder are its own, and the folders that are empty then.

    Returns the paths of what else lies in the folder, which is left alone. A link is a file, wherever it
    leads: it is never followed. What tells that there was an index goes last.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    own = [path for path in found if is_own(path.relative_to(folder).as_posix())]
    last = (folder / NAMES.manifest, folder / NAMES.removed)
    for path in own:
        if path not in last:
            path.unlink()
    for path in sorted((p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    for path in last:
        if path in own:
            path.unlink()
    left = [str(path.relative_to(folder)) for path in found if path not in own]
    if not left:
        folder.rmdir()
    return left
