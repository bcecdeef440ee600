"""The files of the search page and of the documentation's page, read once: requests name them, no paths."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

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
