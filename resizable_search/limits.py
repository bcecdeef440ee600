"""What a process may have of open files, threads and memory: how it is told, and raised where it may be.

An open index holds a file open for each of its arrays, some twenty a part (a mapping keeps its file), and
a build as many and its connections.
"""

import errno
import os
import resource
from collections.abc import Iterator

from resizable_search.errors import ExhaustedError, OpenFilesError, RsearchError

_NO_THREAD = "can't start new thread"
_NO_MEMORY = ("failed to map segment from shared object", "cannot allocate memory")
"""What Python and the loader of compiled modules say, in words alone."""


def exhausted(error: BaseException | None) -> RsearchError | None:
    """The error for what this process may have no more of, if that lies at the bottom of this one; else None.

    Who meets such a limit often sees no more than that a file, a service or a module cannot be had.
    """
    for at_the_bottom in _chain(error):
        found = too_many_files(at_the_bottom)
        if found is not None:
            return found
        said = str(at_the_bottom)
        if isinstance(at_the_bottom, RuntimeError) and _NO_THREAD in said:
            return ExhaustedError(
                "no further thread can be started: raise the limit of processes (`ulimit -u`) or of memory, "
                "or use fewer --threads or a smaller --concurrency; nothing is lost"
            )
        no_memory = isinstance(at_the_bottom, OSError) and at_the_bottom.errno == errno.ENOMEM
        unmapped = isinstance(at_the_bottom, ImportError) and any(words in said for words in _NO_MEMORY)
        if no_memory or unmapped or isinstance(at_the_bottom, MemoryError):
            return ExhaustedError(
                "out of memory: end what takes much of it, raise its limit (`ulimit -v`), or use fewer "
                "--dims or a smaller batch"
            )
    return None


def too_many_files(error: BaseException | None) -> OpenFilesError | None:
    """As `exhausted`, for the limit of open files alone."""
    for at_the_bottom in _chain(error):
        if isinstance(at_the_bottom, OpenFilesError):
            return at_the_bottom
        number = at_the_bottom.errno if isinstance(at_the_bottom, OSError) else None
        if number == errno.ENFILE:
            return OpenFilesError(
                "the machine has too many files open: end what holds so many, and try again"
            )
        in_words = isinstance(at_the_bottom, ImportError) and os.strerror(errno.EMFILE) in str(at_the_bottom)
        if in_words or number == errno.EMFILE:
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return OpenFilesError(
                f"this takes more open files than the limit allows ({most}): raise it with `ulimit -n 1024` "
                "or more, and give the same command again; nothing is lost"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def raise_limit() -> bool:
    """Let this process open as many files as it may allow itself; whether that is more than before."""
    most, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == allowed:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    except (OSError, ValueError):  # some systems allow less than they say
        return False
    return True
