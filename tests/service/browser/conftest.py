"""Small indexes that the service shows in a real browser, whose pages watch what they do."""

import importlib.util
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.store.layout import Home
from tests.service.conftest import Running, running
from tests.support import ListCorpus

PATIENCE = 15_000
"""Milliseconds after which a page that does not become as expected fails a test."""

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

TOPICS = {
    "tree": ["root", "leaf", "branch", "node", "binary", "balanced", "height", "subtree", "canopy", "trunk"],
    "river": ["water", "bank", "delta", "flood", "stream", "bridge", "fish", "current", "source", "mouth"],
    "engine": ["piston", "valve", "fuel", "spark", "cylinder", "torque", "gear", "steam", "crank", "exhaust"],
    "music": ["melody", "chord", "rhythm", "harmony", "scale", "tempo", "violin", "choir", "opera", "note"],
}


def url_of(service: Running) -> str:
    return f"http://127.0.0.1:{service.port}"


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
STYLE = "<style>*{display:none}</style>"
ENDING = '"></a></li><b onclick=alert(1)>bold</b>'
LEADING_QUOTE = "https://example.org/\"onclick='x'"
PAGE = "data:text/html,<script>window.harmed=1</script>"
HOSTILE = {
    document.id: document
    for document in (
        Document("script", SCRIPT, "javascript:window.harmed=1", f"hostile {SCRIPT}"),
        Document("image", IMAGE, PAGE, f"hostile {IMAGE}"),
        Document("ending", ENDING, LEADING_QUOTE, "hostile '\"></p>"),
        Document(
            "turned", "hostile \u202eto left\u2066 \u200f", "http://example.org/\u202e", "hostile \u202etext"
        ),
        Document("long", "W" * 10_000, "https://example.org/" + "l" * 3_000, "hostile " + "x" * 20_000),
        Document("control", "hostile \x1b[2J\x07\x7f bell", "vbscript:x", "hostile \x01\x02 control"),
        Document("blank", "", " javascript:window.harmed=1", "hostile &lt;b&gt; &amp; {{7*7}} ${7*7}"),
        Document("mixed", "<svg/onload=window.harmed=1>", "JaVaScRiPt:window.harmed=1", f"hostile {STYLE}"),
        Document("keys", "Keys", "//example.org/x", "hostile keys", {"<b>key</b>": "<i onclick=x>", "n": 1}),
    )
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an index of some things, one of hostile documents, and a damaged one."""
    folder = tmp_path_factory.mktemp("pages") / "indexes"
    filler = [
        Document(f"f{i}", f"Filler {i}", "", f"plain word{i % 7} word{i % 5} filler {i}") for i in range(24)
    ]
    build(
        ListCorpus(some_documents()),
        LsaEmbedder(width=64),
        Home(folder),
        BuildOptions("things", dims=(8, 16, 32, 64)),
    )
    build(
        ListCorpus([*HOSTILE.values(), *filler]),
        LsaEmbedder(width=8),
        Home(folder),
        BuildOptions("hostile", dims=(4, 8)),
    )
    shutil.copytree(folder / "things", folder / "broken")
    (folder / "broken" / "16.npy").unlink()
    return folder


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

    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)) as browser,
    ):
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
        page.on(
            "console",
            lambda message: message.type in ("error", "warning") and self.troubles.append(message.text),
        )
        page.on(
            "dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )

    def check(self) -> None:
        left = [trouble for trouble in self.troubles if not any(piece in trouble for piece in self.excused)]
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
    """Opens an address of the service (or of another `at`) in a fresh context with these options.

    `prepare` has the page before it is loaded.
    """
    contexts = []

    def open_page(
        path: str = "/",
        at: Running | None = None,
        prepare: Callable[[Any], object] | None = None,
        **options: Any,
    ) -> Any:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        watch.attach(page, url_of(at or service))
        if prepare is not None:
            prepare(page)
        page.goto(url_of(at or service) + path)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")  # a measurement may be under way
        context.close()
