"""The limit of open files, of this process and of the machine: how it is told, and raised.

An open index holds a file open for each of its arrays, some twenty a part (a mapping keeps its file), and
a build as many and its connections.
"""

import errno
import os
import resource

from resizable_search.errors import OpenFilesError


def too_many_files(error: BaseException | None) -> OpenFilesError | None:
    """The error for a limit of open files that lies at the bottom of this one; None if none does.

    Who meets the limit often sees no more than that a file, a service or a module cannot be had.
    """
    while error is not None:
        if isinstance(error, OpenFilesError):
            return error
        if isinstance(error, OSError) and error.errno == errno.ENFILE:
            return OpenFilesError(
                "the machine has too many files open: end what holds so many, and try again"
            )
        # What loads compiled modules says it in words alone.
        in_words = isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error)
        if in_words or (isinstance(error, OSError) and error.errno == errno.EMFILE):
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return OpenFilesError(
                f"this takes more open files than the limit allows ({most}): raise it with `ulimit -n 1024` "
                "or more, and give the same command again; nothing is lost"
            )
        error = error.__cause__ or error.__context__
    return None


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
