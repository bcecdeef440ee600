"""The operating system: threads, limits, disk space, files replaced in one step, locks and failpoints.

What the system refuses becomes an error that names the remedy, by one table from errno.
"""

import errno
import json
import os
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.errors import (
    ExhaustedError,
    IndexBusyError,
    IndexFormatError,
    OpenFilesError,
    RsearchError,
    StorageError,
    UsageError,
    causes,
)
from resizable_search.text import BACK, size

if TYPE_CHECKING:
    from filelock import BaseFileLock

HOME_VARIABLE = "RSEARCH_HOME"
ANOTHER_HOME = f"choose another home with `home` or ${HOME_VARIABLE}"
CHECK = "check its permissions"  # where another home would not help
_NO_THREAD = -1  # in place of an errno: Python raises RuntimeError

RESUMES = "the same command resumes"
_FULL = StorageError, "the disk of {home} is full; nothing is lost: free some space, and {again}"
_REFUSED = StorageError, "cannot write to {path} ({reason}): {remedy}"
_FAILED = StorageError, "cannot write to {path} ({reason}): see that its disk is sound"
_REMEDIES: dict[int, tuple[type[RsearchError], str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR), _REFUSED),
    **dict.fromkeys((errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG), _REFUSED),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO), _FAILED),
    errno.EFBIG: (
        StorageError,
        "a file in {home} would be larger than this process may write, or this disk can hold: raise the "
        f"limit with `ulimit -f unlimited`, or {ANOTHER_HOME}; nothing is lost",
    ),
    errno.EMFILE: (
        OpenFilesError,
        "this takes more open files than the limit allows ({files}): raise it with `ulimit -n 1024` or more, "
        "and give the same command again; nothing is lost",
    ),
    errno.ENFILE: (
        OpenFilesError,
        "the machine has too many files open: end what holds so many, and try again",
    ),
    errno.ENOMEM: (
        ExhaustedError,
        "out of memory: end what takes much of it, raise its limit (`ulimit -v`), or use fewer `dims` or a "
        "smaller batch",
    ),
    _NO_THREAD: (
        ExhaustedError,
        "no further thread can be started: raise the limit of processes (`ulimit -u`) or of memory, or use "
        "fewer `threads` or a smaller `concurrency`; nothing is lost",
    ),
}
_LIMITS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE)  # in any folder

_WORDS = {
    "can't start new thread": _NO_THREAD,
    os.strerror(errno.EMFILE): errno.EMFILE,
    "failed to map segment from shared object": errno.ENOMEM,
    "cannot allocate memory": errno.ENOMEM,
}
"""What Python and the loader of compiled modules say without a number."""


def _refusal(
    number: int, home: Path, path: object = None, remedy: str = ANOTHER_HOME, again: str = RESUMES
) -> RsearchError | None:
    if number not in _REMEDIES:
        return None
    kind, words = _REMEDIES[number]
    reason, files = os.strerror(max(number, 0)), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return kind(
        words.format(home=home, path=path or home, remedy=remedy, again=again, reason=reason, files=files)
    )


def exhausted(error: BaseException | None) -> RsearchError | None:
    """The error for the limit of files, memory or threads that caused this one, at any depth; else None."""
    for cause in causes(error):
        if isinstance(cause, OpenFilesError | ExhaustedError):
            return cause
        number = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, MemoryError):
            number = errno.ENOMEM
        elif isinstance(cause, ImportError | RuntimeError):
            number = next((number for words, number in _WORDS.items() if words in str(cause)), None)
        if number in _REMEDIES and _REMEDIES[number][0] is not StorageError:
            return _refusal(number, Path())
    return None


@contextmanager
def storage_errors(
    home: Path, remedy: str = ANOTHER_HOME, again: Callable[[], str] = lambda: RESUMES
) -> Iterator[None]:
    """Raise StorageError for what the disk refuses below `home`.

    `remedy` is what to do where writing is not allowed; `again` says what happens to the work.
    """
    import sqlite3

    try:
        yield
    except OSError as error:
        raise _refusal(error.errno or 0, home, error.filename, remedy, again()) or error from None
    except StorageError as error:
        cause = error.__cause__  # of an embedder's state, for example
        if isinstance(cause, OSError) and cause.errno in _LIMITS:
            raise _refusal(cause.errno, home, again=again()) or error from None
        raise
    except sqlite3.DatabaseError as error:
        raise _sqlite_refusal(error, home, again()) from None


def _sqlite_refusal(error: Exception, home: Path, again: str) -> Exception:
    import sqlite3

    extended = getattr(error, "sqlite_errorcode", 0)
    code, number = extended & 0xFF, 0
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        number = errno.ENOSPC
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(f"the build in {home} is damaged ({error}): begin again with `restart`")
    elif not isinstance(error, sqlite3.OperationalError):
        return error
    elif code == sqlite3.SQLITE_IOERR:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        number = 0 if most == resource.RLIM_INFINITY else errno.EFBIG
    return _refusal(number, home, again=again) or StorageError(
        f"cannot write the build in {home} ({error}): check its permissions, and its disk"
    )


