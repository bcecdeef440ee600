"""The HTTP API: FastAPI's routes over a `Service`, its errors, and the files of the page."""

import asyncio
import copy
import gc
from collections.abc import AsyncIterator, Callable, Mapping
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
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from resizable_search import __version__
from resizable_search.errors import RsearchError
from resizable_search.service import schemas
from resizable_search.service.index_pool import IndexPool, describe, example
from resizable_search.service.mcp import create_server
from resizable_search.service.middleware import is_local
from resizable_search.service.refusals import CODES, V1, json_response, refuse
from resizable_search.service.searches import local_search, search
from resizable_search.service.service import Service, ServiceMetrics

ABOUT = """
Search the indexes of this machine at any of their dimensions. The model of an index turns the query into a
vector. A search compares the first `dim` numbers of each vector, then scores the best `rerank` × max(`k`, 10)
again with all numbers. Queries that arrive together share a scan.
"""

IndexName = Annotated[str, Path(max_length=schemas.MOST_NAME)]
Id = Annotated[str, Query(max_length=4000)]  # which an address has room for
Row = Annotated[int, BeforeValidator(schemas.whole_number), Path(ge=0, le=schemas.MOST_ROW)]

READ = 401, 404, 422, 429, 431, 503  # statuses of refusals when a document is read
SEARCHED = 400, 401, 404, 408, 409, 413, 415, 422, 429, 431, 502, 503, 504  # and when an index is searched

LEAST_COMPRESSED = 4096  # bytes of an answer
compressed = partial(GZipMiddleware, minimum_size=LEAST_COMPRESSED, compresslevel=1)


def _about(tag: str, summary: str, gives: Any, *refusals: int, is_old: bool = False) -> dict[str, Any]:
    """What the description says of a route: what it gives (a type, or no JSON), and what it may refuse."""
    given = {"content": {gives: {}}} if isinstance(gives, str) else {"model": gives}
    responses: dict[int | str, dict[str, Any]] = {200: given}
    refused = schemas.OldErrorModel if is_old else schemas.ErrorModel
    for status, meaning in CODES.values():
        if status in (403, 421, *refusals):
            known = responses.setdefault(status, {"model": refused, "description": ""})
            known["description"] = f"{known['description']} {meaning}".strip()
    return {"tags": [tag], "summary": summary, "responses": responses}


