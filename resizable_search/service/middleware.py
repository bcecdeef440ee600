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

MOST_BYTES = 1 << 20
"""Of a request's body: a batch of texts of the longest kind."""

BODY_SECONDS = 10.0
"""In which the body of a request has to come."""

MOST_UNDER_WAY = 256
"""Requests of the API that wait for their answers at once."""

_SELF = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
POLICIES = {"/docs": _SELF.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")}
"""Content security policies that are not the usual one: Swagger UI sets style attributes."""

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

ROUTES = ("/api/search", "/api/indexes", "/api/documents", "/healthz", "/metrics", "/mcp", "/docs", "/page")
"""What requests are counted by."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may ask: `hosts` are the names that the service goes by, `origins` the other pages that may ask.

    `any_address`: it also goes by every IP address, which no other name can be made to point to. `token`
    is asked of whoever uses the API; '' for none.
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
        if is_loopback(host):
            return cls(frozenset(names), frozenset(origins), False, token)
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names), frozenset(origins), True, token)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this service. Another name may be a page's that points it here."""
        name = _name(host)
        if name in self.hosts:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page of that origin may ask: the service's own, or one that was allowed."""
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """The name in a Host header, lower case, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower().removesuffix(".")


class Refused(Exception):
    """A request that goes no further: status, what to tell, and headers."""

    def __init__(self, status: int, told: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(told)
        self.status = status
        self.headers = headers


class Middleware:
    """An ASGI application around another: refuses what the rules do not allow, and counts what there was.

    `quick` are applications by method and path that are asked instead of `app`.
    """

    def __init__(
        self,
        app: App,
        rules: AccessRules,
        meters: ServiceMetrics,
        quick: Mapping[tuple[str, str], App] | None = None,
    ) -> None:
        self._app = app
        self._quick = quick or {}
        self._rules = rules
        self._meters = meters
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        path: str = scope["path"]
        status = 0
        is_asked = path.startswith(("/api/", "/mcp", "/metrics"))

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *(_ASKED if is_asked else _shown_headers(path)),
                ]
            await send(message)

        self._under_way += is_asked
        self._meters.under_way.inc(is_asked)
        try:
            headers = dict(scope["headers"])
            self._check(scope, headers, is_asked)
            taken = await _taken(receive, headers) if scope["method"] in ("POST", "PUT", "PATCH") else receive
            await self._quick.get((scope["method"], path), self._app)(scope, taken, answered)
        except Refused as refused:
            await _refuse(refused, answered)
        except asyncio.CancelledError:  # by a stop that has waited long enough
            if status:
                raise
            await _refuse(Refused(503, "the service stops: ask it again when it runs"), answered)
        finally:
            self._under_way -= is_asked
            self._meters.under_way.dec(is_asked)
            self._meters.request(_route(path), status or 500, time.perf_counter() - begin)

    def _check(self, scope: Scope, headers: dict[bytes, bytes], is_asked: bool) -> None:
        """Raises Refused."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._rules.knows(host):
            raise Refused(421, f"this service does not go by the name {_shown(host)}: see --allow-host")
        origin = headers.get(b"origin")
        if origin is not None and not self._rules.trusts(origin.decode("latin-1"), host):
            raise Refused(403, "pages of another origin may not ask here: see --cors")
        if not is_asked:
            return
        is_preflight = scope["method"] == "OPTIONS" and origin is not None
        if self._rules.token and not is_preflight:
            said = headers.get(b"authorization", b"").partition(b" ")
            if said[0].lower() != b"bearer" or not hmac.compare_digest(
                said[2].strip(), self._rules.token.encode()
            ):
                raise Refused(
                    401,
                    "this service wants its token: send `Authorization: Bearer TOKEN`",
                    (b"www-authenticate", b"Bearer"),
                )
        if self._under_way > MOST_UNDER_WAY:
            raise Refused(
                429, f"{MOST_UNDER_WAY} requests are under way: try again in a second", (b"retry-after", b"1")
            )


async def _taken(receive: Receive, headers: dict[bytes, bytes]) -> Receive:
    """The whole body of a request, taken in before anything is made of it. Raises Refused."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MOST_BYTES:
        raise _too_large()
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    # As asyncio.timeout does it, in a third of the time.
    task = cast("asyncio.Task[None]", asyncio.current_task())
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, give_up)
    try:
        body = await _whole(receive)
    except asyncio.CancelledError:
        if not is_late or task.uncancel():
            raise
        raise Refused(
            408,
            f"the request did not come within {BODY_SECONDS:g} s: send it again",
            (b"connection", b"close"),
        ) from None
    finally:
        timer.cancel()
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def _whole(receive: Receive) -> bytes:
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


def _too_large() -> Refused:
    return Refused(
        413, f"a request may have {MOST_BYTES:,} bytes: send fewer texts at once", (b"connection", b"close")
    )


async def _refuse(refused: Refused, send: Send) -> None:
    body = json.dumps({"error": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {"type": "http.response.start", "status": refused.status, "headers": [*headers, *refused.headers]}
    )
    await send({"type": "http.response.body", "body": body})


def _headers(policy: str, kept: str) -> tuple[tuple[bytes, bytes], ...]:
    return (b"content-security-policy", policy.encode()), (b"cache-control", kept.encode()), *HEADERS


_ASKED = _headers(_SELF, "no-store")
_PAGES = {path: _headers(policy, "no-cache") for path, policy in POLICIES.items()}
_PAGE = _headers(_SELF, "no-cache")


def _shown_headers(path: str) -> tuple[tuple[bytes, bytes], ...]:
    return _PAGES.get(path, _PAGE)


def _route(path: str) -> str:
    """What a request is counted by."""
    if path in ROUTES or path == "/":
        return path
    return next((route for route in ROUTES if path.startswith(route)), "other")


def _shown(host: str) -> str:
    return json.dumps(host[:80])


def origin_of(text: str) -> str | None:
    """An origin as browsers send it, such as https://example.org:8443; None if the text is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower()
