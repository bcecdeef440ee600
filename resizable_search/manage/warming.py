"""Have the engine ready: kernels compiled, tiers derived."""

from resizable_search.errors import RsearchError
from resizable_search.index.layout import Home
from resizable_search.index.locate import find_index
from resizable_search.index.lock import build_lock
from resizable_search.index.storage import storage_errors
from resizable_search.index.writer import add_tiers
from resizable_search.progress import SILENT, Progress
from resizable_search.scan.warm import ColdKernelsError, compile_kernels


def warm(home: Home, name: str | None, progress: Progress = SILENT) -> list[str]:
    """Compile the kernels, and derive the tiers of an index that lacks them; in words, what was done.

    `name` None: the kernels alone. Raises RsearchError, IndexBusyError, StorageError.
    """
    done = []
    if name is not None:
        folder = find_index(name, home)
        place = folder.resolve()
        with storage_errors(place.parent), build_lock(Home(place.parent).state(place.name), place.name):
            derived = add_tiers(folder, progress)
        done.append(f"{folder.name} {'has its int8 tiers and sign bits now' if derived else 'lacks nothing'}")
    try:
        compiled = compile_kernels(progress)
    except ColdKernelsError as error:
        raise RsearchError(f"{error}; searches take numpy, which is slower: reinstall numba") from None
    done.append(f"{compiled} kernels compiled" if compiled else "the kernels are compiled already")
    return done
