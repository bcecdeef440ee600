"""The tools of assistants over stdin and stdout, until stdin ends or a signal comes."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
from mcp.server.stdio import stdio_server

from resizable_search.service.service import Service
from resizable_search.service.shelf import Shelf
from resizable_search.service.telling import told
from resizable_search.service.tools import create_server

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(shelf: Shelf, *, trouble: Callable[[str], None] = lambda told: None) -> int:
    """Serve a shelf's indexes over stdin and stdout; returns the signal that ended it, 0 for stdin's end.

    It closes the shelf. While it runs, whatever else this process prints goes to stderr. `trouble` is
    called with a line about whatever failed that is no caller's doing.
    """
    with told("mcp", trouble):
        try:
            return asyncio.run(_serve(shelf))
        except BaseExceptionGroup as group:
            error = _first(group)
            if isinstance(error, BrokenPipeError):  # the client has gone without closing our stdin
                return 0
            raise error from None


async def _serve(shelf: Shelf) -> int:
    server = create_server(partial(_serving, shelf))
    stopped_by = 0
    with anyio.CancelScope() as scope:

        def stop(number: int) -> None:
            nonlocal stopped_by
            if stopped_by:  # a client that reads nothing more holds up the end
                os._exit(128 + number)
            stopped_by = number
            scope.cancel()

        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)
        try:
            async with stdio_server(_Lines(loop)) as (read, write):  # type: ignore[arg-type]  # as a file's
                await server.run(read, write, server.create_initialization_options())
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
    return stopped_by


@asynccontextmanager
async def _serving(shelf: Shelf) -> AsyncIterator[Service]:
    service = Service(shelf)
    try:
        yield service
    finally:
        service.close()


class _Lines:
    """The lines of stdin, which whoever else reads it finds empty meanwhile.

    They are read by a thread of ours: the SDK's own waits for the next line before a signal can end it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._read: asyncio.Queue[bytes] = asyncio.Queue()
        number = sys.stdin.fileno()
        self._file = os.fdopen(os.dup(number), "rb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, number)
        os.close(nothing)
        threading.Thread(target=self._work, name="stdin", daemon=True).start()

    def __aiter__(self) -> "_Lines":
        return self

    async def __anext__(self) -> str:
        line = await self._read.get()
        if not line:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    def _work(self) -> None:
        line = b"-"
        while line:
            try:
                line = self._file.readline()
            except OSError:  # such as of a terminal that has gone
                line = b""
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._read.put_nowait, line)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
