"""What the disk refuses, told as StorageError with its remedy."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resizable_search.errors import StorageError
from resizable_search.index.layout import ANOTHER_HOME

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


@contextmanager
def storage_errors(home: Path, remedy: str = ANOTHER_HOME) -> Iterator[None]:
    """Turn what a full or read-only disk raises while `home` is written into StorageError.

    `remedy` is what to do where writing is not allowed.
    """
    full = f"the disk of {home} is full; nothing is lost: free some space, and the same command goes on"
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(full) from None
        if error.errno in _REFUSED:
            raise StorageError(
                f"cannot write to {error.filename or home} ({error.strerror}): {remedy}"
            ) from None
        raise
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise StorageError(full) from None
        raise StorageError(f"cannot write the build in {home} ({error}): check its permissions") from None


def make_home(home: Path) -> None:
    """Make the folder of all indexes, if it is not there. Raises StorageError, whatever stands against it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {home} ({error.strerror}): {ANOTHER_HOME}") from None
