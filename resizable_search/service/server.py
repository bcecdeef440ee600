"""The listening: a socket, uvicorn on it, and a stop that lets what is under way be answered.

What libraries log, told in a line each.
"""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.middleware.cors import CORSMiddleware

from resizable_search.errors import RsearchError, UsageError
from resizable_search.service.app import create_app
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.metrics import ServiceMetrics
from resizable_search.service.middleware import AccessRules, App, Middleware


@contextmanager
def told(name: str, trouble: Callable[[str], None], level: int = logging.WARNING) -> Iterator[None]:
    """Have `trouble` called with a line about each record that a logger takes, and nobody else."""
    log = logging.getLogger(name)
    handler = _Telling(trouble, level)
    log.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)


class _Telling(logging.Handler):
    """Tells records in a line each."""

    def __init__(self, trouble: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._trouble = trouble

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record, with the kind of the exception that it has."""
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage().strip().partition("\n")[0]
        self._trouble(f"{said} ({type(error).__name__}: {error})" if error is not None else said)


STOP_SECONDS = 10
"""How long a stop waits for the answers that are under way."""

IDLE_SECONDS = 30
"""After which a connection without a request is closed."""

BACKLOG = 1024


class Server(uvicorn.Server):
    """uvicorn, which on Ctrl-C or SIGTERM ends by returning; `stopped_by` is the signal, 0 for none."""

    stopped_by = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; the second Ctrl-C waits for nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: object) -> None:
        if self.should_exit:
            self.force_exit = True
        self.stopped_by = self.stopped_by or number
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0: on any that is free. Raises RsearchError, UsageError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host} is no address of this machine ({error})") from None
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise RsearchError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): choose another with --port, "
            "or stop what listens there"
        ) from None
    return found


def run(
    shelf: IndexPool,
    rules: AccessRules,
    listening: socket.socket,
    *,
    ready: Callable[[], None] = lambda: None,
    trouble: Callable[[str], None] = lambda told: None,
) -> int:
    """Serve until a signal comes; returns its number.

    `ready` is called when the first request can come, `trouble` with a line about whatever failed that
    is no caller's doing.
    """
    server = Server(configured(shelf, rules))

    async def serve() -> None:
        telling = asyncio.create_task(_tell_when_started(server, ready))
        await server.serve([listening])
        telling.cancel()

    try:
        with (
            told("uvicorn.error", trouble, logging.ERROR),  # what it warns of is callers' doing
            told("mcp", trouble, logging.ERROR),
            asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
        ):
            runner.run(serve())
    finally:
        listening.close()
    return server.stopped_by


def configured(shelf: IndexPool, rules: AccessRules) -> uvicorn.Config:
    """Uvicorn's configuration for an application that serves a shelf."""
    meters = ServiceMetrics()
    app = create_app(shelf, meters=meters)
    guarded: App = Middleware(app, rules, meters, {("POST", "/api/search"): app.state.search})
    if rules.origins:
        guarded = CORSMiddleware(  # around the guard, so that its refusals are told to those pages too
            guarded,
            allow_origins=sorted(rules.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return uvicorn.Config(
        guarded,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # who asks is told by the connection alone
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


async def _tell_when_started(server: Server, ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready()