@contextmanager
def sqlite_os_errors(folder: Path) -> Iterator[None]:
    """Raise the system's OSError where SQLite only says that it cannot open or write a file in `folder`."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            write_probe(folder)
        raise


def write_probe(folder: Path) -> None:
    """Write temporary files in `folder`. Raises OSError if the system refuses it."""
    import tempfile  # only a failure needs it

    with ExitStack() as stack:
        for _ in range(8):  # more than SQLite has open at once
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            file.write(bytes(1 << 16))


def unreadable(path: Path, error: OSError, remedy: str = BACK) -> RsearchError:
    """The error for a file of an index that cannot be read, or is missing and has this remedy."""
    if isinstance(error, FileNotFoundError):
        return IndexFormatError(f"{path} is missing: {remedy}")
    return exhausted(error) or IndexFormatError(
        f"{path} cannot be read ({error.strerror}): check what lies there, and its permissions"
    )


def raise_limit() -> bool:
    """Let this process open as many files as the system allows; whether that is more than before."""
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

    pools: Sequence[dict[str, Any]] = threadpool_info()
    return max((int(pool["num_threads"]) for pool in pools if pool["user_api"] == "blas"), default=1)


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """The bytes that are free where a folder lies, or will lie."""
    return shutil.disk_usage(existing(folder)).free


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; 0 if there is no such folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


FEWER_ROWS = f"{ANOTHER_HOME}, or ask for fewer `dims` or a smaller `limit`"  # of a large index


def make_sure_of_room(what: str, needed: int, folder: Path, remedy: str = FEWER_ROWS) -> None:
    """Refuse to begin what `folder` has not as many bytes for as are `needed`. Raises StorageError."""
    free = free_bytes(folder)
    if needed > free:
        takes = f"{what} takes {size(needed)} more at least, and {size(free)} are free at {folder}"
        raise StorageError(f"{takes}: free some, {remedy}")


def make_home(home: Path) -> None:
    """Make the folder of all indexes if it does not exist. Raises StorageError."""
    try:
        with storage_errors(home):
            home.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # below a file system that has no folders, such as /proc
        raise StorageError(f"cannot write to {home} ({error.strerror}): {ANOTHER_HOME}") from None


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


def remove_folder(folder: Path) -> None:
    """Delete a folder with its content, or a link to one."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, by renameat2 of Linux; False where the system cannot."""
    import ctypes  # which takes long

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, how = -100, 2  # AT_FDCWD: names are as for open; RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), how) == 0)


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


HOLDER_SECONDS = 2.0  # a refused process waits for the holder to write who it is, which it does at once
POLL_SECONDS = 0.01


def empty_state(lock: Path) -> None:
    """Delete the files beside a held lock."""
    for path in sorted(lock.parent.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path != lock:
            path.unlink(missing_ok=True)


def remove_state(lock: Path) -> None:
    """Delete the files beside a held lock, and the lock last: nothing may be done after it."""
    empty_state(lock)
    lock.unlink()
    with suppress(OSError):
        lock.parent.rmdir()  # unless somebody has made a lock again, and is at work


@contextmanager
def build_lock(path: Path, name: str, verb: str = "built", elsewhere: str = "") -> Iterator[None]:
    """Hold the lock of what is built; the system releases it with its process.

    Raises IndexBusyError with the holder's process and host, OSError, and StorageError if the file system has
    no locks. `elsewhere`: the remedy for what is no build.
    """
    handles: list[int] = []
    lock = file_lock(path, handles.append)
    _acquire(lock, path, f"{name} is being {verb}", elsewhere)
    try:
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):  # on a full disk: the lock holds without it
            os.ftruncate(handles[0], 0)
            os.pwrite(handles[0], holder, 0)
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(handles[0], 0)
        lock.release()


def file_lock(path: Path, on_acquired: Callable[[int], None] | None = None) -> "BaseFileLock":
    """A lock of the operating system. A lock on a file that was deleted meanwhile is not taken for one."""
    from filelock import FileLock  # 65 ms

    return FileLock(
        path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True, on_acquired=on_acquired
    )


def _acquire(lock: "BaseFileLock", path: Path, busy: str, elsewhere: str) -> None:
    from filelock import Timeout

    until = time.monotonic() + HOLDER_SECONDS
    while True:
        try:
            lock.acquire(HOLDER_SECONDS, POLL_SECONDS, cancel_check=lambda: bool(_living_holder(path)))
            return
        except Timeout:
            holder = _living_holder(path) or "another process"
            remedy = elsewhere or "choose another `name`"
            raise IndexBusyError(f"{busy} by {holder}: wait for it, or {remedy}") from None
        except (FileNotFoundError, FileExistsError):
            # The folder was deleted in this moment, with the index, unless something else is there.
            if time.monotonic() > until or (os.path.lexists(path.parent) and not path.parent.is_dir()):
                raise
        except OSError as error:
            if error.filename is not None:
                raise
            remedy = elsewhere or ANOTHER_HOME
            raise StorageError(f"cannot lock {path} ({error.strerror}): {remedy}") from None
        time.sleep(POLL_SECONDS)


def _living_holder(path: Path) -> str:
    try:
        with path.open("rb") as file:
            holder = json.loads(file.read(1000))
        pid, host = int(holder["pid"]), str(holder["host"])
        if host == socket.gethostname():
            with suppress(PermissionError):  # a process of another user
                os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return ""
    return f"process {pid} on {host}"
