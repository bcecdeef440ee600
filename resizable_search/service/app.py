"""The HTTP API: FastAPI's routes over a `Service`, its errors, and the files of the page."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BeforeValidator, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from resizable_search import __version__
from resizable_search.errors import RsearchError
from resizable_search.service import schemas
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.mcp import create_server
from resizable_search.service.middleware import is_local
from resizable_search.service.refusals import CODES, V1, json_response, refuse
from resizable_search.service.searches import local_search, search
from resizable_search.service.service import Service, ServiceMetrics

ABOUT = """
Searches the embedding indexes of this machine, at any of their dimensions. A query is embedded like the
index's documents, `dim` dimensions are scanned, and the best `rerank` × max(`k`, 10) are scored again
at the full dimension. Queries that arrive together share a scan.
"""

IndexName = Annotated[str, Path(max_length=schemas.MOST_NAME)]
Row = Annotated[int, BeforeValidator(schemas.whole_number), Path(ge=0, le=schemas.MOST_ROW)]


def _refusals(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route: one of another host or origin, and those of its own."""
    meanings: dict[int | str, dict[str, Any]] = {}
    for status, meaning in CODES.values():
        if status in (403, 421, *statuses):
            known = meanings.setdefault(status, {"model": model, "description": ""})
            known["description"] = f"{known['description']} {meaning}".strip()
    return meanings


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
    app.include_router(_api(app, is_old=False), prefix="/api/v1")
    app.include_router(_api(app, is_old=True), prefix="/api")
    _add_health(app)
    _add_pages(app)
    app.router.routes.append(Route("/mcp", StreamableHTTPASGIApp(tools), methods=["POST"]))
    return app


async def _open_all(service: Service) -> None:
    await service.indexes()
    gc.freeze()  # else searches wait while a collection looks at all that compiled kernels consist of


def _api(app: FastAPI, *, is_old: bool) -> APIRouter:
    """The routes of the API; `is_old`: as they were before v1, with errors of one line."""
    router = APIRouter(deprecated=is_old, tags=["deprecated"] if is_old else None)
    refusals = partial(_refusals, schemas.OldErrorModel if is_old else schemas.ErrorModel)

    def service() -> Service:
        running: Service = app.state.service
        return running

    @router.get(
        "/indexes",
        tags=["indexes"],
        summary="List the indexes",
        responses={200: {"model": schemas.IndexesModel}, **refusals(401, 429, 503)},
    )
    async def indexes() -> Response:
        """With their dimensions, columns and tuned plans."""
        models = await service().indexes()
        default = service().pool.default_of([model.name for model in models])
        limits = schemas.LimitsModel()
        listed = schemas.IndexesModel(version=__version__, default=default, limits=limits, indexes=models)
        return json_response(listed.model_dump())

    @router.get(
        "/documents/{index}/{row}",
        tags=["documents"],
        summary="Read the document at a row",
        responses={200: {"model": schemas.DocumentModel}, **refusals(401, 404, 422, 429, 503)},
    )
    async def document(index: IndexName, row: Row) -> Response:
        """Rows are valid until the index changes."""
        return await read(index, row)

    @router.get(
        "/indexes/{index}",
        tags=["indexes"],
        summary="Describe an index",
        responses={200: {"model": schemas.IndexDetailModel}, **refusals(401, 404, 422, 429, 503)},
    )
    async def described(index: IndexName) -> Response:
        """Also some of its titles, and what `rsearch bench` measured."""
        return json_response((await service().index(index)).model_dump())

    async def read(index: str, document: str | int) -> Response:
        name, stored = await service().document(index, document)
        return json_response({"index": name, **asdict(stored)})

    searched = 401, 404, 408, 409, 413, 415, 422, 429, 502, 503, 504, 400
    if is_old:

        @router.post(
            "/search",
            summary="Search an index",
            responses={200: {"model": schemas.AnswerModel | schemas.AnswersModel}, **refusals(*searched)},
        )
        async def old_search(request: schemas.OldSearchRequest) -> Response:
            """One text gets an answer, a list of texts gets `results` in its order."""
            return json_response(await search(service(), request))

        return router

    @router.get(
        "/documents/{index}",
        tags=["documents"],
        summary="Read the document with an id",
        responses={200: {"model": schemas.DocumentModel}, **refusals(401, 404, 422, 429, 503)},
    )
    async def document_of(
        index: IndexName, id: Annotated[str, Query(max_length=schemas.MOST_CHARACTERS)]
    ) -> Response:
        """Ids stay when the index changes."""
        return await read(index, id)

    @router.get(
        "/search",
        tags=["search"],
        summary="Search an index by an address",
        responses={200: {"model": schemas.AnswerModel}, **refusals(*searched)},
    )
    async def search_by_address(request: Annotated[schemas.SearchParameters, Query()]) -> Response:
        """As the search by `POST`, for one text or document."""
        return json_response(await search(service(), request))

    @router.post(
        "/search",
        tags=["search"],
        summary="Search an index",
        responses={200: {"model": schemas.AnswerModel | schemas.AnswersModel}, **refusals(*searched)},
    )
    async def search_by_body(request: schemas.SearchRequest) -> Response:
        """One text, vector or document gets an answer, a list of texts gets `results` in its order.

        A text of a list that cannot be embedded has an `error` there; the others are answered.
        With `compare` each answer has `full`: the full dimension's answer, and the overlap with it.
        """
        return json_response(await search(service(), request))

    return router


