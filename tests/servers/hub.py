"""A loopback hub: answers the real `datasets` and `huggingface_hub` clients like huggingface.co.

    with HubServer({"wikimedia/wikipedia": folder}) as hub:
        ...  # run the clients with HF_ENDPOINT=hub.url

Parquet files stand behind a redirect with the headers of large files, as on the real hub; all else
is served in place. `hub.fail_reads`, `drop_reads` and `stall_reads` spoil the next reads of data,
`hub.down` the whole server, and `hub.requests` tells what was asked for.
From a shell: python -m tests.servers.hub --repo wikimedia/wikipedia=FOLDER --port 8800
"""

import argparse
import hashlib
import json
import sys
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from resizable_search.corpora.hub import WIKIPEDIA_REVISION

DEFAULT_SHA = "5ea1ab1e5ea1ab1e5ea1ab1e5ea1ab1e5ea1ab1e"
"""The commit that main points to, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request: what was asked, and how many bytes of body went out."""

    method: str
    path: str
    range: str | None
    status: int
    sent: int


@dataclass(frozen=True, slots=True)
class _Fault:
    """What spoils one read of data: a status, a dropped connection, or a pause; none of them: a good read."""

    status: int = 0
    drop: bool = False
    seconds: float = 0.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may be killed
            super().handle_error(request, client_address)


