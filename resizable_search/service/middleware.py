"""What stands before the API: who may ask, how much, and what a browser may do with the answers."""

import asyncio
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from resizable_search.service.metrics import ServiceMetrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

MOST_BYTES = 1 << 20
"""Bytes of a request's body: enough for a full batch of the longest texts."""

BODY_SECONDS = 10.0
"""How long a request's body may take to arrive."""

MOST_UNDER_WAY = 256
"""Requests of the API that may wait for their answers at once."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""Swagger UI sets style attributes."""

ROUTES = ("/api/search", "/api/indexes", "/api/documents", "/healthz", "/metrics", "/mcp", "/docs", "/page")
"""The labels of request metrics."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may ask: `hosts` are the service's own names, `origins` other pages that may use it.

    `any_address`: every IP address is its own name too, since no attacker's name is one. `token`: what
    users of the API must send; '' for none.
    """

    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()
    any_address: bool = False
    token: str = ""

    @classmethod
    def of(
        cls, host: str, *, more: Sequence[str] = (), origins: Sequence[str] = (), token: str = ""
    ) -> "AccessRules":
        """The rules of a service that listens on an address."""
        address = f"[{host}]" if ":" in host else host
        names = {name.lower() for name in (*LOOPBACK, address, *more)}
        is_remote = not is_loopback(host)
        if is_remote:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names), frozenset(origins), is_remote, token)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this service; an attacker's page may point its own name here."""
        name, colon, port = host.rpartition(":")
        name = (name if colon and port.isdigit() else host).lower().removesuffix(".")
        return name in self.hosts or (self.any_address and _is_address(name.strip("[]")))

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page of that origin may ask: the service's own pages, and allowed origins."""
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_local(scope: Scope) -> bool:
    """Whether a request came through the home's Unix socket, which only its user can open."""
    server = scope.get("server")
    return server is None or server[1] is None


class RefusedError(Exception):
    """A request that goes no further: its status, message and headers."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Middleware:
    """Refuses requests by the rules, and counts all of them.

    Starlette's TrustedHostMiddleware cannot allow every IP address, and its refusals are not JSON.
    `quick`: applications by method and path that are called instead of `app`.
    """

    def __init__(
        self,
        app: App,
        rules: AccessRules,
        metrics: ServiceMetrics,
        quick: Mapping[tuple[str, str], App] | None = None,
    ) -> None:
        self._app = app
        self._quick = quick or {}
        self._rules = rules
        self._metrics = metrics
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        path: str = scope["path"]
        status = 0
        is_api = path.startswith(("/api/", "/mcp", "/metrics"))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = _API_HEADERS if is_api else _DOCS_HEADERS if path == "/docs" else _PAGE_HEADERS
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        self._under_way += is_api
        self._metrics.under_way.inc(is_api)
        try:
            headers = dict(scope["headers"])
            self._check(scope, headers, is_api)
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = await _read(receive, headers)
            await self._quick.get((scope["method"], path), self._app)(scope, receive, answer)
        except RefusedError as refused:
            await _refuse(refused, answer)
        except asyncio.CancelledError:  # the service stops, and has waited long enough
            if status:
                raise
            await _refuse(RefusedError(503, "the service stops: try again when it runs"), answer)
        finally:
            self._under_way -= is_api
            self._metrics.under_way.dec(is_api)
            self._metrics.request(_route(path), status or 500, time.perf_counter() - begin)

    def _check(self, scope: Scope, headers: dict[bytes, bytes], is_api: bool) -> None:
        """Raises RefusedError."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._rules.knows(host):
            raise RefusedError(
                421, f"{json.dumps(host[:80])} is not a name of this service: see --allow-host"
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._rules.trusts(origin.decode("latin-1"), host):
            raise RefusedError(403, "pages of other origins may not use this service: see --cors")
        if not is_api:
            return
        is_preflight = scope["method"] == "OPTIONS" and origin is not None
        if self._rules.token and not is_preflight and not is_local(scope):
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            is_right = hmac.compare_digest(token.strip(), self._rules.token.encode())
            if scheme.lower() != b"bearer" or not is_right:
                raise RefusedError(
                    401,
                    "this service needs its token: send `Authorization: Bearer TOKEN`",
                    (b"www-authenticate", b"Bearer"),
                )
        if self._under_way > MOST_UNDER_WAY:
            raise RefusedError(
                429, f"{MOST_UNDER_WAY} requests are under way: try again in a second", (b"retry-after", b"1")
            )


async def _read(receive: Receive, headers: dict[bytes, bytes]) -> Receive:
    """Read the whole body of a request before it is handled. Raises RefusedError."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MOST_BYTES:
        raise _too_large()
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    # asyncio.timeout does the same in three times the time.
    task = cast("asyncio.Task[None]", asyncio.current_task())
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, give_up)
    try:
        body = await request_body(receive)
    except asyncio.CancelledError:
        if not is_late or task.uncancel():
            raise
        raise RefusedError(
            408, f"the request took more than {BODY_SECONDS:g} s: send it again", (b"connection", b"close")
        ) from None
    finally:
        timer.cancel()
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def request_body(receive: Receive) -> bytes:
    """The whole body of a request. Raises RefusedError for a large one."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _too_large() -> RefusedError:
    return RefusedError(
        413, f"a request may have {MOST_BYTES:,} bytes: send fewer texts at once", (b"connection", b"close")
    )


async def _refuse(refused: RefusedError, send: Send) -> None:
    body = json.dumps({"error": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {"type": "http.response.start", "status": refused.status, "headers": [*headers, *refused.headers]}
    )
    await send({"type": "http.response.body", "body": body})


def _headers(policy: str, cache_control: str) -> Headers:
    return (
        (b"content-security-policy", policy.encode()),
        (b"cache-control", cache_control.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
    )


_API_HEADERS = _headers(_POLICY, "no-store")
_DOCS_HEADERS = _headers(_DOCS_POLICY, "no-cache")
_PAGE_HEADERS = _headers(_POLICY, "no-cache")


def _route(path: str) -> str:
    """The metrics' label of a path."""
    if path == "/":
        return path
    return next((route for route in ROUTES if path.startswith(route)), "other")


def origin_of(text: str) -> str | None:
    """An origin as browsers send it, such as https://example.org:8443; None for any other text."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower()
