"""Listening sockets, uvicorn on them, and a stop that waits for the answers under way."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.service import socket_address
from resizable_search.service.app import compressed, create_app
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.middleware import AccessRules, Middleware
from resizable_search.service.protocol import LimitedProtocol
from resizable_search.store.layout import Home
from resizable_search.system import make_home

STOP_SECONDS = 10  # how long a stop waits for the answers under way
IDLE_SECONDS = 30  # after so long a connection without a request is closed
PROBE_SECONDS = 1.0
BACKLOG = 1024


@contextmanager
def captured_log(name: str, report: Callable[[str], None], level: int = logging.WARNING) -> Iterator[None]:
    """Send the records of a logger to `report`, one line each with its exception, and nowhere else."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            line = record.getMessage().strip().partition("\n")[0]
            report(f"{line} ({type(error).__name__}: {error})" if error is not None else line)

    log, handler = logging.getLogger(name), Lines(level)
    log.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)


class Server(uvicorn.Server):
    """uvicorn that returns on Ctrl-C or SIGTERM; `stopped_by` is the signal, 0 for none."""

    stopped_by = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal; the second one stops at once. uvicorn's own method sends it once more."""
        self.force_exit = self.should_exit
        self.stopped_by = self.stopped_by or sig
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0: any free one. Raises RsearchError, UsageError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"`host={host}` is not an address of this machine ({error})") from None
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise RsearchError(
            f"cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}): choose another `port`, "
            "or stop what listens there"
        ) from None


@contextmanager
def local_socket(home: Home) -> Iterator[socket.socket]:
    """The Unix socket of a home, mode 0600, listening; removed at the end. Raises StorageError."""
    path = home.socket
    make_home(home.path)
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            path.parent.mkdir(exist_ok=True)
            with socket_address(path) as address:
                if _is_answered(address):
                    raise StorageError("another one serves this home")
                with suppress(FileNotFoundError):
                    path.unlink()
                listening.bind(address)
            path.chmod(0o600)  # before `listen`: nobody can connect yet
            listening.listen(BACKLOG)
            own = path.lstat()
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror or error}") from None
        try:
            yield listening
        finally:
            with suppress(OSError):
                if os.path.samestat(own, path.lstat()):
                    path.unlink()


def _is_answered(address: str) -> bool:
    """Whether a living service listens at a path; a stopped process may accept no connection."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS)
        return probe.connect_ex(address) not in (errno.ENOENT, errno.ECONNREFUSED)


def run(
    pool: IndexPool,
    rules: AccessRules,
    sockets: Sequence[socket.socket],
    ready: Callable[[], None],  # is called when signals are handled
    report: Callable[[str], None],  # gets a line about each failure of the service
) -> int:
    """Serve on these sockets until a signal comes; returns its number."""
    server = Server(configured(pool, rules, ready))

    def report_unless_forced(line: str) -> None:
        if not server.force_exit:  # else the line is about what was cancelled
            report(line)

    with (
        captured_log("uvicorn.error", report_unless_forced, logging.ERROR),  # its warnings are about clients
        captured_log("mcp", report, logging.ERROR),
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(server.serve(list(sockets)))
    return server.stopped_by


def configured(
    pool: IndexPool, rules: AccessRules, ready: Callable[[], None] = lambda: None
) -> uvicorn.Config:
    """The configuration of uvicorn for the application that serves a pool."""
    app = create_app(pool, ready, has_token=bool(rules.token))
    guarded: ASGIApp = Middleware(compressed(app), rules, app.state.metrics, app.state.search)
    if rules.origins:
        guarded = CORSMiddleware(  # outermost, so that pages of allowed origins can read our refusals
            guarded,
            allow_origins=sorted(rules.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Mcp-Protocol-Version", "Mcp-Session-Id"],
        )
    return uvicorn.Config(
        guarded,
        http=LimitedProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # the client's address is that of the connection
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
