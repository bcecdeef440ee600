"""One build of a name at a time, by a lock of the operating system that dies with its process.

The lock is flock's, on a file beside the index. What makes it sound is that the file is deleted only by
whoever holds it, as the last thing that is done under it, and that whoever gets it looks whether the file
still is the one at that path: a lock on a file that was deleted meanwhile keeps nobody out.
"""

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import IndexBusyError, StorageError
from resizable_search.index.layout import ANOTHER_HOME, NAMES

HOLDER_SECONDS = 2.0
"""How long one that is refused waits for the holder to say who it is, which it does at once."""

LOOK_SECONDS = 0.01
"""How often it looks."""

MOST_BYTES = 1000
"""Of what a holder says of itself."""


@dataclass(frozen=True, slots=True)
class BuildLock:
    """The lock of an index's build, held; `state` is the folder that it lies in."""

    state: Path

    def remove_state(self) -> None:
        """Delete what is kept beside the index, and the lock itself at last: nothing may be done after it."""
        for path in sorted(self.state.iterdir()):
            if path.name == NAMES.lock:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):
            (self.state / NAMES.lock).unlink()
            self.state.rmdir()  # unless somebody has made a lock anew, and is at work


@contextmanager
def build_lock(state: Path, name: str) -> Iterator[BuildLock]:
    """Hold the lock of an index's build. Raises IndexBusyError with the holder's pid and host, OSError.

    StorageError is raised where the file system has no locks.
    """
    handle = _take(state / NAMES.lock, name)
    try:
        said = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):  # on a full disk: the lock holds without it
            os.ftruncate(handle, 0)
            os.pwrite(handle, said, 0)
        yield BuildLock(state)
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
                    f"{name} is being built by {_holder(said)}: wait for it, or choose another --name"
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
