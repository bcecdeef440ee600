"""`rsearch query` and `similar` by a running service: the same output, or silently the same without it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from resizable_search import service as shared
from resizable_search.cli import remote
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.middleware import AccessRules
from resizable_search.service.server import Server, configured, listen, local_socket
from resizable_search.store.layout import Home
from resizable_search.system import thread_count
from tests.cli.conftest import COMMAND, PATIENCE, Inside, Machine, Ran
from tests.cli.test_query import imported
from tests.cli.test_serve import serving as running
from tests.service.conftest import built as made
from tests.service.conftest import started

TOKEN = "a-token-of-32-characters-or-more"


@dataclass
class Served:
    """A running service, and the status of each answer that it gave through the Unix socket."""

    app: Callable
    statuses: list[int] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return self.statuses.count(200)

    async def __call__(self, scope, receive, send):
        async def watched(message):
            if message["type"] == "http.response.start" and scope["server"][1] is None:
                self.statuses.append(message["status"])
            await send(message)

        await self.app(scope, receive, watched)


@contextmanager
def serving(home: Home, **options) -> Iterator[Served]:
    config = configured(IndexPool(home, **options), AccessRules.of("127.0.0.1", token=TOKEN))
    config.app = served = Served(config.app)
    with local_socket(home) as unix, started(Server(config), [listen("127.0.0.1", 0), unix]):
        yield served


@pytest.fixture
def built(inside: Inside, monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> Inside:
    """A command line with an index of forty documents, no settings of the user's, and no service."""
    variables = ("NO_COLOR", "LINES", "RSEARCH_THREADS", remote.SERVICE_VARIABLE, *shared.ENDPOINT_VARIABLES)
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "SILENT_SECONDS", 30)  # the first query of this process loads the kernels
    once = tmp_path_factory.getbasetemp() / "remote" / "indexes"
    if not once.exists():
        build = inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "16,32", "--home", once)
        assert build.code == 0, build
    shutil.copytree(once, inside.home)
    return inside


@pytest.fixture
def service(built: Inside) -> Iterator[Served]:
    with serving(Home(built.home)) as served:
        yield served


def settled(output: str) -> str:
    """The output without times, which differ from run to run."""
    output = re.sub(r"(embed|scan|rerank) [\d.]+", r"\1 0.0", output)
    return re.sub(r'"(embed|scan|rerank|ms)": [\d.e-]+', r'"\1": 0.0', output)


def both(inside: Inside, *args: object) -> tuple[Ran, Ran]:
    """A command by the service, and the same without one."""
    with_service = inside.run(*args)
    inside.setenv(remote.SERVICE_VARIABLE, "off")
    without = inside.run(*args)
    inside.setenv(remote.SERVICE_VARIABLE, "")
    assert (with_service.code, settled(with_service.out)) == (without.code, settled(without.out))
    return with_service, without


QUERIES = [
    (),
    ("--json",),
    ("--format", "jsonl"),
    ("--format", "csv"),
    ("--format", "tsv", "--fields", "rank,id,metadata"),
    ("--format", "plain", "--snippet", 40),
    ("--fields", "rank,id,snippet", "--snippet", 30),
    ("--json", "--snippet", 20, "-k", 3),
    ("--min-score", 2),
    ("--dim", 16, "--rerank", 2, "-k", 5),
    ("--plan", "32:int8:20,32"),
    ("--where", "id <> 'long'"),
    ("--no-group", "-i", "pydoc"),
    ("--threads", thread_count()),
    ("-k", 5000),
    ("-k", 5000, "--dim", 16, "--rerank", 1000),
]


@pytest.mark.parametrize("options", QUERIES, ids=lambda options: " ".join(map(str, options)) or "table")
def test_a_service_gives_what_the_command_gives(built: Inside, service: Served, options: tuple[object, ...]):
    ours, theirs = both(built, "query", "word1", "word7", *options)
    assert service.statuses == [200]
    assert (ours.code, ours.err, theirs.err) == (0, "", "")
    assert ours.out


def test_similar_goes_to_the_service_too(built: Inside, service: Served):
    ours, _ = both(built, "similar", "long", "-k", 4, "--json")
    assert service.statuses == [200]
    assert len(ours.json["hits"]) == 4


def test_explain_says_that_a_service_answered(built: Inside, service: Served):
    for args in (("query", "word1", "--explain"), ("similar", "long", "--explain", "--json")):
        ran = built.run(*args)
        assert (ran.code, ran.err) == (0, f"rsearch: the running service (process {os.getpid()}) answered\n")
    assert service.statuses == [200, 200]
    stage = ran.json["explain"][0]
    built.setenv(remote.SERVICE_VARIABLE, "off")
    alone = built.run("similar", "long", "--explain", "--json", "--engine", stage["engine"])
    assert alone.err == ""
    assert {**stage, "ms": 0} == {**alone.json["explain"][0], "ms": 0}


