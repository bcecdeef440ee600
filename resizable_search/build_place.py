"""Where a build works: its lock, its log, and the room that it needs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from resizable_search import __version__
from resizable_search.build_log import LoggedProgress, logged
from resizable_search.build_options import BuildOptions, check_name
from resizable_search.errors import StorageError, UsageError
from resizable_search.index.layout import ANOTHER_HOME, NAMES, Home
from resizable_search.index.lock import build_lock
from resizable_search.index.storage import free_bytes, make_home, storage_errors
from resizable_search.progress import Progress
from resizable_search.wording import size


@contextmanager
def locked(
    home: Home, options: BuildOptions, progress: Progress
) -> Iterator[tuple[ExitStack, LoggedProgress]]:
    """Hold the lock of the index that is to be built; what is put on the stack is closed before it is freed.

    Yields the stack, and the progress that goes into the build's log too.

    Raises UsageError for a name or limit that cannot be, IndexBusyError, and StorageError for whatever
    the disk refuses meanwhile.
    """
    check_name(options.name)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {options.limit}")
    make_home(home.path)
    state = home.state(options.name)
    with (
        storage_errors(home.path, again=lambda: again(home, options)),
        build_lock(state, options.name),
        logged(progress, state / NAMES.log) as log,
        ExitStack() as stack,
    ):
        log.log(f"begun: rsearch {__version__}, {options.command or 'from Python'}")
        yield stack, log


def again(home: Home, options: BuildOptions) -> str:
    """How a build is gone on with: a restart that has begun is not begun once more."""
    begun = options.restart and (home.building(options.name) / NAMES.work).exists()
    return "the same command without --restart" if begun else "the same command"


def make_sure_of_room(
    name: str, home: Path, missing: Callable[[int], int], counts: Sequence[Callable[[], int]]
) -> None:
    """Refuse to begin what the disk cannot hold. Raises StorageError.

    `missing` tells the bytes that so many rows still take, of which one is certain: the arrays' files.
    `counts` tell how many rows there may be, each asked only where the one before would not fit.
    """
    free = free_bytes(home)
    for count in counts:
        if (needed := missing(count())) <= free:
            return
    raise StorageError(
        f"{name} takes {size(needed)} more at least, and {size(free)} are free at {home}: "
        f"free some, {ANOTHER_HOME}, or ask for fewer --dims or a smaller --limit"
    )


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
