"""What the disk, or the system, refuses, told as StorageError with its remedy."""

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resizable_search.errors import IndexFormatError, StorageError
from resizable_search.index.layout import ANOTHER_HOME
from resizable_search.limits import too_many_files

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ELOOP,
)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_LIMITS = (*_FULL, *_TOO_MANY, errno.EFBIG)
_FAILED = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)

CHECK = "check its permissions"
"""What to do where an index that there is cannot be written: another home would not help."""

PROBE_BYTES = 1 << 16
"""What is written to learn why SQLite could not write: more than it asks for at once."""


@contextmanager
def storage_errors(
    home: Path, remedy: str = ANOTHER_HOME, again: Callable[[], str] = lambda: "the same command"
) -> Iterator[None]:
    """Turn what a full, read-only or failing disk raises while `home` is written into StorageError.

    `remedy` is what to do where writing is not allowed, `again` names the command that goes on once there
    is room.
    """
    try:
        yield
    except OSError as error:
        raise refusal(error, home, remedy, again()) or error from None
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _LIMITS:  # what an embedder's state met, say
            raise refusal(cause, home, remedy, again()) or error from None
        raise
    except sqlite3.DatabaseError as error:
        raise _sqlite_refusal(error, home, again()) from None


def refusal(
    error: OSError, home: Path, remedy: str = ANOTHER_HOME, again: str = "the same command"
) -> StorageError | None:
    """The error for what the system refused below `home`; None if it is none of the disk's."""
    place = error.filename or home
    if error.errno in _FULL:
        return _full(home, again)
    if error.errno in _TOO_MANY:
        return too_many_files(error)
    if error.errno == errno.EFBIG:
        return StorageError(
            f"a file in {home} would be larger than this process may write, or this disk can hold: raise the "
            f"limit with `ulimit -f unlimited`, or {ANOTHER_HOME}; nothing is lost"
        )
    if error.errno in _REFUSED:
        return StorageError(f"cannot write to {place} ({error.strerror}): {remedy}")
    if error.errno in _FAILED:
        return StorageError(f"cannot write to {place} ({error.strerror}): see that its disk is sound")
    return None


@contextmanager
def as_the_system_says(folder: Path) -> Iterator[None]:
    """Where SQLite cannot open or write a file in `folder`, and says no more: raise the system's OSError.

    It is found out by writing a file of our own, at once: what else was opened or written is still there.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if _code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            write_some(folder)
        raise


def write_some(folder: Path) -> None:
    """Write a file in `folder` that is gone at once, so that what the system says against it is raised."""
    import tempfile  # only a failure needs it

    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(PROBE_BYTES))


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 if it is an error of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _sqlite_refusal(error: sqlite3.DatabaseError, home: Path, again: str) -> Exception:
    """The error for what SQLite could not do below `home`; itself if it is nothing of the disk's."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return _full(home, again)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(
            f"the unfinished build in {home} is damaged ({error}): begin again with --restart"
        )
    if not isinstance(error, sqlite3.OperationalError):
        return error
    if code == sqlite3.SQLITE_IOERR and _limits_files():
        return refusal(OSError(errno.EFBIG, ""), home) or error
    return StorageError(f"cannot write the build in {home} ({error}): check its permissions, and its disk")


def _limits_files() -> bool:
    """Whether this process may write files of some size only."""
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _full(home: Path, again: str) -> StorageError:
    return StorageError(f"the disk of {home} is full; nothing is lost: free some space, and {again} goes on")


def unreadable(path: Path, error: OSError) -> IndexFormatError | StorageError:
    """The error for a file of an index that the system does not let be read."""
    if error.errno == errno.ENOMEM:
        return StorageError(f"{path} cannot be mapped ({error.strerror}): allow more memory with `ulimit -v`")
    return too_many_files(error) or IndexFormatError(
        f"{path} cannot be read ({error.strerror}): check what lies there, and its permissions"
    )


def free_bytes(folder: Path) -> int:
    """What may still be written where a folder lies, or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def make_home(home: Path) -> None:
    """Make the folder of all indexes, if it is not there. Raises StorageError, whatever stands against it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _LIMITS:
            raise refusal(error, home) or error from None
        raise StorageError(f"cannot make the folder {home} ({error.strerror}): {ANOTHER_HOME}") from None


def beside(path: Path) -> Path:
    """The name under which a file is written before it is moved into its place."""
    return path.with_name(f"{path.name}.new")


def replace_file(path: Path, content: bytes, written: Callable[[], None] = lambda: None) -> None:
    """Write a file in one step: whoever reads it, and whatever happens, finds the old content or the new.

    `written` is called when the new one lies beside the old. Where it cannot be written nothing is left
    of it. Raises OSError.
    """
    temporary = beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
