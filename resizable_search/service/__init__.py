"""Indexes that answer over HTTP and to assistants (MCP).

Here: what a service and `rsearch query` share about the Unix socket of a home.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resizable_search import __version__

ENDPOINT_VARIABLES = ("ATLAS_API_PATH", "OPENAI_BASE_URL")  # where texts are sent to be embedded
MOST_PATH = 103  # bytes of a socket's address: 107 on Linux, 103 elsewhere


def identity(folder: Path, engine: str, threads: int | None) -> dict[str, Any]:
    """What two processes must have in common to give the same answers from an index's folder.

    `threads`: None for any number. Raises OSError for a missing folder.
    """
    status = folder.stat()
    return {
        "version": __version__,
        "folder": [status.st_dev, status.st_ino],
        "engine": engine,
        "threads": threads,
        "endpoints": [os.environ.get(name) for name in ENDPOINT_VARIABLES],
    }


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """The address of a socket's path. A path that is too long leads through its open folder (Linux)."""
    if len(os.fsencode(path)) <= MOST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