def test_with_a_service_the_command_loads_little(built: Inside, service: Served):
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    ran = subprocess.run(
        [COMMAND, "query", "word1", "--json"], env=env, capture_output=True, text=True, check=True
    )
    assert service.statuses == [200]
    packages = imported(ran.stderr)
    assert "resizable_search" in packages
    heavy = {"numpy", "rich", "asyncio", "fastapi", "numba", "http", "sqlite3", "csv", "tomllib", "logging"}
    assert not packages & heavy
    ours = set(re.findall(r"resizable_search\.((?!cli\b)\w+\S*)", ran.stderr))
    light = {"errors", "text", "system", "progress", "environment", "store", "store.layout", "embedders"}
    assert ours <= light | {"service", "search", "search.results"}


@pytest.mark.parametrize(
    "options",
    [("--engine", "numpy"), ("--threads", 1000), ("--embedder", "lsa"), ("--index", "./elsewhere")],
    ids=str,
)
def test_what_a_service_cannot_know_is_done_alone(
    built: Inside, service: Served, options: tuple[object, ...]
):
    (built.folder / "elsewhere").symlink_to(built.home / "pydoc")
    ours, theirs = both(built, "query", "word1", "--json", *options)
    assert service.answered == 0
    assert ours.err == theirs.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("RSEARCH_THREADS", "1000"), ("OPENAI_BASE_URL", "http://127.0.0.1:9"), ("ATLAS_API_PATH", "http://x")],
)
def test_another_environment_is_another_service(built: Inside, service: Served, monkeypatch, name, value):
    identity = shared.identity
    monkeypatch.setattr(remote, "identity", lambda *args: json.loads(json.dumps(identity(*args))))
    with monkeypatch.context() as patched:
        patched.setenv(name, value)
        expects = remote.identity(built.home / "pydoc", "auto", 1000 if name == "RSEARCH_THREADS" else None)
    monkeypatch.setattr(remote, "identity", lambda *_: expects)
    both(built, "query", "word1", "--json")
    assert service.statuses == [412]


def test_another_version_is_another_service(built: Inside, service: Served, monkeypatch):
    other = {**shared.identity(built.home / "pydoc", "auto", None), "version": "9.9"}
    monkeypatch.setattr(remote, "identity", lambda *_: other)
    both(built, "query", "word1", "--json")
    assert service.statuses == [412]


@pytest.mark.parametrize(
    "args",
    [
        ("query", "word1", "-i", "nowhere"),
        ("query", "word1", "--dim", 0),
        ("query", "word1", "-k", 0),
        ("query", "word1", "--where", "yaer > 1"),
        ("query", "word1", "--fields", "no"),
        ("query", "word1", "--recall", 2),
        ("query", "xyzzy"),
        ("query", "\udcff"),
        ("query", " "),
        ("query", "-"),
        ("query", "word1", "--open", 99),
        ("similar", "nobody"),
    ],
    ids=str,
)
def test_errors_are_those_of_the_command_alone(
    built: Inside, service: Served, monkeypatch, args: tuple[object, ...]
):
    monkeypatch.setattr(sys, "stdin", None)
    ours, theirs = both(built, *args)
    assert ours.err == theirs.err
    assert ours.code in (1, 2)


def test_a_missing_tuned_plan_is_tuned_alone_and_then_served(built: Inside, service: Served):
    assert built.run("query", "word1", "--recall", 0.5, "--json").code == 0
    assert service.statuses == [400]
    both(built, "query", "word1", "--recall", 0.5, "--json")
    assert service.statuses == [400, 200]


def test_a_service_of_another_index_of_that_name_is_not_used(built: Inside):
    other = built.folder / "other"
    assert built.run("build", "pydoc", "--embedder", "lsa", "--home", other, "--limit", 20).code == 0
    with serving(Home(built.home), only=[str(other / "pydoc")]) as service:
        both(built, "query", "word1", "--json")
        assert service.statuses == [412]


def test_a_service_of_a_home_that_was_moved_is_not_used(built: Inside, service: Served):
    moved = built.home.rename(built.folder / "moved")
    both(built, "query", "word1", "--json", "--home", moved)
    assert service.statuses == [404]
    moved.rename(built.home)


def test_the_service_searches_the_index_that_is_on_the_disk_now(built: Inside, service: Served):
    assert built.run("query", "word1", "--json", "-k", 100).json["hits"][40:] == []
    assert built.run("delete", "pydoc", "long", "--yes").code == 0
    ours, _ = both(built, "query", "word1", "--json", "-k", 100)
    assert service.statuses == [200, 200]
    assert "long" not in {hit["id"] for hit in ours.json["hits"]}


def test_settings_are_those_of_the_command(built: Inside, service: Served):
    (built.home / "rsearch.toml").write_text("[query]\nk = 2\ndim = 16\n")
    ours, _ = both(built, "query", "word1", "--json")
    assert service.statuses == [200]
    assert (ours.json["plan"], len(ours.json["hits"])) == ("16", 2)


def test_debug_uses_no_service(built: Inside, service: Served):
    ran = subprocess.run(
        [COMMAND, "query", "word1", "--debug"], capture_output=True, timeout=PATIENCE, check=True
    )
    assert b"word" in ran.stdout
    assert service.statuses == []


