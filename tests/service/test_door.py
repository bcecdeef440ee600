"""The socket of a running service: who may come, what is answered, and what is left when it has gone."""

import json
import os
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from resizable_search.service import door as doors
from resizable_search.service import knock
from resizable_search.service.door import Door
from resizable_search.service.knock import GREETING, ask
from resizable_search.store.layout import NAMES, Home

SOON = 0.2
"""Seconds that are long for a socket, and short for a test."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "indexes")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "BEAT_SECONDS", 0.02)


def echo(errand):
    return errand


@contextmanager
def opened(home: Home, handler=echo):
    with Door(home, handler) as door:
        assert door.problem == ""
        yield door


@contextmanager
def visitor(home: Home):
    """A connection that has been greeted, as a file to read from."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(home.socket))
        with line.makefile("rb") as lines:
            assert json.loads(lines.readline()) == GREETING
            yield line, lines


def test_what_is_asked_is_handed_over_and_the_answer_brought_back(home: Home):
    with opened(home):
        assert ask(home, {"text": "é \udcff ∑", "figures": [1, 0.1]}) == {
            "text": "é \udcff ∑",
            "figures": [1, 0.1],
        }
    assert ask(home, {}) is None


def test_an_answer_of_many_megabytes_comes_whole(home: Home):
    with opened(home, lambda errand: "x" * 20_000_000):
        assert ask(home, {}) == "x" * 20_000_000


def test_only_its_user_may_open_the_door_and_nothing_is_left_of_it(home: Home):
    before = os.umask(0)
    try:
        with opened(home):
            assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(home.socket.parent.iterdir()) == []


def test_a_home_has_one_door(home: Home):
    with opened(home, lambda errand: "first"):
        with Door(home, lambda errand: "second") as second:
            assert "another service of this home" in second.problem
        assert ask(home, {}) == "first"
    with opened(home, lambda errand: "third"):
        assert ask(home, {}) == "third"


def test_a_dead_service_is_replaced(home: Home):
    home.socket.parent.mkdir(parents=True)
    (home.socket.parent / NAMES.serving).touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    assert ask(home, {}) is None
    with opened(home):
        assert ask(home, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("what", ["file", "folder"])
def test_where_there_can_be_no_socket_the_service_is_told_and_goes_on(home: Home, what: str):
    home.path.mkdir()
    if what == "file":
        home.socket.parent.write_text("")
    else:
        (home.socket / "of an index").mkdir(parents=True)
    with Door(home, echo) as door:
        assert str(home.path) in door.problem
        assert ask(home, {}) is None


def test_a_path_that_is_too_long_for_a_socket_is_reached_through_its_folder(tmp_path: Path):
    home = Home(tmp_path / ("long" * 20) / ("path" * 20))
    with opened(home):
        assert ask(home, {"a": 1}) == {"a": 1}
        assert len(os.fsencode(home.socket)) > 150
    assert not home.socket.exists()


def test_a_link_to_the_home_leads_to_the_same_door_and_another_home_does_not(home: Home, tmp_path: Path):
    with opened(home):
        link = tmp_path / "link"
        link.symlink_to(home.path)
        assert ask(Home(link), {"a": 1}) == {"a": 1}
        moved = home.path.rename(tmp_path / "moved")
        home.path.mkdir()
        assert ask(Home(moved), {"a": 1}) is None
        home.path.rmdir()
        moved.rename(home.path)


def test_what_a_handler_raises_is_declined_without_its_words(home: Home):
    def fails(errand):
        raise ValueError("secret")

    with opened(home, fails), visitor(home) as (line, lines):
        line.sendall(json.dumps({**GREETING, "home": knock.identity(home)}).encode() + b"\n")
        said = lines.readline()
        assert json.loads(said) == {"declined": "ValueError"}
        assert b"secret" not in said


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[1]",
        b"{}",
        b"\xff\xfe",
        json.dumps({**GREETING, "version": "0.0.0"}).encode(),
        json.dumps({**GREETING, "rsearch": 2}).encode(),
        json.dumps({**GREETING, "home": [0, 0]}).encode(),
    ],
)
def test_what_is_no_errand_for_this_service_is_declined(home: Home, line: bytes):
    with (
        opened(home, lambda errand: pytest.fail("it is handled")),
        visitor(home) as (connection, lines),
    ):
        connection.sendall(line + b"\n")
        assert list(json.loads(lines.readline())) == ["declined"]


def test_a_line_without_end_and_somebody_who_says_nothing_are_turned_away(home: Home, monkeypatch):
    monkeypatch.setattr(doors, "MOST_LINE", 1000)
    monkeypatch.setattr(doors, "PATIENCE_SECONDS", SOON)
    with opened(home):
        with visitor(home) as (line, lines):
            line.sendall(b"x" * 5000)
            with suppress(ConnectionResetError):
                assert lines.read() == b""
        with visitor(home) as (line, lines):
            assert lines.read() == b""


def test_a_crowd_is_turned_away_and_the_door_works_afterwards(home: Home, monkeypatch):
    monkeypatch.setattr(doors, "MOST_VISITS", 2)
    with opened(home):
        with visitor(home), visitor(home):
            assert ask(home, {}) is None
        until = time.monotonic() + 5
        while ask(home, {"a": 1}) is None:  # until it has seen them go
            assert time.monotonic() < until


def test_sixteen_ask_at_once_and_a_bounded_number_is_at_work(home: Home):
    lock, at_work, most = threading.Lock(), 0, 0

    def slow(errand):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return errand["n"]

    with opened(home, slow), ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: ask(home, {"n": n}), range(48))) == list(range(48))
    assert 1 < most <= doors.AT_ONCE


def test_beats_tell_that_long_work_goes_on(home: Home, monkeypatch):
    monkeypatch.setattr(knock, "SILENT_SECONDS", SOON)

    def slow(errand):
        time.sleep(3 * SOON)
        return "at last"

    with opened(home, slow):
        assert ask(home, {}) == "at last"


def test_errands_under_way_are_finished_when_the_service_stops(home: Home):
    begun = threading.Event()

    def slow(errand):
        begun.set()
        time.sleep(SOON)
        return "done"

    with ThreadPoolExecutor() as pool:
        with opened(home, slow):
            answer = pool.submit(ask, home, {})
            assert begun.wait(5)
        assert answer.result() == "done"


def test_an_errand_that_hangs_does_not_keep_the_service_from_stopping(home: Home, monkeypatch):
    monkeypatch.setattr(doors, "GRACE_SECONDS", SOON)
    begun, end = threading.Event(), threading.Event()

    def hangs(errand):
        begun.set()
        end.wait(30)

    with ThreadPoolExecutor() as pool:
        with opened(home, hangs):
            answer = pool.submit(ask, home, {})
            assert begun.wait(5)
        assert answer.result() is None
        end.set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
def test_the_socket_of_another_user_is_not_trusted(home: Home):
    with opened(home):
        os.chown(home.socket, 12345, 12345)
        assert ask(home, {}) is None


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell who knocks")
def test_whoever_is_neither_the_user_nor_root_is_sent_away(home: Home, monkeypatch):
    with opened(home, lambda errand: pytest.fail("it is handled")):
        monkeypatch.setattr(doors, "is_own", lambda line: False)
        assert ask(home, {}) is None
    with opened(home):
        monkeypatch.undo()
        monkeypatch.setattr(knock, "is_own", lambda line: False)
        assert ask(home, {}) is None
