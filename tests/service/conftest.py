"""A home of small indexes, and the real service over it, listening on loopback."""

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.embedders import registry
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.middleware import AccessRules
from resizable_search.service.server import Server, configured, listen
from resizable_search.store.layout import Home
from tests.support import ListCorpus

WORDS = [
    "tree",
    "leaf",
    "root",
    "branch",
    "graph",
    "node",
    "edge",
    "path",
    "heap",
    "queue",
    "stack",
    "list",
    "table",
    "hash",
    "sort",
    "search",
]
WORDS += [
    "river",
    "lake",
    "sea",
    "rain",
    "cloud",
    "wind",
    "storm",
    "snow",
    "ice",
    "hill",
    "valley",
    "rock",
    "sand",
    "clay",
    "dust",
    "ash",
]


def documents(count: int, seed: int = 0) -> list[Document]:
    """Documents of words drawn at random, with a year each."""
    draw = random.Random(seed)
    return [
        Document(
            f"d{i}",
            f"Title {i} of {seed}",
            f"https://example.org/{i}",
            " ".join(draw.choices(WORDS, k=12)),
            {"year": 1900 + i % 100},
        )
        for i in range(count)
    ]


def built(home: Path, name: str = "made", count: int = 120, seed: int = 0, restart: bool = False) -> None:
    """An index with the lsa embedder, by the real build."""
    corpus = ListCorpus(documents(count, seed), version=f"{seed}")
    build(corpus, registry.create("lsa"), Home(home), BuildOptions(name, restart=restart))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Path:
    """A home with the indexes `made` and `other`, for tests that only read."""
    home = tmp_path_factory.mktemp("service")
    built(home)
    built(home, "other", 60, 1)
    return home


@dataclass
class HttpAnswer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        content = self.json
        assert set(content) == {"error"}
        assert "\n" not in content["error"]
        return content["error"]


@dataclass
class Running:
    """A service that runs in a thread."""

    port: int
    pool: IndexPool
    server: Server

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> HttpAnswer:
        """One request on a connection of its own; `body` becomes JSON unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return HttpAnswer(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            connection.close()

    def search(self, query: Any = "tree leaf", **options: Any) -> HttpAnswer:
        return self.ask("POST", "/api/search", {"query": query, "index": "made", **options})


@contextmanager
def running(home: Path, rules: AccessRules | None = None, only: tuple[str, ...] = ()) -> Iterator[Running]:
    """The service of a home, until the block ends."""
    pool = IndexPool(Home(home), only, threads=1, engine="numpy")
    listening = listen("127.0.0.1", 0)
    server = Server(configured(pool, rules or AccessRules.of("127.0.0.1")))
    with started(server, [listening]):
        yield Running(listening.getsockname()[1], pool, server)


@contextmanager
def started(server: Server, sockets: list[socket.socket]) -> Iterator[None]:
    """A server that runs in a thread until the block ends."""
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        for each in sockets:
            each.close()


@pytest.fixture(scope="module")
def served(made_once: Path) -> Iterator[Running]:
    """The service of `made_once`."""
    with running(made_once) as service:
        yield service
