"""Have the engine ready: kernels compiled, tiers derived."""

from pathlib import Path

from resizable_search.engine.kernel_cache import ColdKernelsError, compile_kernels
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.store.layout import NAMES, Home, resolve_index
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import add_tiers, has_tiers
from resizable_search.system import CHECK, build_lock, storage_errors


def warm(home: Home, name: str | None, progress: Progress = SILENT) -> list[str]:
    """Compile the kernels, and derive the tiers of an index that lacks them; in words, what was done.

    `name` None: the kernels alone. Raises RsearchError, IndexBusyError, StorageError.
    """
    done = []
    if name is not None:
        folder = resolve_index(name, home)
        derived = not has_tiers(read_manifest(folder)) and _add_tiers(folder.resolve(), progress)
        done.append(f"{folder.name} {'has its int8 tiers and sign bits now' if derived else 'lacks nothing'}")
    try:
        compiled = compile_kernels(progress)
    except ColdKernelsError as error:
        raise RsearchError(f"{error}; searches take numpy, which is slower: reinstall numba") from None
    done.append(f"{compiled} kernels compiled" if compiled else "the kernels are compiled already")
    return done


def _add_tiers(folder: Path, progress: Progress) -> bool:
    home = Home(folder.parent)
    with storage_errors(home.path, CHECK), build_lock(home.state(folder.name) / NAMES.lock, folder.name):
        return add_tiers(folder, progress)
