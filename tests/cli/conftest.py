"""The installed command on empty machines, its loopback services, and a few indexes that are built once.

Every run of the command is held to what all commands promise: no traceback, no key in the output.
"""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resizable_search.cli import main
from resizable_search.corpora import pydoc
from resizable_search.corpora.base import Document
from tests.servers.dataset import COLUMNS, CONFIG, articles, write_card, write_wikipedia
from tests.servers.hub import HubServer
from tests.servers.nomic_api import KEY, NomicServer
from tests.support import ListCorpus
from tests.support import articles as some_articles

COMMAND = Path(sys.executable).with_name("rsearch")
PATIENCE = 60.0
"""Seconds that a command may take, however busy the machine is."""

ROWS = 300
"""Articles in the index `wiki100k` of the shelf."""
ARTICLES = 450
DIMS = (64, 128, 256, 512, 768)
PYDOC_ROWS = 400

MARKUP = "[bold]loud[/bold] [link=x]"
ESCAPES = "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07here \x9b31m"
LONG = 10_000_000
"""Characters of the longest document."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    args: list[str]
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr: what went wrong, if anything did."""
        return self.err.splitlines()[-1] if self.err else ""

    @property
    def json(self) -> Any:
        """What it printed, parsed."""
        return json.loads(self.out)

    def keeps_promises(self) -> "Ran":
        for stream in (self.out, self.err):
            assert "Traceback" not in stream, stream
            assert KEY not in stream
        assert "internal error" not in self.err, self.err
        return self


def errs(ran: Ran, code: int, *words: str) -> None:
    """It failed with that code, and its one line on stderr has all of these words."""
    assert ran.err.count("\n") == 1, ran.err
    assert ran.out == ""
    errs_at_last(ran, code, *words)


def errs_at_last(ran: Ran, code: int, *words: str) -> None:
    """As `errs`, but lines of progress may stand before the last one."""
    assert ran.code == code, ran
    assert ran.last.startswith("rsearch: "), ran.err
    assert ran.err.endswith("\n")
    for line in ran.err.splitlines():
        assert line.startswith("rsearch: ") or not line, ran.err
    for word in words:
        assert word in ran.last


