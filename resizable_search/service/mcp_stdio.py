"""The tools of assistants over stdin and stdout, until stdin ends or a signal comes."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
from mcp.server.stdio import stdio_server
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCRequest, jsonrpc_message_adapter

from resizable_search.service.index_pool import IndexPool
from resizable_search.service.mcp import create_server
from resizable_search.service.server import told
from resizable_search.service.service import Service

LAST_SECONDS = 60.0
"""How long the end of stdin waits for the answers that are under way."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(shelf: IndexPool, *, trouble: Callable[[str], None] = lambda told: None) -> int:
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


async def _serve(shelf: IndexPool) -> int:
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
            with _Answers() as answers:
                lines = _Lines(loop, answers)
                async with stdio_server(lines, answers) as (read, write):  # type: ignore[arg-type]  # as files
                    await server.run(read, write, server.create_initialization_options())
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
    return stopped_by


@asynccontextmanager
async def _serving(shelf: IndexPool) -> AsyncIterator[Service]:
    service = Service(shelf)
    try:
        yield service
    finally:
        service.close()


class _Answers:
    """The stdout of the protocol, to which nobody else writes, and the requests that wait for an answer."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    def __enter__(self) -> "_Answers":
        sys.stdout.flush()
        self._number = sys.stdout.fileno()
        self._kept = os.dup(self._number)
        os.dup2(2, self._number)
        self._file = anyio.wrap_file(os.fdopen(os.dup(self._kept), "w", encoding="utf-8"))
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._kept, self._number)
        os.close(self._kept)

    async def write(self, line: str) -> None:
        """Write a message, at once."""
        async with self._turn:
            await self._file.write(line)
            await self._file.flush()
        told = json.loads(line)
        if "method" not in told:
            self.forget(told.get("id"))

    async def flush(self) -> None:
        """Nothing: a message is written at once."""

    def expect(self, request: str | int) -> None:
        """A request of this id has come."""
        self._waiting.add(json.dumps(request))

    def forget(self, request: str | int | None) -> None:
        """The request of this id was answered, or is not wanted any more."""
        self._waiting.discard(json.dumps(request))
        self._changed.set()

    async def end(self) -> None:
        """Wait until every request is answered, a minute at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._waiting:
                    self._changed.clear()
                    await self._changed.wait()

    async def refuse(self, line: str) -> None:
        """Answer a line that is no message of the protocol."""
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            code, what, request = PARSE_ERROR, "the line is no JSON", None
        else:
            code, what = INVALID_REQUEST, "the line is no JSON-RPC 2.0 message"
            request = told.get("id") if isinstance(told, dict) else None
            request = request if isinstance(request, str | int) else None
        error = {"code": code, "message": what}
        await self.write(json.dumps({"jsonrpc": "2.0", "id": request, "error": error}) + "\n")


class _Lines:
    """The lines of stdin, which whoever else reads it finds empty meanwhile.

    They are read by a thread of ours: the SDK's own waits for the next line before a signal can end it.
    They end when what came before their end is answered: the SDK answers nothing more then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: _Answers) -> None:
        self._loop = loop
        self._answers = answers
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
        while line := await self._read.get():
            said = line.decode("utf-8", "replace")
            if not said.strip():
                continue
            try:
                message = jsonrpc_message_adapter.validate_json(said, by_name=False)
            except Exception:  # pydantic's, and what a nesting too deep raises
                await self._answers.refuse(said)
                continue
            if isinstance(message, JSONRPCRequest):
                self._answers.expect(message.id)
            elif getattr(message, "method", "") == "notifications/cancelled":
                self._answers.forget((getattr(message, "params", None) or {}).get("requestId"))
            return said
        await self._answers.end()
        raise StopAsyncIteration

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
