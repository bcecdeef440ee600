"""What the disk, or the system, refuses, told as StorageError with its remedy.

What a process may have of open files, threads and memory: how it is told, and raised where it may be.

An open index holds a file open for each of its arrays, some twenty a part (a mapping keeps its file), and
a build as many and its connections.

How many threads the engine runs, and the pool that it runs them on.

The pool is our own: numba's is not safe from several threads at once, and one that is shared can be
asked from any thread without more of them being made. Handing a task over takes some 15 microseconds,
a third of what ThreadPoolExecutor takes: a scan of sign bits has no more than some hundreds.

One build of a name at a time, by a lock of the operating system that dies with its process.

The lock is flock's, on a file beside the index. What makes it sound is that the file is deleted only by
whoever holds it, as the last thing that is done under it, and that whoever gets it looks whether the file
still is the one at that path: a lock on a file that was deleted meanwhile keeps nobody out.
"""

import errno
import fcntl
import json
import os
import resource
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from resizable_search.errors import (
    ExhaustedError,
    IndexBusyError,
    IndexFormatError,
    OpenFilesError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.text import size

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
                "or use fewer `threads` or a smaller `concurrency`; nothing is lost"
            )
        no_memory = isinstance(at_the_bottom, OSError) and at_the_bottom.errno == errno.ENOMEM
        unmapped = isinstance(at_the_bottom, ImportError) and any(words in said for words in _NO_MEMORY)
        if no_memory or unmapped or isinstance(at_the_bottom, MemoryError):
            return ExhaustedError(
                "out of memory: end what takes much of it, raise its limit (`ulimit -v`), or use fewer "
                "`dims` or a smaller batch"
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


THREADS_VARIABLE = "RSEARCH_THREADS"
MOST = 1024


def thread_count(wanted: int | None = None) -> int:
    """`wanted`, else $RSEARCH_THREADS, else the cores that this process may use. Raises UsageError."""
    source, text = "threads", str(wanted)
    if wanted is None:
        chosen = os.environ.get(THREADS_VARIABLE, "").strip()
        if not chosen:
            return usable_cores()
        source, text = f"${THREADS_VARIABLE}", chosen
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST):
        raise UsageError(f"{source} must be a number from 1 to {MOST}, not {text!r}")
    return int(text)


def blas_threads() -> int:
    """How many threads numpy's matrix products use."""
    from threadpoolctl import threadpool_info

    pools: Sequence[dict[str, object]] = threadpool_info()
    return max((int(str(pool["num_threads"])) for pool in pools if pool["user_api"] == "blas"), default=1)


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


HOME_VARIABLE = "RSEARCH_HOME"
ANOTHER_HOME = f"choose another home with `home` or ${HOME_VARIABLE}"

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
            f"the unfinished build in {home} is damaged ({error}): begin again with `restart`"
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old content or the new, whatever happens. Raises OSError."""
    temporary = beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
        f"free some, {ANOTHER_HOME}, or ask for fewer `dims` or a smaller `limit`"
    )


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


HOLDER_SECONDS = 2.0
"""How long one that is refused waits for the holder to say who it is, which it does at once."""

LOOK_SECONDS = 0.01
"""How often it looks."""

MOST_BYTES = 1000
"""Of what a holder says of itself."""


@dataclass(frozen=True, slots=True)
class BuildLock:
    """The lock of an index's build, held; `path` is its file."""

    path: Path

    def remove_state(self) -> None:
        """Delete what is kept beside the index, and the lock itself at last: nothing may be done after it."""
        for path in sorted(self.path.parent.iterdir()):
            if path == self.path:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):
            self.path.unlink()
            self.path.parent.rmdir()  # unless somebody has made a lock anew, and is at work


@contextmanager
def build_lock(path: Path, name: str) -> Iterator[BuildLock]:
    """Hold the lock of an index's build. Raises IndexBusyError with the holder's pid and host, OSError.

    StorageError is raised where the file system has no locks.
    """
    handle = _take(path, name)
    try:
        said = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):  # on a full disk: the lock holds without it
            os.ftruncate(handle, 0)
            os.pwrite(handle, said, 0)
        yield BuildLock(path)
    finally:
        with suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)


def _take(path: Path, name: str) -> int:
    """Open the file at `path` and lock it; its descriptor."""
    until = time.monotonic() + HOLDER_SECONDS
    while True:
        late = time.monotonic() > until
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, FileExistsError):
            # Where nothing stands in its place, the folder was deleted in this moment, with the index.
            if late or (os.path.lexists(path.parent) and not path.parent.is_dir()):
                raise
            time.sleep(LOOK_SECONDS)
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _lies_at(handle, path):
                return handle
            os.close(handle)
        except BlockingIOError:
            said = os.pread(handle, MOST_BYTES, 0)
            os.close(handle)
            if late or _is_of_the_living(said):
                raise IndexBusyError(
                    f"{name} is being built by {_holder(said)}: wait for it, or choose another `name`"
                ) from None
            time.sleep(LOOK_SECONDS)
        except OSError as error:
            os.close(handle)
            raise StorageError(f"cannot lock {path} ({error.strerror}): {ANOTHER_HOME}") from None


def take_if_free(path: Path) -> int | None:
    """Open the file at `path`, made if it is not there, and lock it; None if another process holds it.

    The lock lasts until the descriptor is closed. Raises OSError, also where the file system has no locks.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _lies_at(handle, path):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _lies_at(handle: int, path: Path) -> bool:
    """Whether the file that is open is the one at that path, and not one that was deleted."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _is_of_the_living(said: bytes) -> bool:
    """Whether a holder says who it is, and is not one that died here: then its heir has yet to write."""
    try:
        found = json.loads(said)
        if found["host"] == socket.gethostname():
            os.kill(found["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except (ValueError, KeyError, TypeError, OverflowError):
        return False
    return True


def _holder(said: bytes) -> str:
    try:
        found = json.loads(said)
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


class Failpoint(StrEnum):
    """The commits of a build and of other changes, in order: a test lets the process die just behind each.

    Wherever a process dies, the same command goes on (docs/format.md, "An unfinished build").
    """

    SPOOLED = "documents are in the journal"
    JOURNALLED = "answers are in the journal"
    SYNCED = "vectors are on disk, but not counted"
    COUNTED = "vectors and their documents are committed"
    DOCUMENTS = "documents.sqlite is written"
    MARKED = "new bitmaps of deleted rows are on disk, but not listed"
    MANIFEST = "the manifest is written"
    EXCHANGED = "the old and the new index have changed places"
    PLACED = "an index or a part is in its place"
    DISCARDED = "the journal of the build is deleted"


def _live_on(point: Failpoint) -> None:
    """Do nothing."""


on_failpoint: Callable[[Failpoint], None] = _live_on
"""Replaced by tests."""


def failpoint(point: Failpoint) -> None:
    """Pass a failpoint."""
    on_failpoint(point)
