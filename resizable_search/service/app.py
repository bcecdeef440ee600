"""The HTTP API: FastAPI's routes over a `Service`, its errors, and the files of the page."""

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from resizable_search import __version__, errors
from resizable_search.errors import RsearchError
from resizable_search.search.index import Index
from resizable_search.search.results import Answer, fields
from resizable_search.service import identity, schemas
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.mcp import create_server
from resizable_search.service.middleware import is_local
from resizable_search.service.service import Service, ServiceMetrics
from resizable_search.text import plain

STATUS: tuple[tuple[type[RsearchError], int], ...] = (
    (errors.IndexNotFoundError, 404),
    (errors.DocumentNotFoundError, 404),
    (errors.NoEmbedderError, 409),
    (errors.QueryTimeoutError, 504),
    (errors.EmbedderError, 502),
    (errors.IndexFormatError, 503),
    (errors.IndexBusyError, 503),
    (errors.StorageError, 503),
    (errors.ExhaustedError, 503),
    (RsearchError, 400),
)
"""The status of each kind of error, the first that fits. 5xx: the caller cannot help it."""

_REFUSALS = {
    400: "The request makes no sense for this index.",
    401: "The service needs its token.",
    403: "A page of another origin asks.",
    404: "No such index or document.",
    408: "The request took too long to arrive.",
    409: "The index has no embedder for texts.",
    413: "The request is too large.",
    421: "The Host header is not a name of this service.",
    422: "The request has another form, or asks for more than is allowed.",
    429: "Too many requests are under way.",
    502: "The embedder of the query failed.",
    503: "The index is damaged or unreadable.",
    504: "The embedder of the query does not answer in time.",
}

ABOUT = """
Searches the embedding indexes of this machine, at any of their dimensions. A query is embedded like the
index's documents, `dim` dimensions are scanned, and the best `rerank` × max(`k`, 10) are scored again
at the full dimension. Queries that arrive together share a scan.
"""


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": schemas.ErrorModel, "description": _REFUSALS[status]}
        for status in (403, 421, *statuses)
    }


