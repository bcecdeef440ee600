"""`rsearch query` and `similar` by a running service: the same output, or the same without one."""

import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from resizable_search.cli import remote as errand
from resizable_search.cli import served
from resizable_search.cli.main import guarded
from resizable_search.cli.main import main as run_main
from resizable_search.cli.searching import SearchArguments
from resizable_search.service import knock
from resizable_search.service.door import Door
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.knock import GREETING
from resizable_search.store.layout import Home
from resizable_search.system import thread_count
from tests.cli.conftest import COMMAND, PATIENCE, Inside, Machine, Ran
from tests.cli.test_query import imported
from tests.cli.test_serve import serving as running
from tests.service.conftest import built as made


class Errands(served.Errands):
    """Counts what it has answered."""

    answered = 0

    def __call__(self, asked):
        told = super().__call__(asked)
        self.answered += 1
        return told


@contextmanager
def serving(home: Home, **options) -> Iterator[Errands]:
    shelf = IndexPool(home, **options)
    errands = Errands(home, shelf.lend)
    try:
        with Door(home, errands) as door:
            assert door.problem == ""
            yield errands
    finally:
        shelf.close()


@pytest.fixture
def built(inside: Inside, monkeypatch: pytest.MonkeyPatch, tmp_path_factory) -> Inside:
    """A command line with an index of forty documents, no colours or sizes of the user's, and no service."""
    for name in ("NO_COLOR", "LINES", "RSEARCH_THREADS", errand.SERVICE_VARIABLE, *errand.ADDRESSES):
        monkeypatch.delenv(name, raising=False)
    once = tmp_path_factory.getbasetemp() / "errand" / "indexes"
    if not once.exists():
        build = inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "16,32", "--home", once)
        assert build.code == 0, build
    shutil.copytree(once, inside.home)
    return inside


@pytest.fixture
def service(built: Inside) -> Iterator[Errands]:
    with serving(Home(built.home)) as errands:
        yield errands


def settled(output: str) -> str:
    """The output without what differs from one run to the next: times, and numbers of links."""
    output = re.sub(r"(embed|scan|rerank) [\d.]+", r"\1 0.0", output)
    output = re.sub(r'"(embed|scan|rerank)": [\d.e-]+', r'"\1": 0.0', output)
    return re.sub(r"\x1b\]8;id=\d+;", "\x1b]8;id=0;", output)


def both(inside: Inside, *args: object) -> tuple[Ran, Ran]:
    """A command by the service, and the same without one."""
    with_service = inside.run(*args)
    inside.setenv(errand.SERVICE_VARIABLE, "off")
    without = inside.run(*args)
    inside.setenv(errand.SERVICE_VARIABLE, "")
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
    ("--group", "-i", "pydoc"),
    ("--threads", thread_count()),
]


@pytest.mark.parametrize("options", QUERIES, ids=lambda options: " ".join(map(str, options)) or "table")
def test_a_service_prints_what_the_command_would_print(built: Inside, options: tuple[object, ...]):
    with serving(Home(built.home)) as service:
        ours, theirs = both(built, "query", "word1", "word7", *options)
        assert service.answered == 1
    assert (ours.code, settled(ours.out), ours.err) == (0, settled(theirs.out), "")
    assert (theirs.code, theirs.err) == (0, "")
    assert ours.out


def test_similar_goes_to_the_service_too(built: Inside, service: Errands):
    ours, theirs = both(built, "similar", "long", "-k", 4, "--json")
    assert settled(ours.out) == settled(theirs.out)
    assert service.answered == 1
    assert len(ours.json["hits"]) == 4