def test_the_token_is_for_tcp_alone(built: Inside, service: Served):
    both(built, "query", "word1", "--json")
    assert service.statuses == [200]  # the service has a token, and the command sent none


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
# What a misbehaving service sends to who connects, and whether the connection stays open.
HOSTILE: dict[str, tuple[bytes, bool]] = {
    "silent": (b"", True),
    "gone at once": (b"", False),
    "garbage": (b"\x00\xff garbage\n", True),
    "garbage, and gone": (b"\x00\xff garbage\n", False),
    "no head": (b"x" * 1000, False),
    "half a head": (HEAD[:30], False),
    "half an answer": (HEAD + b"{", False),
    "half, and hangs": (HEAD + b"{", True),
    "no index": (HEAD + b"{}", False),
    "no fields": (HEAD + b'{"served": {}}', False),
    "no object": (HEAD + b"[]", False),
    "not JSON": (HEAD + b"{[", False),
    "nested": (HEAD.replace(b"2\r", b"100000\r") + b"[" * 100_000, False),
    "refused": (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", False),
}


@contextmanager
def pretending(home: Home, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """A socket in the service's place, which treats every connection so."""
    home.socket.parent.mkdir(exist_ok=True)
    connections = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.socket))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connections.append(connection)
                    with suppress(OSError):
                        behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in connections:
                connection.close()
            home.socket.unlink()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_service_that_misbehaves_costs_a_moment_and_nothing_else(built: Inside, monkeypatch, kind: str):
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.1)
    sent, stays = HOSTILE[kind]

    def behave(connection: socket.socket) -> None:
        connection.sendall(sent)
        if not stays:
            connection.recv(1 << 16)
            connection.close()

    with pretending(Home(built.home), behave):
        ours, theirs = both(built, "query", "word1", "--json")
    assert (ours.code, ours.err, theirs.err) == (0, "", "")


def test_a_service_that_is_stopped_is_not_waited_for(built: Inside, monkeypatch):
    """The system connects to a stopped process, and nothing comes: as from one that never accepts."""
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.1)
    home = Home(built.home)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.socket))
        listening.listen(1)
        for _ in range(4):  # at last it has no room for further connections either
            ours = built.run("query", "word1", "--json")
            assert (ours.code, ours.err) == (0, "")
            with suppress(OSError):
                left = socket.socket(socket.AF_UNIX)
                left.setblocking(False)
                left.connect(str(home.socket))
            left.close()


def test_a_stale_socket_and_other_files_are_ignored(built: Inside):
    home = Home(built.home)
    for make in (
        lambda: home.socket.write_text("a file"),
        lambda: home.socket.symlink_to(built.folder / "nowhere"),
        lambda: home.socket.mkdir(),
    ):
        make()
        assert built.run("query", "word1", "--json").code == 0
        home.socket.rmdir() if home.socket.is_dir() else home.socket.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    assert built.run("query", "word1", "--json").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
def test_the_socket_of_another_user_is_not_trusted(built: Inside, service: Served):
    os.chown(Home(built.home).socket, 12345, 12345)
    both(built, "query", "word1")
    assert service.statuses == []


def test_a_path_that_is_too_long_for_a_socket_works(built: Inside):
    home = Home(built.folder / ("long" * 20) / ("path" * 20))
    shutil.copytree(built.home, home.path)
    assert len(os.fsencode(home.socket)) > 150
    with serving(home) as service:
        both(built, "query", "word1", "--home", home.path)
        assert service.statuses == [200]
    assert not home.socket.exists()


def test_ctrl_c_ends_a_command_that_waits_for_a_service(built: Inside):
    def interrupt(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        os.kill(os.getpid(), signal.SIGINT)

    with pretending(Home(built.home), interrupt):
        ran = built.run("query", "word1")
    assert (ran.code, ran.out, ran.err) == (130, "", "rsearch: stopped\n")


def test_a_reader_that_goes_away_is_no_error_with_a_service_either(built: Inside, service: Served):
    command = f"{COMMAND} query word1 -k 40 --format plain | head -1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    assert (ran.stdout, ran.stderr) == ("rank: 1\n", "")
    assert service.statuses == [200]


def test_the_command_serve_answers_query_until_it_is_stopped(machine: Machine):
    made(machine.home)
    query = ("query", "tree leaf", "--explain", "--json")
    home = Home(machine.home)
    with running(machine) as service:
        service.ask("GET", "/api/indexes")  # which waits until they are open
        asked = machine.run(*query)
        assert asked.err == f"rsearch: the running service (process {service.process.pid}) answered\n"
        service.process.send_signal(signal.SIGSTOP)
        alone = machine.run(*query)
        service.process.send_signal(signal.SIGCONT)
        with running(machine) as second:
            assert "serving made at" in second.greeting
            warning = second.process.stderr.readline()
            ended = second.stop()
        assert machine.run(*query).err == asked.err
        service.stop()
    assert warning == "rsearch: `rsearch query` will not use this service: another one serves this home\n"
    assert ended.err == "rsearch: stopped\n"
    assert (alone.code, alone.err) == (0, "")
    assert alone.json["hits"] == asked.json["hits"]
    assert not home.socket.exists()
