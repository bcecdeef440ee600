"""Delete an index's own files and nothing else, even if its manifest cannot be read."""

import re
from collections.abc import Callable
from pathlib import Path

from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.system import beside

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


def was_index(folder: Path) -> bool:
    """Whether a folder has a manifest of any kind, or the one that an interrupted removal leaves."""
    return any(
        path.is_symlink() or (path.exists() and not path.is_dir())
        for path in (folder / NAMES.manifest, folder / NAMES.removed)
    )


def remove_index(folder: Path) -> list[str]:
    """Delete an index: the files that its manifest lists, and the folders that are then empty.

    Returns the paths of other files in the folder, which stay. The manifest is renamed first, so that a
    half removed folder is no index, but a later removal knows that it was one.
    """
    names = read_manifest(folder).all_files()
    (folder / NAMES.manifest).replace(folder / NAMES.removed)
    # Files under the names of `beside` were left by a process that died while writing them.
    written = {beside(Path(name)).as_posix() for name in (NAMES.manifest, *names)}
    return _remove(folder, {NAMES.removed, *names, *written}.__contains__)


def remove_damaged(folder: Path) -> list[str]:
    """`remove_index` without a manifest to read: delete the files that have a name of the format."""
    return _remove(folder, lambda name: bool(_OWN.fullmatch(name)))


def unexpected_files(folder: Path, manifest: Manifest) -> list[str]:
    """The paths of files in an index's folder that its manifest does not list."""
    names = {path.relative_to(folder).as_posix() for path in _files(folder) if not path.is_dir()}
    return sorted(names - {NAMES.manifest, *manifest.all_files()})


def _files(folder: Path) -> list[Path]:
    """Everything below a folder but folders. A link is a file, and is never followed."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _remove(folder: Path, is_own: Callable[[str], bool]) -> list[str]:
    """Delete the files whose paths in the folder are its own, and empty folders; the manifest last."""
    files = _files(folder)
    own = [path for path in files if is_own(path.relative_to(folder).as_posix())]
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
    others = [str(path.relative_to(folder)) for path in files if path not in own]
    if not others:
        folder.rmdir()
    return others
