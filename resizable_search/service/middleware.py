"""What stands before the API: who may ask, how much, and what a browser may do with the answers."""

import asyncio
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resizable_search.errors import UsageError
from resizable_search.service.refusals import refuse
from resizable_search.service.service import ServiceMetrics

MOST_BYTES = 1 << 20  # bytes of a request's body: enough for a full batch of the longest texts
BODY_SECONDS = 10.0  # how long a request's body may take to arrive
MOST_UNDER_WAY = 256  # requests of the API that may wait for their answers at once

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

SEARCHES = ("/api/v1/search", "/api/search")

ROUTES = (  # the labels of request metrics
    "/api/v1/search", "/api/v1/indexes", "/api/v1/documents", "/api/search", "/api/indexes", "/api/documents",
    "/healthz", "/metrics", "/mcp", "/docs", "/page",
)  # fmt: skip

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may ask."""

    hosts: frozenset[str] = LOOPBACK  # the service's own names
    origins: frozenset[str] = frozenset()  # other pages that may use it
    any_address: bool = False  # every IP address is an own name: no attacker's name is one
    token: str = ""  # what users send; '': none

    @classmethod
    def of(
        cls, host: str, *, more: Sequence[str] = (), origins: Sequence[str] = (), token: str = ""
    ) -> "AccessRules":
        """The rules of a service that listens on an address. Raises UsageError for a wrong origin."""
        address = f"[{host}]" if ":" in host else host
        names = {address.lower(), *LOOPBACK, *map(host_of, more)}
        if is_remote := not is_loopback(host):
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names), frozenset(map(origin_of, origins)), is_remote, token)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this service; an attacker's page may point its own name here."""
        name = _without_port(host)
        return name in self.hosts or (self.any_address and _is_address(name.strip("[]")))

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page of that origin may ask: the service's own pages, and allowed origins."""
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower().removesuffix(".")


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


class Middleware:
    """Refuses requests by the rules, and counts all of them.

    Starlette's TrustedHostMiddleware cannot allow every IP address, and its refusals are not JSON. The first
    message of a request has its whole body. `search` answers searches instead of `app`.
    """

    def __init__(self, app: ASGIApp, rules: AccessRules, metrics: ServiceMetrics, search: ASGIApp) -> None:
        self._app = app
        self._search = search
        self._rules = rules
        self._metrics = metrics
        self._under_way = 0
        metrics.under_way.set_function(lambda: self._under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        begin = time.perf_counter()
        path: str = scope["path"]
        status = 0
        is_api = path.startswith(("/api/", "/mcp", "/metrics"))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                cache = b"no-store" if is_api else b"no-cache"
                own = [(b"content-security-policy", _POLICY), (b"cache-control", cache), *_HEADERS]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        self._under_way += is_api
        try:
            headers = Headers(scope=scope)
            self._check(scope, headers, is_api)
            if scope["method"] in ("POST", "PUT", "PATCH") and not scope.get("state", {}).get("is_whole"):
                receive = await _read(receive, headers)
            is_search = scope["method"] == "POST" and path in SEARCHES
            await (self._search if is_search else self._app)(scope, receive, answer)
        except HTTPException as refused:
            await refuse(path, refused)(scope, receive, answer)
        except asyncio.CancelledError:  # the service stops, and has waited long enough
            if status:
                raise
            stopped = HTTPException(503, "the service stops: try again when it runs")
            await refuse(path, stopped)(scope, receive, answer)
        finally:
            self._under_way -= is_api
            unlisted = "/" if path == "/" else "other"
            route = next((route for route in ROUTES if path.startswith(route)), unlisted)
            self._metrics.request(route, status or 500, time.perf_counter() - begin)

    def _check(self, scope: Scope, headers: Headers, is_api: bool) -> None:
        """Raises HTTPException."""
        host = headers.get("host", "")
        if not self._rules.knows(host):
            name = json.dumps(host[:80])
            problem = f"{name} is not a name of this service: `rsearch serve --allow-host NAME` adds one"
            raise HTTPException(421, problem)
        origin = headers.get("origin")
        if origin is not None and not self._rules.trusts(origin, host):
            raise HTTPException(
                403,
                "pages of other origins may not use this service: `rsearch serve --cors ORIGIN` allows one",
            )
        if not is_api:
            return
        is_preflight = scope["method"] == "OPTIONS" and origin is not None
        if self._rules.token and not is_preflight and not is_local(scope):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(token.strip().encode(), self._rules.token.encode())
            if scheme.lower() != "bearer" or not is_right:
                problem = "this service needs its token: send `Authorization: Bearer TOKEN`"
                raise HTTPException(401, problem, {"www-authenticate": "Bearer"})
        if self._under_way > MOST_UNDER_WAY:
            message = f"{MOST_UNDER_WAY} requests are under way: try again in a second"
            raise HTTPException(429, message, {"retry-after": "1"})


async def _read(receive: Receive, headers: Headers) -> Receive:
    """Read the whole body of a request, so that its next message has it. Raises HTTPException."""
    length = headers.get("content-length", "")
    size = int(length) if length.isdigit() else 0
    body, is_complete = b"", False
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while not is_complete and size <= MOST_BYTES:
                message = await receive()
                body += message.get("body", b"")
                size = max(size, len(body))
                is_complete = not message.get("more_body", False)  # the end, or the client has gone
    except TimeoutError:
        problem = f"the request took more than {BODY_SECONDS:g} s: send it again"
        raise HTTPException(408, problem, {"connection": "close"}) from None
    if size > MOST_BYTES:
        problem = f"a request may have {MOST_BYTES:,} bytes: send fewer texts at once"
        raise HTTPException(413, problem, {"connection": "close"})
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def host_of(text: str) -> str:
    """A host as `AccessRules` has it, without its port. Raises UsageError for an address with a scheme."""
    if not text or set(text) & set("/ @,*"):
        raise UsageError(f"`allow_host={text}` is not a host name: write it like search.example.org")
    return _without_port(text)


def origin_of(text: str) -> str:
    """An origin as browsers send it, such as https://example.org:8443. Raises UsageError for other texts."""
    parts = urlsplit(text)
    is_address = parts.scheme in ("http", "https") and parts.netloc and "@" not in parts.netloc
    if not is_address or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"`cors={text}` is not an origin: write it like https://example.org")
    return f"{parts.scheme}://{parts.netloc}".lower()
