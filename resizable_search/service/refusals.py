"""Answers to refused requests: a status, and an error with a code, a message and a hint."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from resizable_search import errors
from resizable_search.errors import RsearchError
from resizable_search.text import command_line, plain

V1 = "/api/v1/"

CODES = {
    "invalid_option": (400, "An option makes no sense for this index."),
    "query_not_embeddable": (400, "The embedder refuses the text, or knows none of its words."),
    "unauthorized": (401, "The service needs its token."),
    "forbidden_origin": (403, "A page of another origin asks."),
    "route_not_found": (404, "The service has no such route."),
    "index_not_found": (404, "There is no such index."),
    "document_not_found": (404, "The index has no such document."),
    "method_not_allowed": (405, "The route takes another method."),
    "request_timeout": (408, "The request took too long to arrive."),
    "no_embedder": (409, "The index has no embedder for texts."),
    "request_too_large": (413, "The request has too many bytes."),
    "unsupported_media_type": (415, "The request is not sent as JSON."),
    "unknown_host": (421, "The Host header is not a name of this service."),
    "invalid_request": (422, "The request has another form, or asks for more than is allowed."),
    "too_many_requests": (429, "Too many requests are under way."),
    "headers_too_large": (431, "The headers have too many bytes."),
    "internal_error": (500, "The service has a fault."),
    "embedder_failed": (502, "The embedder failed."),
    "overloaded": (503, "The service lacks memory, threads or connections, or it stops."),
    "index_busy": (503, "The index is replaced again and again."),
    "index_unavailable": (503, "The index is damaged or unreadable."),
    "embedder_timeout": (504, "The embedder did not answer in time."),
}  # Every code of an error, with its status and meaning

KINDS: tuple[tuple[type[RsearchError], str], ...] = (
    (errors.IndexNotFoundError, "index_not_found"),
    (errors.DocumentNotFoundError, "document_not_found"),
    (errors.QueryError, "query_not_embeddable"),
    (errors.NoEmbedderError, "no_embedder"),
    (errors.QueryTimeoutError, "embedder_timeout"),
    (errors.RefusedTextError, "query_not_embeddable"),
    (errors.EmbedderError, "embedder_failed"),
    (errors.IndexFormatError, "index_unavailable"),
    (errors.IndexBusyError, "index_busy"),
    (errors.StorageError, "index_unavailable"),
    (errors.ExhaustedError, "overloaded"),
    (RsearchError, "invalid_option"),
)  # The code of each kind of error, the first that fits. Of a status 5xx: the caller cannot help it

_OF_STATUS = {status: code for code, (status, _) in reversed(CODES.items())}  # the first code of each


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in the words of the API. `line`: what is wrong, then what to do; of a `field`, if not ''."""

    code: str
    line: str
    field: str = ""

    def shown(self, *, v1: bool = True) -> Any:
        """The error as JSON: one line, or an object with the hint apart (`v1`)."""
        line, field = typed(plain(self.line)), plain(self.field)
        if not v1:
            return f"{field}: {line}" if field else line
        message, hint = _parted(line)
        return {"code": self.code, "message": message, "hint": hint, "field": field or None}


def refusal_of(error: Exception) -> Refusal:
    """The refusal that an error means."""
    if isinstance(error, RsearchError):
        return Refusal(next(code for kind, code in KINDS if isinstance(error, kind)), str(error))
    if isinstance(error, HTTPException):
        line = {404: "no such page: /docs lists all", 405: "the route takes another method: see /docs"}
        code = _OF_STATUS.get(error.status_code, "invalid_request")
        return Refusal(code, line.get(error.status_code, str(error.detail)))
    if isinstance(error, RequestValidationError | ValidationError):
        within = isinstance(error, RequestValidationError)  # whose places start with `body` or `query`
        field, problem = invalid(error.errors(), int(within))
        return Refusal("invalid_request", f"{problem}; /docs shows the form", field)
    return Refusal("internal_error", f"internal error ({type(error).__name__}): please report it")


def refuse(path: str, error: Exception) -> Response:
    """The answer to a request of this path that ended with an error."""
    refusal = refusal_of(error)
    content = {"error": refusal.shown(v1=path.startswith(V1))}
    if not isinstance(error, HTTPException):
        return json_response(content, CODES[refusal.code][0])
    response = json_response(content, error.status_code)
    response.headers.update(error.headers or {})
    return response


def json_response(value: Any, status: int = 200) -> Response:
    """A value as an answer."""
    try:
        body = orjson.dumps(value)
    except TypeError:  # a lone surrogate in a query, or a huge integer
        body = json.dumps(value, separators=(",", ":")).encode("ascii")
    return Response(body, status, media_type="application/json")


_SEPARATOR = re.compile("[:;] ")
_COMMAND = re.compile(r"`((?:build|repair|tune|update|verify|warm)(?: [^`]*)?)`")


def typed(text: str) -> str:
    """The text with the commands of an operator as they are typed."""
    return _COMMAND.sub(lambda command: f"`{command_line(command[1])}`", text)


def invalid(errors: Sequence[Any], skip: int = 0) -> tuple[str, str]:
    """The field of the first of pydantic's errors ('': the whole), and the problem, without its content."""
    # A query is a text or a list, and pydantic reports errors for both: those of lists say more.
    of_lists = [one for one in errors if any(str(step).startswith("list[") for step in one["loc"])]
    first = next((one for one in of_lists if one["type"] != "list_type"), errors[0])
    if first["type"] == "json_invalid":
        return "", "the request is not JSON"
    steps = [str(step) for step in first["loc"][skip:]]  # before it are words of no interest
    field = ".".join(step for step in steps if not step.startswith(("constrained", "list[")))
    return (field, first["msg"]) if field else ("", "the request is not a JSON object")


def _parted(line: str) -> tuple[str, str]:
    """What is wrong, and what to do: '' if the line does not tell these apart."""
    for separator in reversed(list(_SEPARATOR.finditer(line))):
        message, hint = line[: separator.start()], line[separator.end() :]
        if all(hint.count(mark) % 2 == 0 for mark in "'\"`") and hint.count("(") == hint.count(")"):
            return message, hint
    return line, ""
