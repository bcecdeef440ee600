"""The Unix socket of a home: who may open it, and what is left of it."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from resizable_search.errors import StorageError
from resizable_search.service.server import local_socket
from resizable_search.store.layout import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "indexes")


def test_only_its_user_may_open_it_and_nothing_is_left_of_it(home: Home):
    before = os.umask(0)
    try:
        with local_socket(home):
            assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(home.socket.parent.iterdir()) == []


def test_a_home_has_one_socket_even_if_its_service_is_stopped(home: Home, monkeypatch):
    monkeypatch.setattr("resizable_search.service.server.BACKLOG", 0)
    monkeypatch.setattr("resizable_search.service.server.PROBE_SECONDS", 0.1)
    waiting = []
    with local_socket(home):
        for _ in range(4):  # nobody accepts: at last the queue is full
            with pytest.raises(StorageError, match="another one serves this home"), local_socket(home):
                pass
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(str(home.socket))
        assert home.socket.exists()
    for connection in waiting:
        connection.close()
    with local_socket(home):
        pass


def test_the_socket_of_a_dead_service_is_replaced(home: Home):
    home.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    with local_socket(home) as listening, socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(home.socket))
        listening.accept()[0].close()


def test_a_socket_that_another_service_has_put_there_is_left_alone(home: Home):
    with local_socket(home):
        home.socket.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(home.socket))
    assert home.socket.exists()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_place_where_no_socket_can_be_is_named(home: Home, what: str):
    home.path.mkdir()
    if what == "file":
        home.socket.parent.write_text("")
    else:
        (home.socket / "of an index").mkdir(parents=True)
    with pytest.raises(StorageError, match=str(home.path)), local_socket(home):
        pass


def test_many_clients_are_answered_at_once(home: Home):
    with local_socket(home) as listening:
        threads = [threading.Thread(target=_ask, args=(home,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for _ in threads:
            listening.accept()[0].close()
        for thread in threads:
            thread.join()


def _ask(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(home.socket))
