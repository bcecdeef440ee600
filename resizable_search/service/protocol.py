"""uvicorn's HTTP protocol, with limits that it has no settings for.

Its `timeout_keep_alive` begins with the first answer. Its `h11_max_incomplete_event_size` is for h11 alone.
Its `limit_concurrency` closes no connection, and refuses health checks too.
"""

import asyncio
import resource
from functools import partial
from typing import Any

from httptools import HttpParserError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from resizable_search.service.refusals import refuse

HEAD_SECONDS = 10.0  # how long the headers of a request may take to arrive
MOST_HEADERS = 1 << 16  # bytes of a request line and its headers
MOST_CONNECTIONS = 1024
SPARE_CONNECTIONS = 16  # above that, for health checks


class LimitedProtocol(HttpToolsProtocol):
    """A connection with bounds on the time and the size of headers; there are only so many of them."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.url = b""
        self._head_bytes = 0
        self._is_in_body = False
        self._since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way."""
        return not self._is_in_body and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for headers, and make room."""
        super().connection_made(transport)
        self._start_deadline()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # half of them are for connections, at most
        most = MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)
        everyone: set[Any] = self.connections
        if len(everyone) <= most:
            return
        # One more closes the one that waits longest, or if none waits, may only ask for /healthz.
        if waiting := [one for one in everyone if one is not self and one.is_waiting]:
            min(waiting, key=lambda one: one._since).transport.abort()
        elif len(everyone) <= most + SPARE_CONNECTIONS:
            self.app = partial(_for_health_checks, self.app)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Refuse headers without an end."""
        if self._head_bytes > MOST_HEADERS:
            self.send_400_response("")
            return
        if not self._is_in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        is_partial = self._head_bytes or self._is_in_body
        if is_partial and (self.is_waiting or self.cycle.response_complete):  # nobody else waits for the rest
            self._start_deadline()

    def on_headers_complete(self) -> None:
        """Refuse long headers, which may have arrived at once."""
        self._head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._head_bytes > MOST_HEADERS:
            raise HttpParserError("long headers")  # it becomes `send_400_response`
        self._head_bytes = 0
        self._is_in_body = True
        self._since = self.loop.time()
        self._stop_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next request."""
        self._is_in_body = False
        self._stop_deadline()
        self.scope["state"]["is_whole"] = True  # so that `Middleware` need not read it
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and headers that are too long."""
        if self._head_bytes <= MOST_HEADERS:
            super().send_400_response(msg)
        elif not self.transport.is_closing():
            problem = f"the headers of a request may have {MOST_HEADERS:,} bytes: send shorter ones"
            body = bytes(refuse(self.url.decode("latin-1"), HTTPException(431, problem)).body)
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_deadline()
        super().connection_lost(exc)

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def _for_health_checks(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a health check by the application, and refuse all else."""
    if scope["path"] != "/healthz":
        headers = {"connection": "close", "retry-after": "1"}
        problem = "too many connections are open: try again in a second"
        app = refuse(scope["path"], HTTPException(503, problem, headers))
    await app(scope, receive, send)
