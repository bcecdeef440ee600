"""Delete an index or an unfinished build, and nothing that is not theirs."""

from dataclasses import dataclass
from pathlib import Path

from resizable_search.build.workspace import discard
from resizable_search.errors import IndexFormatError, IndexNotFoundError, RsearchError
from resizable_search.store.delete import is_wreck, remove_wreck
from resizable_search.store.layout import NAMES, FolderHandle, Home, remaining_names, resolve_index
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import remove_index
from resizable_search.system import CHECK, BuildLock, build_lock, storage_errors
from resizable_search.text import counted


@dataclass(frozen=True, slots=True)
class Removable:
    """What `remove` would delete: an index (`folder`), an unfinished build (`building`), or both.

    `places` are where it was looked for, `home` is the folder it lies in; `state` is where its lock lies,
    None outside of a home; `damaged`: its manifest cannot be read.
    """

    name: str
    words: str
    places: Home
    home: Path
    folder: Path | None
    building: Path | None
    state: Path | None
    damaged: bool = False


def removable(name: str, home: Home) -> Removable:
    """What deleting that name, or that folder, means. Raises IndexNotFoundError, IndexFormatError."""
    if name in home.unfinished() and not home.index(name).is_dir():
        words = f"the unfinished build of {name}"
        return Removable(name, words, home, home.path, None, home.building(name), home.state(name))
    folder = resolve_index(name, home)
    if folder.is_symlink():
        raise RsearchError(
            f"{folder} is a link: remove what it leads to by its own name, or the link with rm"
        )
    real = folder.resolve()
    near = Home(real.parent)  # not `home` if it is the folder of an index of another one
    state = near.state(real.name)
    at_home = real.parent == home.path.resolve() or state.is_dir()
    building = near.building(real.name) if at_home and real.name in near.unfinished() else None
    damaged, place = False, FolderHandle(folder)
    try:
        words = f"{counted(read_manifest(folder).documents, 'document')} in {folder}"
    except IndexFormatError:
        if not is_wreck(folder):
            if not remaining_names(folder) or not place.is_in_place:
                raise IndexNotFoundError(f"{folder} has been removed, or is empty") from None
            raise
        damaged, words = True, f"damaged, in {folder}"
    finally:
        place.release()
    return Removable(
        name, f"{name} ({words})", home, real.parent, folder, building, state if at_home else None, damaged
    )


def remove(target: Removable) -> list[str]:
    """Delete it. Returns what else lay in the folder and was left there.

    Raises IndexBusyError, IndexNotFoundError if it is gone by now, RsearchError if it is another by now
    than what was shown, and StorageError if the disk refuses.
    """
    with storage_errors(target.home, CHECK):
        if target.state is None:
            return _remove_folder(target)
        with build_lock(target.state / NAMES.lock, target.name) as lock:
            _make_sure_unchanged(target, lock)
            if target.building is not None:
                discard(target.building)
            left = _remove_folder(target)
            lock.remove_state()
        return left


def _make_sure_unchanged(target: Removable, lock: BuildLock) -> None:
    """Others may have been at work between the look at it and the lock."""
    try:
        now = removable(target.name, target.places)
    except IndexNotFoundError:
        lock.remove_state()
        raise
    if now != target:
        raise RsearchError(f"{target.name} has changed meanwhile, and is {now.words} now: remove it again")


def _remove_folder(target: Removable) -> list[str]:
    if target.folder is None:
        return []
    return remove_wreck(target.folder) if target.damaged else remove_index(target.folder)