def create_app(pool: IndexPool, ready: Callable[[], None] = lambda: None) -> FastAPI:
    """The application that serves a pool's indexes, and closes the pool. It calls `ready` at its start.

    `state.service` is its service while it runs, `state.metrics` what it counts.
    """
    tools = StreamableHTTPSessionManager(
        create_server(lambda: app.state.service),
        json_response=True,
        stateless=True,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(pool, app.state.metrics)
        opening = asyncio.create_task(_open_all(service))  # so that no search waits for it
        try:
            async with tools.run():
                ready()
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
    for kind in (RsearchError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _failed)
    app.state.metrics = ServiceMetrics()
    app.state.search = partial(_quick_search, app)
    _add_routes(app)
    _add_pages(app)
    app.router.routes.append(Route("/mcp", StreamableHTTPASGIApp(tools), methods=["POST"]))
    return app


async def _open_all(service: Service) -> None:
    await service.indexes()
    gc.freeze()  # else searches wait while a collection looks at all that compiled kernels consist of


def _add_routes(app: FastAPI) -> None:
    def service() -> Service:
        running: Service = app.state.service
        return running

    @app.get("/api/indexes", responses={200: {"model": schemas.IndexesModel}, **_refusals(401, 429, 503)})
    async def indexes() -> Response:
        """List the indexes, with their dimensions, columns and tuned plans."""
        models = await service().indexes()
        default = service().pool.default_of([model.name for model in models])
        limits = schemas.LimitsModel()
        listed = schemas.IndexesModel(version=__version__, default=default, limits=limits, indexes=models)
        return _json(listed.model_dump())

    @app.post(
        "/api/search",
        responses={200: {"model": schemas.AnswerModel | schemas.AnswersModel}, **_refusals(*_REFUSALS)},
    )
    async def search(request: schemas.SearchRequest) -> Response:
        """Search an index: one text gets an answer, a list of texts gets `results` in its order.

        With `compare` each answer has `full`: the full dimension's answer, and the overlap with it.
        """
        return _json(await _search(service(), request))

    @app.get(
        "/api/documents/{index}/{row}",
        responses={200: {"model": schemas.DocumentModel}, **_refusals(401, 404, 422, 429, 503)},
    )
    async def document(
        index: Annotated[str, Path(max_length=schemas.MOST_NAME)],
        row: Annotated[int, Path(ge=0, le=schemas.MOST_ROW)],
    ) -> Response:
        """Read the document at a row of an index; rows are valid until the index changes."""
        name, stored = await service().document(index, row)
        return _json({"index": name, **asdict(stored)})

    @app.get("/healthz", responses={200: {"model": dict[str, str]}, **_refusals()})
    async def healthz() -> Response:
        """Tell whether the service runs."""
        return _json({"status": "ok", "version": __version__})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **_refusals(401, 429)})
    async def metrics() -> Response:
        """Report requests, queries, and seconds by index and stage, for Prometheus."""
        return Response(service().metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _search(service: Service, request: schemas.SearchRequest) -> Any:
    """What a search answers, as JSON has it."""
    texts = [request.query] if isinstance(request.query, str) else request.query
    options = request.options()
    threads = service.pool.threads if request.explain else None
    if request.compare:
        pairs = await service.compare(request.index, texts, options)
        results = [_compared(answer, full, threads) for answer, full in pairs]
    else:
        answers = await service.search(request.index, texts, options)
        results = [fields(answer, threads=threads) for answer in answers]
    return results[0] if isinstance(request.query, str) else {"results": results}


async def _local_search(service: Service, request: schemas.LocalSearchRequest) -> Response:
    """Answer a search from the home's Unix socket; with `expects`, only to a process like this one."""
    pool, wanted = service.pool, request.expects

    def describe(index: Index) -> dict[str, Any] | None:
        threads = pool.threads if wanted and wanted.get("threads") else None
        if wanted != identity(index.folder, str(pool.engine), threads):
            return None
        return {
            "rows": index.rows,
            "full_dim": index.full_dim,
            "columns": index.columns(),
            "process": os.getpid(),
        }

    served = None
    if wanted is not None and (served := await service.with_index(request.index, describe)) is None:
        return _json({"error": "this service has another version, index, engine or endpoint"}, 412)
    if request.similar:
        answer = await service.similar(request.index, str(request.query), request.options())
        content = fields(answer, threads=pool.threads if request.explain else None)
    else:
        content = await _search(service, request)
    return _json({**content, "served": served} if served else content)


async def _quick_search(app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a search without the layers of FastAPI and Starlette, which take as long as a scan of codes.

    It answers as FastAPI's route does, and besides what the home's Unix socket asks.
    """
    try:
        response = await _quick_answer(app.state.service, scope, receive)
    except (RsearchError, HTTPException) as error:
        response = await _failed(Request(scope), error)
    except Exception as error:
        response = await _failed(Request(scope), error)
        await response(scope, receive, send)
        raise  # the server reports it
    await response(scope, receive, send)


async def _quick_answer(service: Service, scope: Scope, receive: Receive) -> Response:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(422, "send the request as JSON, with Content-Type: application/json")
    message = await receive()  # the middleware has read the whole body
    model = schemas.LocalSearchRequest if is_local(scope) else schemas.SearchRequest
    try:
        search = model.model_validate_json(message["body"])
    except ValidationError as error:
        raise HTTPException(422, schemas.invalid(error.errors())) from None
    if isinstance(search, schemas.LocalSearchRequest):
        return await _local_search(service, search)
    return _json(await _search(service, search))


def _add_pages(app: FastAPI) -> None:
    # Swagger UI's files come from a package: FastAPI's own page loads them from another host.
    page = StaticFiles(packages=[("resizable_search.service", "page"), ("fastapi_swagger", "resources")])

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return await page.get_response("docs.html", request.scope)

    app.mount("/page", page)


def _compared(answer: Answer, full: Answer, threads: int | None) -> dict[str, Any]:
    """An answer, with the full dimension's and the share of its hits that the answer has."""
    wanted = {hit.row for hit in full.hits}
    overlap = len(wanted & {hit.row for hit in answer.hits}) / len(wanted) if wanted else 1.0
    shown = fields(full, threads=threads)
    for name in ("query", "index", "k"):
        del shown[name]
    return {**fields(answer, threads=threads), "full": {**shown, "overlap": overlap}}


def _json(value: Any, status: int = 200) -> Response:
    try:
        body = orjson.dumps(value)
    except TypeError:  # a lone surrogate in a query, or a huge integer
        body = json.dumps(value, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


async def _failed(_: Request, error: Exception) -> Response:
    headers: Mapping[str, str] = {}
    if isinstance(error, HTTPException):
        status, message, headers = error.status_code, str(error.detail), error.headers or {}
        if status == 404:
            message = "no such page; /docs lists all"
    elif isinstance(error, RequestValidationError):
        status, message = 422, schemas.invalid(error.errors(), 1)
    elif isinstance(error, RsearchError):
        status, message = next(status for kind, status in STATUS if isinstance(error, kind)), str(error)
    else:
        status, message = 500, f"internal error ({type(error).__name__}): please report it"
    form = "; /docs shows the form" if status == 422 else ""
    response = _json({"error": plain(message + form)}, status)
    response.headers.update(headers)
    return response