class Terminal(io.TextIOWrapper):
    """A stdout that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(inside: Inside, monkeypatch, encoding: str, *args: str) -> bytes:
    """What main() writes to a terminal of that encoding."""
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal(written, encoding=encoding))
        patch.setattr(sys, "argv", ["rsearch", *args])
        patch.setattr(os, "_exit", sys.exit)
        with pytest.raises(SystemExit) as ended:
            run_main()
        sys.stdout.detach()
    assert ended.value.code == 0
    return written.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    "env",
    [
        {"TERM": "xterm-256color", "COLUMNS": "80"},
        {"TERM": "xterm", "COLUMNS": "120", "COLORTERM": "truecolor"},
        {"TERM": "xterm", "COLUMNS": "30", "LINES": "10"},
        {"TERM": "xterm-256color", "NO_COLOR": "1"},
        {"TERM": "dumb"},
        {"TERM": "xterm", "TTY_COMPATIBLE": "0"},
    ],
    ids=lambda env: " ".join(f"{name}={value}" for name, value in env.items()),
)
def test_a_terminal_is_written_as_the_command_would_write_it(
    built: Inside, service: Errands, monkeypatch, env: dict[str, str], encoding: str
):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for args in (
        ("query", "word1 word7 é"),
        ("query", "word1", "--fields", "id,snippet,title", "--snippet", "90"),
        ("query", "word1", "--json"),
        ("query", "word1", "--format", "csv"),
    ):
        asked = service.answered
        ours = on_a_terminal(built, monkeypatch, encoding, *args)
        assert service.answered == asked + 1
        monkeypatch.setenv(errand.SERVICE_VARIABLE, "off")
        theirs = on_a_terminal(built, monkeypatch, encoding, *args)
        monkeypatch.delenv(errand.SERVICE_VARIABLE)
        assert settled(ours.decode()) == settled(theirs.decode())
        assert (b"\x1b" in ours) == (b"\x1b" in theirs)


def on_a_pty(columns: int, **env: str) -> str:
    """What the command prints on a terminal of so many columns, which the system tells."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [COMMAND, "query", "word1 word7"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **env},
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal says that its other side is closed
            while more := os.read(ours, 1 << 16):
                shown += more
        os.close(ours)
        assert process.wait(PATIENCE) == 0
    return settled(shown.decode())


def test_the_width_is_that_of_the_client_s_own_terminal(built: Inside, service: Errands):
    narrow, wide = on_a_pty(80), on_a_pty(120, NO_COLOR="1")
    assert service.answered == 2
    assert narrow == on_a_pty(80, RSEARCH_SERVICE="off")
    assert wide == on_a_pty(120, NO_COLOR="1", RSEARCH_SERVICE="off")
    assert service.answered == 2
    assert "\x1b" in narrow
    assert "\x1b" not in wide
    assert max(map(len, wide.splitlines())) > 80


def test_explain_tells_on_stderr_that_a_service_has_answered(built: Inside, service: Errands):
    ours, theirs = both(built, "query", "word1", "--explain", "--json")
    assert ours.err == f"rsearch: the service that runs (process {os.getpid()}) has answered\n"
    assert theirs.err == ""
    assert list(ours.json) == list(theirs.json)
    assert [list(stage) for stage in ours.json["explain"]] == [
        list(stage) for stage in theirs.json["explain"]
    ]


def test_with_a_service_the_command_loads_neither_numpy_nor_rich(built: Inside, service: Errands):
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    ran = subprocess.run([COMMAND, "query", "word1"], env=env, capture_output=True, text=True, check=True)
    assert service.answered == 1
    assert "resizable_search" in imported(ran.stderr)
    assert not imported(ran.stderr) & {"numpy", "rich", "asyncio", "fastapi", "numba"}


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "numpy"),
        ("--threads", 1000),
        ("--embedder", "lsa"),
        ("--index", "./elsewhere"),
    ],
    ids=str,
)
def test_what_is_beyond_a_service_is_done_here(built: Inside, service: Errands, options: tuple[object, ...]):
    if "./elsewhere" in options:
        (built.folder / "elsewhere").symlink_to(built.home / "pydoc")
    ours, theirs = both(built, "query", "word1", "--json", *options)
    assert service.answered == 0
    assert (ours.code, settled(ours.out), ours.err) == (theirs.code, settled(theirs.out), theirs.err)