@dataclass
class Machine:
    """A HOME and a home of indexes, both empty at first, and the environment of the commands run there."""

    folder: Path
    env: dict[str, str]
    home: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.folder / "indexes"
        (self.folder / "user").mkdir(parents=True, exist_ok=True)
        self.env = {**self.env, "HOME": str(self.folder / "user"), "RSEARCH_HOME": str(self.home)}

    def run(self, *args: object, stdin: str | None = None, **env: str) -> Ran:
        """Run the command to its end; without `stdin` it gets an empty one."""
        return self.end(self.start(*args, **env), stdin or "")

    def start(self, *args: object, **env: str) -> "subprocess.Popen[str]":
        """Start the command in a session of its own."""
        return subprocess.Popen(
            [str(COMMAND), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**self.env, **env},
            cwd=self.folder,
            start_new_session=True,
        )

    def end(self, process: "subprocess.Popen[str]", stdin: str = "") -> Ran:
        """Wait for a command that was started, and hold it to what all commands promise."""
        with process:
            try:
                out, err = process.communicate(stdin, timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        return Ran(process.args[1:], process.returncode, shown(out), shown(err)).keeps_promises()

    def take(self, shelf: "Machine", name: str) -> Path:
        """Copy an index from the shelf into this home; its folder here."""
        shutil.copytree(shelf.home / name, self.home / name)
        return self.home / name

    def holdings(self) -> dict[str, bytes]:
        """Every file of the home and its content, locks and the like in `.state` apart."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and ".state" not in path.parts
        }

    def unfinished(self) -> list[str]:
        """The names in `.building`, be there anything in them or not."""
        building = self.home / ".building"
        return sorted(path.name for path in building.iterdir()) if building.is_dir() else []


def shown(output: str) -> str:
    """The output with bytes that are no UTF-8 as \\xff: a report of a failed test must be text."""
    return output.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def free_of_key(folder: Path) -> None:
    """No file below this folder holds the key."""
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def closed_address() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class Milestones(NomicServer):
    """A Nomic API that tells when so many requests have come."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._goal = 0
        self._reached = threading.Event()

    def expect(self, requests: int) -> None:
        """Begin to wait for so many more requests."""
        self._reached = threading.Event()
        self._goal = self.requests + requests

    def wait(self) -> None:
        """Until they have come."""
        assert self._reached.wait(PATIENCE)

    def embedding(self, headers: dict[str, str], body: bytes) -> Any:
        answer = super().embedding(headers, body)
        if self.requests >= self._goal:
            self._reached.set()
        return answer


@contextmanager
def a_hub(folder: Path) -> Iterator[HubServer]:
    """A hub with a generated Wikipedia, in English, in odd documents (`odd`) and in one document (`one`)."""
    write_wikipedia(folder, ARTICLES, shards=2, rows_per_group=100)
    write_language(folder, "odd", odd_documents())
    write_language(folder, "one", [next(articles(1))])
    write_card(folder, [CONFIG, "20231101.odd", "20231101.one"])
    with HubServer({"wikimedia/wikipedia": folder}) as server:
        yield server


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The hub of this session."""
    with a_hub(tmp_path_factory.mktemp("hub")) as server:
        yield server


def write_language(folder: Path, lang: str, rows: list[dict[str, str | None]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"20231101.{lang}"
    path.mkdir()
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    pq.write_table(pa.Table.from_pylist(rows, schema), path / "train-0.parquet")


def odd_documents() -> list[dict[str, str | None]]:
    texts = {
        "plain": ("Plain", "A tree is a plain structure of data."),
        "empty": ("Empty", ""),
        "blank": ("Blank", " \n\t \u00a0"),
        "none": ("None", None),
        "nul": ("Nul", "Before\0after the queue."),
        "markup": (MARKUP, "[red]Markup[/red] of a heap."),
        "escapes": (ESCAPES, "Escapes \x1b[2J\x1b]0;title\x07 of a stack."),
        "long": ("Long", ("word " * (LONG // 5))[:LONG]),
    }
    rows: list[dict[str, str | None]] = [
        {"id": id_, "title": title, "url": f"https://example.org/{id_}", "text": text}
        for id_, (title, text) in texts.items()
    ]
    nameless = {"id": ESCAPES, "title": "", "url": ESCAPES, "text": "A heap without a title."}
    return [*rows, {**rows[0], "text": "Another plain text under the same id."}, nameless]


@pytest.fixture(scope="session")
def api() -> Iterator[NomicServer]:
    """A Nomic API that tests leave in order."""
    with NomicServer() as server:
        yield server


@pytest.fixture(scope="session")
def env(hub: HubServer, api: NomicServer, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of the commands of this session."""
    return environment(hub.url, api.url, tmp_path_factory.mktemp("hf"))


def environment(hub: str, api: str, cache: Path) -> dict[str, str]:
    """The environment of the commands: these services, a cache for datasets, and nothing of the user's."""
    foreign = ("HF_", "HUGGING", "NOMIC", "ATLAS", "RSEARCH", "XDG_", "COLUMNS", "LINES", "NO_COLOR", "FORCE")
    foreign += ("OPENAI", "AWS")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return own | {
        "HF_HOME": str(cache),
        "HF_ENDPOINT": hub,
        "ATLAS_API_PATH": api,
        "NOMIC_API_KEY": KEY,
        "OPENBLAS_NUM_THREADS": "1",  # several commands run at once, and each starts its threads
    }


@pytest.fixture
def machine(env: Mapping[str, str], tmp_path: Path) -> Machine:
    """An empty machine."""
    return Machine(tmp_path, dict(env))


BUILDS = {
    "wiki100k": ("wiki100k", "--limit", ROWS),
    "pydoc": ("pydoc", "--limit", PYDOC_ROWS, "--dims", "64,256", "--embedder", "lsa"),
    "wiki-odd": ("wiki", "--lang", "odd", "--chars", 0, "--dims", " 128, 64"),
    "wiki-one": ("wiki", "--lang", "one", "--embedder", "lsa", "--limit", 7),
}


@dataclass
class Shelf(Machine):
    """The machine with the indexes that are built once, by the worker that needs one first. Only read it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with ThreadPoolExecutor() as pool:
            started = {name: pool.submit(self._built, name, *args) for name, args in BUILDS.items()}
        self.builds = {name: build.result() for name, build in started.items()}
        """How each of them was built."""

    def _built(self, name: str, *args: object) -> Ran:
        record = self.folder / f"{name}.json"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not record.exists():
                ran = self.run("build", *args)
                assert ran.code == 0, ran
                record.write_text(json.dumps(asdict(ran)))
        return Ran(**json.loads(record.read_text()))


@pytest.fixture(scope="session")
def shelf(env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Indexes to read, one for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Shelf(shared / "shelf", dict(env))


@pytest.fixture(scope="session")
def warmed(shelf: Shelf) -> Ran:
    """Compiled kernels: a build compiles them only for a large index."""
    ran = shelf.run("warm")
    assert ran.code == 0, ran
    return ran


@contextmanager
def another_api(machine: Machine, **options: Any) -> Iterator[Milestones]:
    """A Nomic API for this machine alone, to be spoiled."""
    with Milestones(**options) as server:
        machine.env["ATLAS_API_PATH"] = server.url
        yield server


@dataclass
class Inside:
    """Runs commands within the test's own process, which is quicker; their home is below `folder`."""

    folder: Path
    home: Path
    setenv: Callable[[str, str], None]
    _caught: pytest.CaptureFixture[str]

    def run(self, *args: object) -> Ran:
        words = [str(arg) for arg in args]
        self._caught.readouterr()
        code = main.guarded(lambda: main._run(words))
        out, err = self._caught.readouterr()
        return Ran(words, code, shown(out), shown(err)).keeps_promises()

    def files(self) -> list[Path]:
        """Every file of the home."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


WORDY = " ".join(f"word{i}" for i in range(90))
"""The text of the last document, longer than the others."""


def documents() -> list[Document]:
    return [*some_articles(39), Document("long", "Long", "", WORDY)]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    """A command line in this process, with an empty home and none of the user's keys.

    `build pydoc` reads a list of a few documents there, for tests of what embeds them.
    """
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RSEARCH_INDEX", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RSEARCH_HOME", str(tmp_path / "indexes"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pydoc, "PydocCorpus", lambda chars: ListCorpus(documents()))
    return Inside(tmp_path, tmp_path / "indexes", monkeypatch.setenv, capsys)
