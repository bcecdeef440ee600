"""A real service over small indexes, and pages of a real browser that watch what they do."""

import asyncio
import importlib.util
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resizable_search.build import build
from resizable_search.build_options import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.index.layout import Home
from tests.support import ListCorpus

PATIENCE = 15_000
"""Milliseconds after which a page that does not become as expected fails a test."""

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

TOPICS = {
    "tree": "root leaf branch node binary balanced height subtree canopy trunk".split(),
    "river": "water bank delta flood stream bridge fish current source mouth".split(),
    "engine": "piston valve fuel spark cylinder torque gear steam crank exhaust".split(),
    "music": "melody chord rhythm harmony scale tempo violin choir opera note".split(),
}


@dataclass
class Running:
    """A service in a thread of this process, on a port of its own; `stop` ends it."""

    home: Path
    token: str = ""
    url: str = field(init=False)

    def __post_init__(self) -> None:
        from resizable_search.service import server
        from resizable_search.service.guard import Rules
        from resizable_search.service.shelf import Shelf

        self._socket = server.listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        shelf = Shelf(Home(self.home), threads=1, engine="numpy")
        self._server = server.Server(server.configured(shelf, Rules.of("127.0.0.1", token=self.token)))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._server.serve([self._socket]))

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@contextmanager
def running(home: Path, token: str = "") -> Iterator[Running]:
    service = Running(home, token)
    try:
        yield service
    finally:
        service.stop()


def some_documents() -> list[Document]:
    """Documents about a few things, which mix their words, so that what is near depends on the dimension."""
    chance = random.Random(0)
    documents = []
    for i in range(180):
        topic = chance.choice(list(TOPICS))
        words = chance.choices(TOPICS[topic], k=24) + chance.choices(sum(TOPICS.values(), []), k=12)
        chance.shuffle(words)
        text = f"A {topic} of number {i}. " + " ".join(words) + "."
        url = f"https://example.org/{topic}/{i}"
        documents.append(Document(f"{topic}{i}", f"About a {topic}, {i}", url, text, {"year": 1900 + i}))
    return documents


SCRIPT = "<script>window.harmed = 1</script>"
IMAGE = '<img src=x onerror="window.harmed = 1">'
HOSTILE = {
    "script": Document("script", SCRIPT, "javascript:window.harmed=1", f"hostile {SCRIPT}"),
    "image": Document("image", IMAGE, "data:text/html,<script>window.harmed=1</script>", f"hostile {IMAGE}"),
    "closing": Document("closing", '"></a></li><b onclick=alert(1)>bold</b>', "https://example.org/\"onclick='x'", "hostile '\"></p>"),
    "turned": Document("turned", "hostile \u202eright to left\u2066 \u200f", "http://example.org/\u202e", "hostile \u202etext"),
    "long": Document("long", "W" * 10_000, "https://example.org/" + "l" * 3_000, "hostile " + "x" * 20_000),
    "control": Document("control", "hostile \x1b[2J\x07\x7f bell", "vbscript:x", "hostile \x01\x02 control"),
    "blank": Document("blank", "", " javascript:window.harmed=1", "hostile &lt;b&gt; &amp; {{7*7}} ${7*7}"),
    "mixed": Document("mixed", "<svg/onload=window.harmed=1>", "JaVaScRiPt:window.harmed=1", "hostile <style>*{display:none}</style>"),
    "meta": Document("meta", "Metadata", "//example.org/x", "hostile metadata", {"<b>key</b>": "<i onclick=x>", "n": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an index of some things, one of hostile documents, and a damaged one."""
    place = tmp_path_factory.mktemp("pages") / "indexes"
    filler = [Document(f"f{i}", f"Filler {i}", "", f"plain word{i % 7} word{i % 5} filler {i}") for i in range(24)]
    build(ListCorpus(some_documents()), LsaEmbedder(width=64), Home(place), BuildOptions("things", dims=(8, 16, 32, 64)))
    build(ListCorpus([*HOSTILE.values(), *filler]), LsaEmbedder(width=8), Home(place), BuildOptions("hostile", dims=(4, 8)))
    shutil.copytree(place / "things", place / "broken")
    (place / "broken" / "16.npy").unlink()
    return place


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Running]:
    with running(home) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium; of the module, since its loop would be in the way of other modules' own."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: scripts/test does")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: scripts/test installs Debian's where it runs as root")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, closing(playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)) as browser:
        yield browser


@dataclass
class Watch:
    """What pages did that they may not; `excused` are pieces of console messages that a test provokes."""

    origins: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)

    def attach(self, page: Any, origin: str) -> None:
        self.origins.add(origin)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.troubles.append(f"page error: {error}"))
        page.on("console", lambda message: message.type in ("error", "warning") and self.troubles.append(message.text))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def check(self) -> None:
        left = [told for told in self.troubles if not any(piece in told for piece in self.excused)]
        assert not left
        outside = [url for url in self.requests if not url.startswith((*self.origins, "data:"))]
        assert not outside


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.check()


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, service: Running, watch: Watch) -> Iterator[Visit]:
    """Opens an address of the service (or of another `at`) in a fresh context; options are the context's."""
    contexts = []

    def open_page(path: str = "/", at: Running | None = None, script: str = "", **options: Any) -> Any:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        watch.attach(page, (at or service).url)
        if script:
            page.add_init_script(script)
        page.goto((at or service).url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
