"""One build of a name at a time, by a lock of the operating system that dies with its process."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resizable_search.errors import IndexBusyError
from resizable_search.index.layout import NAMES


@contextmanager
def build_lock(state: Path, name: str) -> Iterator[None]:
    """Hold the lock of an index's build. Raises IndexBusyError with the holder's pid and host."""
    state.mkdir(parents=True, exist_ok=True)
    path = state / NAMES.lock
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise IndexBusyError(
                f"{name} is being built by {_holder(file.read())}: wait for it, or choose another --name"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield
        file.truncate(0)


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
