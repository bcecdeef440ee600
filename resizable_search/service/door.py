"""The door of a running service for the command line of its home: a Unix socket that takes errands.

Whoever may open it is the user (mode 0600, and the system tells who knocks) or root. What an errand is, the
handler knows; the talk is told in `knock`. The door has a thread of its own, so that beats come whatever
else the process does, and each errand is done on a thread that nobody waits for at the end.
"""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from resizable_search.errors import RsearchError
from resizable_search.service.knock import BEAT_SECONDS, GREETING, identity, is_own, reachable
from resizable_search.store.layout import NAMES, Home
from resizable_search.system import make_home, take_if_free

Handler = Callable[[Mapping[str, Any]], Any]
"""Does an errand and returns what JSON can hold. What it raises is declined, and by its kind alone told."""

AT_ONCE = 8
"""Errands that are done at the same time; others wait."""

MOST_VISITS = 64
"""Who comes when so many are there is turned away, and helps himself."""

MOST_LINE = 1 << 20
"""Bytes of an errand."""

PATIENCE_SECONDS = 5.0
"""How long somebody may take to say what he wants."""

TAKEN_SECONDS = 30.0
"""How long somebody may take to read the answer."""

GRACE_SECONDS = 5.0
"""How long errands that were begun may take when the door is closed."""


class Door:
    """The socket of a home, open while this is entered. Where there can be none, `problem` says why."""

    def __init__(self, home: Home, handler: Handler) -> None:
        self._home = home
        self._handler = handler
        self._held = ExitStack()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self.problem = ""
        """Why `rsearch query` will not find this service; '' if it will."""

    def __enter__(self) -> "Door":
        try:
            listening = self._bound()
        except RsearchError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{self._home.socket}: {error.strerror or error}"
        else:
            if listening is None:
                self.problem = "another service of this home answers it"
            else:
                self._open(listening)
        if self.problem:
            self._held.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(GRACE_SECONDS + 1)
        self._held.close()

    def _bound(self) -> socket.socket | None:
        """The socket, listening at its place; None if another service has it. Raises OSError, StorageError.

        The lock tells whether the socket that may lie there is a dead service's, which is replaced. What
        `_held` does when it is closed is done in the other order: the lock goes last.
        """
        path = self._home.socket
        make_home(self._home.path)
        path.parent.mkdir(exist_ok=True)
        lock = take_if_free(path.with_name(NAMES.serving))
        if lock is None:
            return None
        self._held.callback(lock.release)
        self._held.callback(_removed, path.with_name(NAMES.serving))
        with suppress(FileNotFoundError):
            path.unlink()
        listening = self._held.enter_context(socket.socket(socket.AF_UNIX))
        with suppress(OSError):  # where the system would not have the file made with it, it gets it below
            os.fchmod(listening.fileno(), 0o600)
        listening.bind(self._held.enter_context(reachable(path)))
        self._held.callback(_removed, path)
        path.chmod(0o600)
        listening.listen(MOST_VISITS)
        listening.setblocking(False)
        return listening

    def _open(self, listening: socket.socket) -> None:
        ready = threading.Event()

        def run() -> None:
            try:
                asyncio.run(self._serve(listening, ready))
            except OSError as error:
                self.problem = f"{self._home.socket}: {error.strerror or error}"
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, daemon=True, name="rsearch-door")
        self._thread.start()
        ready.wait()

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        loop = self._loop = asyncio.get_running_loop()
        visits: set[asyncio.Task[None]] = set()
        room = asyncio.Semaphore(AT_ONCE)

        def let_in() -> None:
            try:
                line, _ = listening.accept()
            except OSError:  # he has gone, or no more files may be opened: later, perhaps
                loop.remove_reader(listening)
                loop.call_later(BEAT_SECONDS, watch)
                return
            if len(visits) >= MOST_VISITS or not is_own(line):
                line.close()
                return
            line.setblocking(False)
            visit = loop.create_task(self._visit(line, room))
            visits.add(visit)
            visit.add_done_callback(visits.discard)
            visit.add_done_callback(lambda _: line.close())

        def watch() -> None:
            if not self._stop.is_set():
                loop.add_reader(listening, let_in)

        watch()
        ready.set()
        await self._stop.wait()
        loop.remove_reader(listening)
        _removed(self._home.socket)
        if visits:
            await asyncio.wait(visits, timeout=GRACE_SECONDS)

    async def _visit(self, line: socket.socket, room: asyncio.Semaphore) -> None:
        """Hear what one wants, do it, and tell him."""
        reader, writer = await asyncio.open_connection(sock=line, limit=MOST_LINE)
        try:
            writer.transport.set_write_buffer_limits(high=0)  # what is drained has been sent
            writer.write(_line(GREETING))
            async with asyncio.timeout(PATIENCE_SECONDS):
                errand = await reader.readline()
            work = asyncio.ensure_future(self._done(errand, room))
            while not (await asyncio.wait({work}, timeout=BEAT_SECONDS))[0]:
                if reader.at_eof():  # he has gone
                    work.cancel()
                    return
                writer.write(b"\n")
            writer.write(work.result())
            async with asyncio.timeout(TAKEN_SECONDS):
                await writer.drain()
        except (OSError, ValueError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(OSError):  # it is closed none the less
                await writer.wait_closed()

    async def _done(self, errand: bytes, room: asyncio.Semaphore) -> bytes:
        """The line that answers an errand, once there is room to do it, on a thread of its own."""
        await room.acquire()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()

        def finish(line: bytes) -> None:
            room.release()
            if not answered.done():
                answered.set_result(line)

        def work() -> None:
            line = self._answer(errand)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, line)

        try:
            threading.Thread(target=work, daemon=True, name="rsearch-errand").start()
        except RuntimeError:  # the system has no more of them
            finish(_line({"declined": "no thread"}))
        return await answered

    def _answer(self, line: bytes) -> bytes:
        try:
            asked = json.loads(line)
            greeting = {name: asked.pop(name) for name in GREETING}
            if greeting != GREETING or asked.pop("home") != identity(self._home):
                return _line({"declined": "another version or home"})
            return _line({"done": self._handler(asked)})
        except Exception as error:  # who asked does it himself, and tells what is wrong
            return _line({"declined": type(error).__name__})


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _removed(path: os.PathLike[str]) -> None:
    with suppress(OSError):
        os.unlink(path)