class HubServer:
    """Serves `repos` (name to folder) on a loopback port from the moment it is entered.

    `shas` are the commits every repository has, the first being main; `tokens` open the `gated`
    repositories; `page` is the length of a page of the tree listing.
    """

    def __init__(
        self,
        repos: Mapping[str, Path],
        *,
        shas: tuple[str, ...] = (DEFAULT_SHA, WIKIPEDIA_REVISION),
        gated: Collection[str] = (),
        tokens: Collection[str] = (),
        page: int = 1000,
        port: int = 0,
    ) -> None:
        self.repos = dict(repos)
        self.shas = shas
        self.gated = frozenset(gated)
        self.tokens = frozenset(tokens)
        self.page = page
        self.down = False
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._faults: deque[_Fault] = deque()
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """What to set HF_ENDPOINT to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail_reads(self, count: int, status: int, *, after: int = 0) -> None:
        """Answer `count` reads of data with `status`, once `after` more have gone well."""
        self._plan(count, after, _Fault(status=status))

    def drop_reads(self, count: int, *, after: int = 0) -> None:
        """Close the connection in the middle of the body of `count` reads."""
        self._plan(count, after, _Fault(drop=True))

    def stall_reads(self, count: int, seconds: float, *, after: int = 0) -> None:
        """Let `count` reads wait `seconds` for their answer."""
        self._plan(count, after, _Fault(seconds=seconds))

    def heal(self) -> None:
        """Forget every fault that is still to come, and come up again."""
        self._faults.clear()
        self.down = False

    def reads(self) -> list[Request]:
        """The reads of data so far."""
        return [request for request in self.requests if request.path.startswith("/cdn/")]

    def _plan(self, count: int, after: int, fault: _Fault) -> None:
        self._faults.extend([_Fault()] * after + [fault] * count)

    def next_fault(self) -> _Fault:
        """The fault that the read being answered meets."""
        try:
            return self._faults.popleft()
        except IndexError:
            return _Fault()


class _Refused(Exception):
    """An answer that is no success, as the hub words it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes: without this each answer takes 40 ms

    def do_GET(self) -> None:
        try:
            if self.hub.down:
                raise _Refused(503, "Service Unavailable")
            self._route()
        except _Refused as refusal:
            self._answer(refusal.status, {"error": str(refusal)}, refusal.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept in `hub.requests` instead of being printed."""

    def _route(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        match unquote(url.path).strip("/").split("/"):
            case ["api", "datasets", owner, name, *rest]:
                repo = f"{owner}/{name}"
                self._api(repo, self._folder(repo), rest, parse_qs(url.query), parse_qs(body))
            case ["datasets", owner, name, "resolve", revision, *rest] if rest:
                self._resolve(f"{owner}/{name}", self._sha(revision), "/".join(rest))
            case ["cdn", owner, name, *rest]:
                self._data(self._file(f"{owner}/{name}", "/".join(rest)))
            case _:
                raise _Refused(404, "Sorry, we can't find the page you are looking for.")

    def _api(self, repo: str, folder: Path, rest: list[str], query: dict[str, list[str]], form: Any) -> None:
        match rest:
            case []:
                self._answer(200, self._info(repo, folder, self.hub.shas[0]))
            case ["revision", revision]:
                self._answer(200, self._info(repo, folder, self._sha(revision)))
            case ["auth-check"]:
                self._check_gate(repo)
                self._answer(200, {})
            case ["tree", revision, *path]:
                self._sha(revision)
                self._tree(folder, "/".join(path), query)
            case ["paths-info", revision]:
                self._sha(revision)
                found = [folder / path for path in form.get("paths", [])]
                self._answer(200, [_entry(folder, path) for path in found if path.exists()])
            case _:
                raise _Refused(404, "Not Found")

    def _info(self, repo: str, folder: Path, sha: str) -> dict[str, Any]:
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return {
            "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
            "id": repo,
            "author": repo.split("/")[0],
            "sha": sha,
            "lastModified": "2024-01-09T09:40:51.000Z",
            "createdAt": "2022-03-02T23:29:22.000Z",
            "private": False,
            "gated": "auto" if repo in self.hub.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in files],
        }

    def _tree(self, folder: Path, path: str, query: dict[str, list[str]]) -> None:
        root = folder / path
        if not root.is_dir():
            raise _Refused(404, f"{path} does not exist", "EntryNotFound")
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        entries = sorted(root.rglob("*") if recursive else root.iterdir())
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hub.page
        headers = {}
        if end < len(entries):
            here = urlsplit(self.path).path
            headers["Link"] = f'<{self.hub.url}{here}?recursive={recursive}&cursor={end}>; rel="next"'
        self._answer(200, [_entry(folder, entry) for entry in entries[start:end]], headers)

    def _resolve(self, repo: str, sha: str, path: str) -> None:
        self._folder(repo)
        self._check_gate(repo)
        try:
            file = self._file(repo, path)
        except _Refused as refusal:
            refusal.headers["X-Repo-Commit"] = sha
            raise
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if file.suffix == ".parquet":
            headers |= {"X-Linked-Size": str(file.stat().st_size), "X-Linked-ETag": f'"{_oid(file)}"'}
            self._answer(302, {}, headers | {"Location": f"{self.hub.url}/cdn/{repo}/{quote(path)}"})
        else:
            self._send(
                200, file.read_bytes(), headers | {"ETag": f'"{_oid(file)}"', "Content-Type": "text/plain"}
            )

    def _data(self, file: Path) -> None:
        fault = self.hub.next_fault()
        if fault.status:
            raise _Refused(fault.status, "The data cannot be read at the moment.")
        self.hub.closing.wait(fault.seconds)
        size = file.stat().st_size
        first, last, status, headers = 0, size - 1, 200, {"ETag": f'"{_oid(file)}"'}
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last, status = int(begin), min(int(end or last), last), 206
            if first >= size:
                raise _Refused(416, "Range Not Satisfiable")
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        with file.open("rb") as stream:
            stream.seek(first)
            self._send(status, stream.read(last - first + 1), headers, drop=fault.drop)

    def _folder(self, repo: str) -> Path:
        if folder := self.hub.repos.get(repo):
            return folder
        if self.headers.get("Authorization"):
            raise _Refused(404, "Repository not found", "RepoNotFound")
        raise _Refused(401, "Invalid username or password.")  # without a token, the hub tells no more

    def _file(self, repo: str, path: str) -> Path:
        file = self._folder(repo) / path
        if not file.is_file():
            raise _Refused(404, "Entry not found", "EntryNotFound")
        return file

    def _sha(self, revision: str) -> str:
        if revision == "main":
            return self.hub.shas[0]
        if revision not in self.hub.shas:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return revision

    def _check_gate(self, repo: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo in self.hub.gated and token not in self.hub.tokens:
            known = 403 if token else 401
            raise _Refused(known, f"Access to dataset {repo} is restricted.", "GatedRepo")

    def _answer(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, drop: bool = False) -> None:
        sent = b"" if self.command == "HEAD" else body[: len(body) // 2] if drop else body
        self.hub.requests.append(
            Request(self.command, self.path, self.headers.get("Range"), status, len(sent))
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = self.close_connection or drop


def _oid(file: Path) -> str:
    """What stands for the content's hash: it need not be one, only to change with the file."""
    stat = file.stat()
    return hashlib.sha256(f"{file.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    size, oid = path.stat().st_size, _oid(path)
    entry: dict[str, Any] = {"type": "file", "oid": oid[:40], "size": size, "path": name}
    if path.suffix == ".parquet":
        entry["lfs"] = {"oid": oid, "size": size, "pointerSize": 134}
    return entry


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted, after printing the address."""
    parser = argparse.ArgumentParser(description="Serve folders like the dataset hub.")
    parser.add_argument(
        "--repo", action="append", required=True, metavar="NAME=FOLDER", help="a dataset to serve"
    )
    parser.add_argument("--port", type=int, default=0, help="the loopback port (default: a free one)")
    options = parser.parse_args(argv)
    repos = dict(given.split("=", 1) for given in options.repo)
    with HubServer({name: Path(folder) for name, folder in repos.items()}, port=options.port) as hub:
        sys.stdout.write(hub.url + "\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
