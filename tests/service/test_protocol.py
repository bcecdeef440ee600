"""Connections of hostile and idle clients: none stays, none shuts others out, no headers fill the memory."""

import socket
import threading
from contextlib import ExitStack, contextmanager

import pytest

from resizable_search.search.index import Index
from resizable_search.service import protocol
from tests.service.conftest import Running, running

SEARCH = b'{"index": "made", "query": "storm"}'
HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(SEARCH), SEARCH)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

SLOW_CHECK = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"


@contextmanager
def connected(service: Running, sent: bytes = b""):
    """A connection that has sent something."""
    with socket.create_connection(("127.0.0.1", service.port), 20) as connection:
        connection.sendall(sent)
        yield connection


def closed(connection: socket.socket) -> bytes:
    """What a connection gives until it is closed; a test waits for 20 s."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET /heal", b""),
        (HEAD, b""),
        (HEALTH + b"GET /heal", b"200"),
        (HEALTH.replace(b"Host", b"Content-Length: 9\r\nHost") + b"x", b"200"),
    ],
)
def test_a_connection_without_a_whole_request_is_closed(made_once, monkeypatch, sent, status):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    with running(made_once) as service, connected(service) as connection:
        service.server.config.timeout_keep_alive = 60
        connection.sendall(sent[:-1])
        answer = connection.recv(1 << 16) if status else b""
        connection.sendall(sent[-1:])  # the first byte after an answer ends the time of `keep alive`
        assert (answer + closed(connection))[9:12] == status


def test_a_request_has_its_time_however_long_the_answer_takes(made_once, monkeypatch):
    embed, go_on = Index.embed_queries, threading.Event()
    late = threading.Timer(2.0, go_on.set)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(Index, "embed_queries", lambda self, texts: go_on.wait(20) and embed(self, texts))
    with running(made_once) as service, connected(service, WHOLE) as connection:
        late.start()
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [1, 40])
def test_long_headers_are_refused(served: Running, pieces):
    header = b"X-Long: " + b"x" * (100_000 if pieces == 1 else 10_000_000)
    with connected(served, b"GET / HTTP/1.1\r\n") as connection:
        answer = b""
        try:
            for i in range(pieces):
                step = len(header) // pieces
                connection.sendall(header[i * step : (i + 1) * step])
            connection.sendall(b"\r\n\r\n")
        except OSError:  # it has closed the connection
            pass
        answer = closed(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")  # lost with the connection, or read
    assert served.ask("GET", "/healthz").status == 200
    assert served.ask("GET", "/healthz", X_Long="x" * 60_000).status == 200
    assert served.ask("GET", "/healthz", X_Long="x" * 70_000).status == 431
    long = served.ask("GET", f"/api/v1/search?q={'x' * 70_000}")
    assert (long.status, long.json["error"]["code"]) == (431, "headers_too_large")


def test_idle_connections_shut_nobody_out(made_once, monkeypatch):
    monkeypatch.setattr(protocol.resource, "getrlimit", lambda what: (20, 20))
    with running(made_once) as service, ExitStack() as stack:
        idle = [stack.enter_context(connected(service, b"GET /")) for _ in range(30)]
        assert service.search("storm").status == 200
        assert [closed(connection) for connection in idle[:20]] == [b""] * 20


def test_health_checks_are_answered_though_every_connection_waits_for_an_answer(made_once, monkeypatch):
    embed, go_on, begun = Index.embed_queries, threading.Event(), threading.Event()

    def watched(self, texts):
        begun.set()
        assert go_on.wait(20)
        return embed(self, texts)

    monkeypatch.setattr(Index, "embed_queries", watched)
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 1)
    monkeypatch.setattr(protocol, "SPARE_CONNECTIONS", 1)
    with running(made_once) as service, connected(service, WHOLE) as busy:
        assert begun.wait(20)
        assert service.ask("GET", "/healthz").status == 200
        refused = service.search("storm")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.error == "too many connections are open: try again in a second"
        with connected(service, SLOW_CHECK) as spare:
            assert spare.recv(1 << 16).startswith(b"HTTP/1.1 100")
            with connected(service, HEALTH) as third:
                assert closed(third) == b""
        go_on.set()
        assert busy.recv(1 << 16).startswith(b"HTTP/1.1 200")
