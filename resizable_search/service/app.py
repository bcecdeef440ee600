"""The HTTP API: FastAPI's routes over a `Service`, and the errors that its callers see.

The files of the search page and of the documentation's page, read once: requests name them, no paths.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from resizable_search import __version__
from resizable_search.errors import (
    EmbedderError,
    ExhaustedError,
    IndexBusyError,
    IndexFormatError,
    IndexNotFoundError,
    QueryError,
    RefusedTextError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.search.results import fields
from resizable_search.service import schemas
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.mcp import create_server
from resizable_search.service.metrics import CONTENT_TYPE, ServiceMetrics
from resizable_search.service.middleware import MOST_BYTES, App, Receive, Scope, Send
from resizable_search.service.service import Card, Compared, Service
from resizable_search.text import plain

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")

_NAME = re.compile(r"[a-z][a-z0-9_-]*\.(?:html|css|js|svg|png)")


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    type: str
    tag: str


class Assets:
    """Every file that the service gives to browsers, by name."""

    def __init__(self) -> None:
        # Swagger UI's own files, of a package that carries them: the usual page loads them from elsewhere.
        swagger = files("fastapi_swagger") / "resources"
        found: list[Traversable] = [*(files("resizable_search.service") / "page").iterdir()]
        found += [swagger / name for name in SWAGGER]
        self._files: dict[str, _File] = {}
        for file in found:
            if _NAME.fullmatch(file.name):
                body = file.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[file.name] = _File(body, TYPES[file.name.rpartition(".")[2]], tag)

    def answer(self, name: str, request: Request) -> Response:
        """The file of that name, or that the browser has it already. Raises HTTPException 404."""
        file = self._files.get(name)
        if file is None:
            raise HTTPException(404)
        headers = {"etag": file.tag}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.type, headers=headers)


STATUS: tuple[tuple[type[RsearchError], int], ...] = (
    (UsageError, 400),
    (QueryError, 400),
    (RefusedTextError, 400),
    (IndexNotFoundError, 404),
    (EmbedderError, 502),
    (IndexFormatError, 503),
    (IndexBusyError, 503),
    (StorageError, 503),
    (ExhaustedError, 503),
    (RsearchError, 400),
)
"""What each kind of error is answered with: the first that fits. 5xx: the caller can do nothing about it."""

_PROBLEM: dict[str, Any] = {"model": schemas.Problem}
_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {**_PROBLEM, "description": "What is asked for makes no sense for this index."},
    401: {**_PROBLEM, "description": "The service wants its token."},
    403: {**_PROBLEM, "description": "A page of another origin asks."},
    404: {**_PROBLEM, "description": "There is no such index or document."},
    408: {**_PROBLEM, "description": "The request did not come within seconds."},
    413: {**_PROBLEM, "description": "The request is too large."},
    421: {**_PROBLEM, "description": "The service does not go by the name that the Host header has."},
    422: {**_PROBLEM, "description": "The request is not of this form, or asks for more than is allowed."},
    429: {**_PROBLEM, "description": "Too many requests are under way."},
    502: {**_PROBLEM, "description": "The embedder of the query failed."},
    503: {**_PROBLEM, "description": "The index is damaged, or cannot be read."},
}


def _refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _REFUSED[status] for status in (403, 421, *statuses)}


ABOUT = """
Searches the embedding indexes of this machine, at any of their dimensions. A query is embedded as the
index's documents were, `dim` dimensions are scanned, and `rerank` × `k` of the best are scored again at
the full dimension. Queries that arrive together share a scan.
"""


def create_app(
    shelf: IndexPool, *, meters: ServiceMetrics | None = None, assets: Assets | None = None
) -> FastAPI:
    """The application that serves a shelf's indexes; `state.service` while it runs. It closes the shelf."""
    tools = StreamableHTTPSessionManager(
        create_server(lambda: nullcontext(app.state.service)),
        json_response=True,
        stateless=True,
        max_request_body_size=MOST_BYTES,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(shelf, meters)
        opening = asyncio.create_task(service.open_all())
        try:
            async with tools.run():
                yield
        finally:
            opening.cancel()
            service.close()

    app = FastAPI(
        title="rsearch",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.add_exception_handler(RsearchError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal)
    app.state.search = _search_alone(app)
    _add_routes(app)
    _add_assets(app, assets or Assets())
    app.router.routes.append(Route("/mcp", StreamableHTTPASGIApp(tools), methods=["POST"]))
    return app


def _add_routes(app: FastAPI) -> None:
    @app.get(
        "/api/indexes",
        response_model=None,
        responses={200: {"model": schemas.Indexes}, **_refused(401, 429, 503)},
    )
    async def indexes() -> Response:
        """The indexes that can be searched, with their dimensions, columns and tuned plans."""
        service: Service = app.state.service
        cards = await service.cards()
        names = [card.name for card in cards]
        return _json(
            {
                "version": __version__,
                "default": service.shelf.default_of(names),
                "limits": schemas.Limits().model_dump(),
                "indexes": [_card(card) for card in cards],
            }
        )

    @app.post(
        "/api/search",
        response_model=None,
        responses={200: {"model": schemas.Answer | schemas.Answers}, **_REFUSED},
    )
    async def search(asked: schemas.SearchRequest) -> Response:
        """Search an index: for one text an answer, for a list `results` in its order.

        With `compare` each answer has `full`: what the full dimension finds, and the overlap with it.
        """
        return await _search(app.state.service, asked)

    @app.get(
        "/api/documents/{index}/{row}",
        response_model=None,
        responses={200: {"model": schemas.Document}, **_refused(401, 404, 422, 429, 503)},
    )
    async def document(
        index: Annotated[str, Path(max_length=255)], row: Annotated[int, Path(ge=0, le=schemas.MOST_ROW)]
    ) -> Response:
        """The document at a row of an index; rows hold within a generation of it."""
        service: Service = app.state.service
        name, found = await service.document(index, row)
        return _json(
            {
                "index": name,
                "row": found.row,
                "id": found.id,
                "title": found.title,
                "url": found.url,
                "text": found.text,
                "metadata": dict(found.metadata),
            }
        )

    @app.get("/healthz", response_model=schemas.Health, responses=_refused())
    async def healthz() -> Response:
        """Whether the service runs."""
        return _json({"status": "ok", "version": __version__})

    @app.get(
        "/metrics",
        response_model=None,
        responses={200: {"content": {"text/plain": {}}}, **_refused(401, 429)},
    )
    async def metrics() -> Response:
        """Requests, queries, and seconds by index and stage, for Prometheus."""
        service: Service = app.state.service
        return Response(service.meters.text(), headers={"content-type": CONTENT_TYPE})


async def _search(service: Service, asked: schemas.SearchRequest) -> Response:
    is_one = isinstance(asked.query, str)
    texts: Sequence[str] = [asked.query] if isinstance(asked.query, str) else asked.query
    how = asked.search()
    threads = service.shelf.threads if asked.explain else None
    if asked.compare:
        both = await service.compare(asked.index, texts, how)
        told = [_compared(pair, threads) for pair in both]
    else:
        found = await service.search(asked.index, texts, how)
        told = [fields(answer, threads=threads) for answer in found]
    return _json(told[0] if is_one else {"results": told})


def _search_alone(app: FastAPI) -> App:
    """The route of searches as an application of its own, which answers as FastAPI's does.

    FastAPI's layers take as long as a scan of sign bits; `scripts/benchmarks/load.py` has the figures.
    """

    async def search(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            body = await _body(receive)
            if _is_json(scope):
                asked = schemas.SearchRequest.model_validate_json(body)
                answer = await _search(app.state.service, asked)
            else:
                answer = _unlike("the request: send JSON, with Content-Type: application/json")
        except ValidationError as error:
            answer = _unlike(schemas.invalid(error.errors()))
        except RsearchError as error:
            answer = await _told(request, error)
        except Exception as error:
            await (await _internal(request, error))(scope, receive, send)
            raise  # for the log
        start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    return search


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


def _is_json(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(kind.partition(b";")[0].strip().lower() == b"application/json")


def _add_assets(app: FastAPI, assets: Assets) -> None:
    """The search page and the documentation's page: files that are named here, not by requests."""

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return assets.answer("index.html", request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return assets.answer("docs.html", request)

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return assets.answer(name, request)


def _card(card: Card) -> dict[str, Any]:
    kind, model = card.embedder
    return {
        "name": card.name,
        "rows": card.rows,
        "full_dim": card.full_dim,
        "dims": list(card.dims),
        "columns": list(card.columns),
        "embedder": {"kind": kind, "model": model},
        "tuned": list(card.tuned),
        "problem": plain(card.problem) or None,
    }


def _compared(pair: Compared, threads: int | None) -> dict[str, Any]:
    full = fields(pair.full, threads=threads)
    told = {name: full[name] for name in ("plan", "timings_ms", "hits", "explain") if name in full}
    return {**fields(pair.answer, threads=threads), "full": {**told, "overlap": pair.overlap}}


def _json(value: Any, status: int = 200) -> Response:
    try:
        body = orjson.dumps(value)
    except TypeError:  # a lone surrogate of a document, which only ASCII has a form for; or a huge integer
        body = json.dumps(value, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


async def _told(_: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return _json({"error": plain(str(error))}, status)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _unlike(schemas.invalid(error.errors(), 1))


def _unlike(told: str) -> Response:
    return _json({"error": plain(f"{told}; /docs shows the form")}, 422)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: "there is no such page; /docs shows what there is"}.get(error.status_code, error.detail)
    response = _json({"error": plain(str(told))}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _internal(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error ({type(error).__name__}): please report it"}, 500)