def test_a_folder_in_the_home_is_the_index_of_that_name(built: Inside, service: Errands):
    ours, theirs = both(built, "query", "word1", "-i", f"{built.home}/pydoc")
    assert service.answered == 1
    assert settled(ours.out) == settled(theirs.out)


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
def test_errors_are_told_as_without_a_service(
    built: Inside, service: Errands, monkeypatch, args: tuple[object, ...]
):
    monkeypatch.setattr(sys, "stdin", None)
    ours, theirs = both(built, *args)
    assert service.answered == 0
    assert (ours.code, settled(ours.out), ours.err) == (theirs.code, settled(theirs.out), theirs.err)
    assert ours.code in (1, 2)


def asked(built: Inside, **changed) -> dict:
    """An errand as the command sends it."""
    name, options = changed.pop("index", "pydoc"), SearchArguments(**changed)
    return json.loads(json.dumps(errand._errand("query", "word1", options, name, group=False)))


def test_a_plan_that_is_to_be_tuned_is_declined_and_a_tuned_one_is_used(built: Inside, service: Errands):
    with pytest.raises(served.DeclinedError, match="tuned"):
        service(asked(built, recall=0.5))
    assert built.run("tune", "--recall", 0.5, "--sample", 20).code == 0
    ours, theirs = both(built, "query", "word1", "--recall", 0.5, "--json")
    assert service.answered == 1
    assert settled(ours.out) == settled(theirs.out)


def test_a_service_that_embeds_elsewhere_declines(built: Inside, service: Errands, monkeypatch):
    errand_here = asked(built)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(served.DeclinedError, match="embedded elsewhere"):
        service(errand_here)


def test_an_index_of_that_name_in_another_place_is_not_meant(built: Inside, inside: Inside):
    other = inside.folder / "other"
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--home", other, "--limit", 20).code == 0
    with serving(Home(built.home), only=[str(other / "pydoc")]) as service:
        ours, theirs = both(built, "query", "word1", "--json")
        assert service.answered == 0
    assert settled(ours.out) == settled(theirs.out)


def test_the_index_that_is_on_the_disk_now_is_asked(built: Inside, service: Errands):
    assert built.run("query", "word1", "--json", "-k", 100).json["hits"][40:] == []
    assert built.run("delete", "pydoc", "long", "--yes").code == 0
    ours, theirs = both(built, "query", "word1", "--json", "-k", 100)
    assert service.answered == 2
    assert settled(ours.out) == settled(theirs.out)
    assert "long" not in {hit["id"] for hit in ours.json["hits"]}


def test_defaults_that_files_say_are_the_client_s(built: Inside, service: Errands):
    (built.home / "rsearch.toml").write_text("[query]\nk = 2\ndim = 16\n")
    ours, theirs = both(built, "query", "word1", "--json")
    assert service.answered == 1
    assert settled(ours.out) == settled(theirs.out)
    assert (ours.json["plan"], len(ours.json["hits"])) == ("16", 2)


