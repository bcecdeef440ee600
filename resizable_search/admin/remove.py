"""Remove an index or an unfinished build: its own files alone, even if its manifest is damaged."""

import re
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import IndexFormatError, IndexNotFoundError, RsearchError
from resizable_search.store.layout import NAMES, FolderHandle, Home, remaining_names, resolve_index
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


def remove_index(folder: Path) -> list[str]:
    """Delete an index: the files that its manifest lists, and the folders that are then empty.

    If the manifest cannot be read, the files that have a name of the format. Returns the paths of other files
    in the folder, which stay. The manifest is renamed first, so that a half removed folder is no index, but a
    later removal knows that it was one.
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
