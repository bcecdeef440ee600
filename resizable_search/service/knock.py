"""Ask a service of this home, through its socket, to do an errand. Its other side is `door`.

Who knocks sends one line of JSON. What comes back, a line each: who answers (`GREETING`), at once; a blank
line every BEAT_SECONDS while it works; at last `{"done": …}`, or `{"declined": "why"}` where the one who
knocked must do it. Nothing here is heavy: a command that knocks wants to be quick, and most find no door.
"""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search import __version__
from resizable_search.store.layout import Home

if TYPE_CHECKING:
    import socket

GREETING = {"rsearch": 1, "version": __version__}
"""The version of this protocol, and of the package: both sides must be of the same."""

BEAT_SECONDS = 0.5
SILENT_SECONDS = 2.0
"""How long nothing may come from a service that is alive."""

MOST_BYTES = 1 << 28
"""Of an answer."""

MOST_PATH = 103
"""Bytes that the address of a socket may have: 107 on Linux, 103 elsewhere."""


def ask(home: Home, errand: Mapping[str, Any]) -> Any | None:
    """What a service of this home answers; None if there is none, or it will not or cannot do it.

    `errand` is what its handler takes, as JSON has it.
    """
    try:
        if not _is_ours(home.socket):
            return None
    except (OSError, ValueError):  # of a path that no disk could hold
        return None
    import json
    import socket

    try:
        with socket.socket(socket.AF_UNIX) as line, reachable(home.socket) as address:
            line.settimeout(SILENT_SECONDS)
            line.connect(address)
            if not is_own(line):
                return None
            line.sendall(json.dumps({**GREETING, "home": identity(home), **errand}).encode() + b"\n")
            lines = _lines(line)
            if json.loads(next(lines)) != GREETING:
                return None
            answer = json.loads(next(lines))
    except (OSError, ValueError, RecursionError, StopIteration):
        return None
    return answer.get("done") if isinstance(answer, dict) else None


def _is_ours(path: Path) -> bool:
    """Whether a socket lies there, and is this user's or root's."""
    found = path.lstat()
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in (os.geteuid(), 0)


def _lines(line: "socket.socket") -> Iterator[bytes]:
    """The lines that come, without the blank ones. Raises OSError when nothing has come for too long."""
    begun = bytearray()
    while more := line.recv(1 << 16):
        *ended, rest = more.split(b"\n")
        for end in ended:
            if whole := bytes(begun + end):
                yield whole
            begun.clear()
        begun += rest
        if len(begun) > MOST_BYTES:
            return


def is_own(line: "socket.socket") -> bool:
    """Whether the process at the other end is this user's or root's, where the system tells."""
    import socket

    if not hasattr(socket, "SO_PEERCRED"):
        return True
    pid_uid_gid = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(pid_uid_gid[4:8], sys.byteorder) in (os.geteuid(), 0)


def identity(home: Home) -> list[int]:
    """What a home is known by, whatever path leads to it. Raises OSError."""
    found = home.path.stat()
    return [found.st_dev, found.st_ino]


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """The address of a socket's path, while this lasts. One that is too long leads through its folder."""
    if len(os.fsencode(path)) <= MOST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"  # of Linux; elsewhere there is no such file
    finally:
        os.close(folder)