def create_app(
    pool: IndexPool, ready: Callable[[], None] = lambda: None, *, has_token: bool = False
) -> FastAPI:
    """The application that serves a pool's indexes, and closes the pool. It calls `ready` at its start."""
    tools = StreamableHTTPSessionManager(
        create_server(lambda: app.state.service),
        json_response=True,
        stateless=True,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(pool, app.state.metrics)  # while it runs
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
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    for kind in (RsearchError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _failed)
    app.state.metrics = ServiceMetrics()
    app.state.search = partial(_quick_search, app)
    app.include_router(_api(app, is_old=False), prefix="/api/v1")
    app.include_router(_api(app, is_old=True), prefix="/api", deprecated=True)
    _add_health(app)
    _add_pages(app)
    app.router.routes.append(Route("/openapi.json", partial(_description, app, has_token)))
    app.router.routes.append(Route("/mcp", StreamableHTTPASGIApp(tools), methods=["POST"]))
    return app


async def _open_all(service: Service) -> None:
    await service.indexes()
    gc.set_threshold(20_000)  # else every third answer waits for a collection, which finds nothing
    gc.freeze()  # else searches wait while a collection looks at all that compiled kernels consist of


def _api(app: FastAPI, *, is_old: bool) -> APIRouter:
    """The routes of the API; `is_old`: as they were before v1, with errors of one line."""
    router, about = APIRouter(), partial(_about, is_old=is_old)
    answers = schemas.AnswerModel | schemas.AnswersModel

    @router.get("/indexes", **about("indexes", "List the indexes", schemas.IndexesModel, 401, 429, 503))
    async def indexes() -> Response:
        """With their dimensions, columns and tuned plans."""
        pool, models = app.state.service.pool, await app.state.service.indexes()
        listed = schemas.IndexesModel(
            version=__version__,
            home=None if pool.home.is_usual else str(pool.home.path),
            default=pool.default_of([model.name for model in models]),
            limits=schemas.LimitsModel(),
            indexes=models,
        )
        return json_response(listed.model_dump())

    @router.get("/documents/{index}/{row}", **about("documents", "Read by row", schemas.DocumentModel, *READ))
    async def document(index: IndexName, row: Row) -> Response:
        """Rows are valid until the index changes."""
        return await read(index, row)

    async def read(index: str, document: str | int) -> Response:
        name, stored = await app.state.service.document(index, document)
        return json_response({"index": name, **asdict(stored)})

    if is_old:

        @router.post("/search", **about("search", "Search an index", answers, *SEARCHED))
        async def old_search(request: schemas.OldSearchRequest) -> Response:
            """One text gets an answer, a list of texts gets `results` in its order."""
            return json_response(await search(app.state.service, request))

        return router

    @router.get("/documents/{index}", **about("documents", "Read by id", schemas.DocumentModel, *READ))
    async def document_of(index: IndexName, id: Id) -> Response:
        """Ids stay when the index changes."""
        return await read(index, id)

    @router.get("/indexes/{index}", **about("indexes", "Describe an index", schemas.IndexDetailModel, *READ))
    async def described(index: IndexName) -> Response:
        """Also some of its titles, and what `rsearch bench` measured."""
        pool = app.state.service.pool
        described = await app.state.service.in_thread(lambda: describe(pool, pool.resolve(index), fully=True))
        return json_response(described.model_dump())

    @router.get("/search", **about("search", "Search by an address", schemas.AnswerModel, *SEARCHED))
    async def search_by_address(request: Annotated[schemas.SearchParameters, Query()]) -> Response:
        """As the search by `POST`, for one text or document."""
        return json_response(await search(app.state.service, request))

    @router.post("/search", **about("search", "Search an index", answers, *SEARCHED))
    async def search_by_body(request: schemas.SearchRequest) -> Response:
        """One text, vector or document gets an answer, a list of texts gets `results` in its order.

        A text of a list that cannot be embedded has an `error` there; the others are answered.
        With `compare` each answer has `full`: the full dimension's answer, and the overlap with it.
        """
        return json_response(await search(app.state.service, request))

    return router


def _add_health(app: FastAPI) -> None:
    about = partial(_about, "operation", is_old=True)  # with errors of one line

    @app.get("/healthz", **about("Tell whether the service runs", dict[str, str]))
    async def healthz() -> Response:
        return json_response({"status": "ok", "version": __version__})

    @app.get("/metrics", **about("Report for Prometheus", "text/plain", 401, 429))
    async def metrics() -> Response:
        """Requests, queries, and seconds by index and stage."""
        return Response(app.state.service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _description(app: FastAPI, has_token: bool, _: Request) -> Response:
    """The description of the API, with examples that run; behind a token they name no index."""
    of = {"index": None, "row": 0, "id": "1", "q": "tree data structures", "dim": 128}
    document = copy.deepcopy(app.openapi())
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    else:
        of |= await app.state.service.in_thread(lambda: example(app.state.service.pool))
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if has_token and path != "/healthz":
                operation["security"] = [{"token": []}]
            for parameter in operation.get("parameters", ()):
                if of.get(parameter["name"]) is not None:
                    parameter["example"] = of[parameter["name"]]
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                content["examples"] = _bodies(of, is_old=bool(operation.get("deprecated")))
    return json_response(document)


def _bodies(of: Mapping[str, Any], *, is_old: bool) -> dict[str, Any]:
    """Examples of searches; those that v1 has made possible only if not `is_old`."""
    bodies = {"A question": {"query": of["q"], "dim": of["dim"], "rerank": 10}}
    if not is_old:
        bodies["Short hits"] = {"query": of["q"], "fields": ["id", "title", "score", "snippet"], "k": 3}
        bodies["Several questions"] = {"query": [of["q"], of["q"]], "snippet": 200, "k": 3}
        bodies["Documents like another"] = {"similar": of["id"], "snippet": 200}
    return {name: {"summary": name, "value": {"index": of["index"], **body}} for name, body in bodies.items()}


async def _quick_search(app: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a search without the layers of FastAPI and Starlette, which take as long as a scan of codes.

    It answers as FastAPI's route does, and besides what the home's Unix socket asks.
    """
    service: Service = app.state.service
    response: Any
    try:
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, "the request is not JSON: send it as application/json")
        body = (await receive()).get("body", b"")  # the whole of it, unless the client has gone
        is_v1 = scope["path"].startswith(V1)
        if is_local(scope) and not is_v1:
            response = await local_search(service, schemas.LocalSearchRequest.model_validate_json(body))
        else:
            form = schemas.SearchRequest if is_v1 else schemas.OldSearchRequest
            response = json_response(await search(service, form.model_validate_json(body)))
    except (RsearchError, HTTPException, ValidationError) as error:
        response = refuse(scope["path"], error)
    except Exception as error:
        await refuse(scope["path"], error)(scope, receive, send)
        raise  # the server reports it
    if len(response.body) >= LEAST_COMPRESSED:
        if "gzip" in Headers(scope=scope).get("accept-encoding", ""):
            response = compressed(response)
        else:  # where that layer would take a tenth of the time of a request
            response.raw_headers.append((b"vary", b"Accept-Encoding"))
    await response(scope, receive, send)


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