def test_debug_and_the_variable_ask_no_service(built: Inside, service: Errands, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    on_a_terminal(built, monkeypatch, "utf-8", "query", "word1", "--debug")
    assert service.answered == 0


# Services that do not do what they should: what they send to who comes, and whether they stay.
HOSTILE: dict[str, tuple[list[bytes], bool]] = {
    "silent": ([], True),
    "gone at once": ([], False),
    "garbage": ([b"\x00\xff garbage\n"], True),
    "no line": ([b"x" * 1000], True),
    "another version": ([json.dumps({**GREETING, "version": "9.9"}).encode() + b"\n"], True),
    "another protocol": ([json.dumps({**GREETING, "rsearch": 9}).encode() + b"\n"], True),
    "greets and hangs": ([json.dumps(GREETING).encode() + b"\n\n"], True),
    "greets and goes": ([json.dumps(GREETING).encode() + b"\n"], False),
    "half an answer": ([json.dumps(GREETING).encode() + b'\n{"done": {"out": "half'], False),
    "half, and hangs": ([json.dumps(GREETING).encode() + b'\n{"done": {"out": "half'], True),
    "declines": ([json.dumps(GREETING).encode() + b'\n{"declined": "no"}\n'], False),
    "another form": ([json.dumps(GREETING).encode() + b'\n{"done": {"out": 1, "err": ""}}\n'], False),
    "no object": ([json.dumps(GREETING).encode() + b"\n[]\n"], False),
    "nested": ([json.dumps(GREETING).encode() + b"\n" + b"[" * 100_000 + b"\n"], False),
}


@contextmanager
def pretending(home: Home, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """A socket at the service's place, where everybody who comes is treated so."""
    home.socket.parent.mkdir(exist_ok=True)
    visits = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.socket))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listening.accept()
                    visits.append(line)
                    with suppress(OSError):
                        behave(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for line in visits:
                line.close()
            home.socket.unlink()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_service_that_misbehaves_costs_a_moment_and_nothing_else(built: Inside, monkeypatch, kind: str):
    monkeypatch.setattr(knock, "SILENT_SECONDS", 0.1)
    sent, stays = HOSTILE[kind]

    def behave(line: socket.socket) -> None:
        for words in sent:
            line.sendall(words)
        if not stays:
            line.recv(1 << 16)
            line.close()

    with pretending(Home(built.home), behave):
        ours, theirs = both(built, "query", "word1", "--json")
    assert (ours.code, settled(ours.out), ours.err) == (0, settled(theirs.out), "")


def test_a_service_that_is_stopped_is_not_waited_for(built: Inside, monkeypatch):
    """To a stopped process the system connects, and nothing comes: as from one that never accepts."""
    monkeypatch.setattr(knock, "SILENT_SECONDS", 0.1)
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


def test_what_lies_there_and_is_no_living_socket_is_passed_over(built: Inside):
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


def test_ctrl_c_ends_a_command_that_waits_for_a_service(built: Inside):
    def beats(line: socket.socket) -> None:
        line.sendall(json.dumps(GREETING).encode() + b"\n")
        line.recv(1 << 16)
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            line.sendall(b"\n")
            time.sleep(0.05)

    with pretending(Home(built.home), beats):
        ran = built.run("query", "word1")
    assert (ran.code, ran.out, ran.err) == (130, "", "rsearch: stopped\n")


def test_a_reader_that_goes_away_is_no_error_with_a_service_either(built: Inside, service: Errands):
    command = f"{COMMAND} query word1 -k 40 --format plain | head -1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    assert (ran.stdout, ran.stderr) == ("rank: 1\n", "")
    assert guarded(lambda: 0) == 0


def test_the_command_serve_answers_query_until_it_is_stopped(machine: Machine):
    made(machine.home)
    query = ("query", "tree leaf", "--explain", "--json")
    home = Home(machine.home)
    with running(machine) as service:
        asked = machine.run(*query)
        assert asked.err == f"rsearch: the service that runs (process {service.process.pid}) has answered\n"
        service.process.send_signal(signal.SIGSTOP)
        alone = machine.run(*query)
        service.process.send_signal(signal.SIGCONT)
        with running(machine) as second:
            assert "serving 1 index" in second.said
            told = second.process.stderr.readline()
            ended = second.stop()
        assert machine.run(*query).err == asked.err
        service.stop()
    assert told == "rsearch: `rsearch query` does its work itself: another service of this home answers it\n"
    assert ended.err == "rsearch: stopped\n"
    assert (alone.code, alone.err) == (0, "")
    assert alone.json["hits"] == asked.json["hits"]
    assert not [path for path in home.socket.parent.iterdir() if path.name.startswith("serve")]


def test_sixteen_clients_at_once_get_the_same_answer(built: Inside, service: Errands):
    home, wanted = Home(built.home), built.run("query", "word1").out
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: knock.ask(home, asked(built)), range(16)))
    assert {settled(each["out"]) for each in told} == {settled(wanted)}
    assert service.answered == 17
