"""Which index is meant: by name, by folder, or by what there is."""

import os
import time
from pathlib import Path

from resizable_search.errors import IndexNotFoundError, UsageError
from resizable_search.index.layout import NAMES, Home, expanded

INDEX_VARIABLE = "RSEARCH_INDEX"
FAVOURITE = "wiki100k"

REPLACED_SECONDS = 1.0
"""How long a reader waits for an index that is being replaced this moment."""


def default_name(home: Home) -> str:
    """The index that is meant when none is named. Raises IndexNotFoundError.

    $RSEARCH_INDEX, else `wiki100k` if it exists, else the only one.
    """
    chosen = os.environ.get(INDEX_VARIABLE)
    if chosen:
        return chosen
    for name in home.unfinished():
        await_replacement(home.index(name))
    there = home.names()
    if FAVOURITE in there:
        return FAVOURITE
    if len(there) == 1:
        return there[0]
    if there:
        raise IndexNotFoundError(f"which index? name one with --index: there are {', '.join(there)}")
    raise none_yet(home)


def none_yet(home: Home) -> IndexNotFoundError:
    """The error for a home without any index."""
    unfinished = home.unfinished()
    if unfinished:
        return IndexNotFoundError(
            f"no finished index in {home.path}; the build of {', '.join(unfinished)} was begun: "
            "give its build command again to go on"
        )
    return IndexNotFoundError(f"no index in {home.path}: build one with `rsearch build pydoc`")


def find_index(name: str | Path, home: Home) -> Path:
    """The folder of an index. Raises IndexNotFoundError with the names that exist and the nearest."""
    if name == "":
        raise UsageError("the name of the index is empty: name one, or leave it out")
    if isinstance(name, Path) or "/" in name or "\\" in name:
        folder = expanded(name)
        if not os.path.isdir(folder) and not await_replacement(folder):
            raise IndexNotFoundError(f"there is no folder {folder}: name one that holds an index")
        return folder
    folder = home.index(name)
    if not name.startswith(".") and (os.path.isdir(folder) or await_replacement(folder)):
        return folder
    there = home.names()
    if name in home.unfinished():
        raise IndexNotFoundError(
            f"the build of {name} is not finished: give its build command again to go on"
        )
    if not there:
        raise none_yet(home)
    import difflib  # only a wrong name needs it

    near = difflib.get_close_matches(name, there, 1, 0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    raise IndexNotFoundError(f"no index {name}: {guess}there are {', '.join(there)}")


def await_replacement(folder: Path) -> bool:
    """Whether an index that was not there a moment ago is there now, after waiting up to a second.

    Where the system cannot exchange two folders in one step (`writer.place`), the old index is put
    aside before the new one takes its place: only for that instant is it waited for.
    """
    aside = Home(folder.parent).building(folder.name) / NAMES.replaced
    until = time.monotonic() + REPLACED_SECONDS
    waited = False
    # os.path.exists takes names that no disk could hold; Path.exists raises.
    while os.path.exists(aside) and not os.path.exists(folder):
        if time.monotonic() > until:
            return False
        waited = True
        time.sleep(0.005)
    return waited or os.path.exists(folder)


def what_is_left(folder: Path) -> list[str]:
    """The names in a folder; none if somebody has removed it in this moment."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
