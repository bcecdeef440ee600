"""Remove an index or an unfinished build: its own files alone, even if its manifest is damaged."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from resizable_search.errors import IndexFormatError, IndexNotFoundError, RsearchError
from resizable_search.store.layout import NAMES, Home, entries, resolve_index
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.writer import discard, was_index
from resizable_search.system import CHECK, beside, build_lock, remove_state, storage_errors
from resizable_search.text import counted

_OWN = re.compile(
    r"manifest\.json(\.new)?|removed\.json|embedder/[^/]+\.(json|npy)(\.tmp)?"
    r"|(parts/[0-9]+/)?(documents\.sqlite|deleted\.[0-9]+\.npy|[0-9]+\.npy(\.new)?"
    r"|tiers/([0-9]+|lexical)\.[a-z0-9]+\.npy(\.new)?)"
)
"""Paths inside an index's folder that the format (docs/format.md) uses."""


class Removed(NamedTuple):
    """What was deleted, in words, and the other files of its folder, which were not."""

    words: str
    folder: Path
    left: list[str]


def remove(name: str, home: Home, confirm: Callable[[str], object] | None = None) -> Removed:
    """Delete the index of that name, or in that folder, and its unfinished build.

    `confirm` gets in words what would go, and may raise. Raises IndexNotFoundError, IndexFormatError,
    IndexBusyError, RsearchError for a link, and StorageError.
    """
    folder = home.index(name)
    if name not in home.unfinished() or folder.is_dir():
        folder = resolve_index(name, home)
    if folder.is_symlink():
        raise RsearchError(f"{folder} is a link: remove what it leads to by its own name")
    real = folder.resolve()
    near = Home(real.parent)  # not `home` if the index lies in another one
    lock = near.state(real.name) / NAMES.lock
    has_state = near.path == home.path.resolve() or lock.parent.is_dir()
    with storage_errors(near.path, CHECK), build_lock(lock, name) if has_state else nullcontext():
        is_begun = has_state and real.name in near.unfinished()
        try:
            words = _described(name, folder, is_begun=is_begun)
        except IndexNotFoundError:
            if has_state:
                remove_state(lock)
            raise
        if confirm is not None:
            confirm(words)
        if is_begun:
            discard(near.building(real.name))
        left = remove_index(folder) if folder.is_dir() else []
        if has_state:
            remove_state(lock)
    return Removed(words, folder, left)


def _described(name: str, folder: Path, *, is_begun: bool) -> str:
    if is_begun and not folder.is_dir():
        return f"the unfinished build of {name}"
    try:
        words = counted(read_manifest(folder).documents, "document")
    except IndexFormatError:
        if not was_index(folder):
            if not entries(folder):
                raise IndexNotFoundError(f"{folder} has been removed, or is empty") from None
            raise
        words = "damaged,"
    return f"{name} ({words} in {folder})"


def remove_index(folder: Path) -> list[str]:
    """Delete an index: the files that its manifest lists, and the folders that are then empty.

    If the manifest cannot be read, the files that have a name of the format. Returns the paths of others,
    which stay. The manifest is renamed first: a half removed folder is no index, but is known as one.
    """
    try:
        names = read_manifest(folder).all_files()
    except IndexFormatError:
        own = {name for name in _files(folder) if _OWN.fullmatch(name)}
    else:
        (folder / NAMES.manifest).replace(folder / NAMES.removed)
        # Files under the names of `beside` were left by a process that died while writing them.
        written = {beside(Path(name)).as_posix() for name in (NAMES.manifest, *names)}
        own = _files(folder) & {NAMES.removed, *names, *written}
    others = sorted(_files(folder) - own)
    last = own & {NAMES.manifest, NAMES.removed}
    for name in sorted(own - last):
        (folder / name).unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
    for name in sorted(last):  # a folder that has neither is empty, or no index
        (folder / name).unlink()
    if not others:
        folder.rmdir()
    return others


def unexpected_files(folder: Path, manifest: Manifest) -> list[str]:
    """The paths of files in an index's folder that its manifest does not list."""
    return sorted(_files(folder) - {NAMES.manifest, *manifest.all_files()})


def _files(folder: Path) -> set[str]:
    """The paths of all below a folder that is no folder. A link is a file, and is never followed."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}