def _add_health(app: FastAPI) -> None:
    refusals = partial(_refusals, schemas.OldErrorModel)

    @app.get("/healthz", tags=["operation"], responses={200: {"model": dict[str, str]}, **refusals()})
    async def healthz() -> Response:
        """Tell whether the service runs."""
        return json_response({"status": "ok", "version": __version__})

    @app.get(
        "/metrics", tags=["operation"], responses={200: {"content": {"text/plain": {}}}, **refusals(401, 429)}
    )
    async def metrics() -> Response:
        """Report requests, queries, and seconds by index and stage, for Prometheus."""
        text = app.state.service.metrics.text()
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


async def _quick_search(app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a search without the layers of FastAPI and Starlette, which take as long as a scan of codes.

    It answers as FastAPI's route does, and besides what the home's Unix socket asks.
    """
    try:
        response = await _quick_answer(app.state.service, scope, receive)
    except (RsearchError, HTTPException, ValidationError) as error:
        response = refuse(scope["path"], error)
    except Exception as error:
        await refuse(scope["path"], error)(scope, receive, send)
        raise  # the server reports it
    await response(scope, receive, send)


async def _quick_answer(service: Service, scope: Scope, receive: Receive) -> Response:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "the request is not JSON: send it with Content-Type: application/json")
    message = await receive()  # the middleware has read the whole body
    if scope["path"].startswith(V1):
        request = schemas.SearchRequest.model_validate_json(message["body"])
        return json_response(await search(service, request))
    if not is_local(scope):
        return json_response(
            await search(service, schemas.OldSearchRequest.model_validate_json(message["body"]))
        )
    return await local_search(service, schemas.LocalSearchRequest.model_validate_json(message["body"]))


def _add_pages(app: FastAPI) -> None:
    # FastAPI's own page of the API loads its files from another host.
    page = StaticFiles(packages=[("resizable_search.service", "page")])

    for path, file in (("/", "index.html"), ("/docs", "docs.html"), ("/favicon.ico", "icon.svg")):

        async def page_file(request: Request, file: str = file) -> Response:
            return await page.get_response(file, request.scope)

        app.router.routes.append(Route(path, page_file))
    app.mount("/page", page)


async def _failed(request: Request, error: Exception) -> Response:
    response = refuse(request.url.path, error)
    if response.status_code == 405 and request.url.path == f"{V1}search":
        response.headers["allow"] = "GET, POST"  # Starlette names the method of the first route alone
    return response
