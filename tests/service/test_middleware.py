"""Who may ask, and how much: by the headers and bytes that a stranger, or a stranger's page, can send."""

import json
import socket
import threading
import time
from contextlib import nullcontext

import pytest

from resizable_search.errors import UsageError
from resizable_search.search.index import Index
from resizable_search.service import middleware as guard
from resizable_search.service import server
from resizable_search.service.middleware import AccessRules, is_loopback, origin_of
from tests.service.conftest import HttpAnswer, Running, running

TOKEN = "0123456789abcdef0123456789abcdef"


def raw(service: Running, text: bytes, wait: float = 10) -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=wait) as connection:
        connection.sendall(text)
        reply = b""
        while part := connection.recv(65536):
            reply += part
    return reply


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8765", "LOCALHOST:1", "[::1]:8765", "localhost."])
def test_the_names_of_loopback_are_the_services(served: Running, host: str):
    assert served.ask("GET", "/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.nip.io", "192.168.1.5", ""],
)
@pytest.mark.parametrize("path", ["/", "/api/indexes", "/page/docs.js", "/metrics"])
def test_a_page_that_points_its_name_here_is_refused(served: Running, host: str, path: str):
    answer = served.ask("GET", path, Host=host)
    assert answer.status == 421
    assert "--allow-host" in answer.error


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_page_of_another_origin_may_not_ask(served: Running, origin: str):
    answer = served.ask("POST", "/api/search", {"query": "tree"}, Origin=origin)
    assert (answer.status, "--cors" in answer.error) == (403, True)
    assert "access-control-allow-origin" not in answer.headers


def test_the_services_own_page_may_ask(served: Running):
    own = f"http://127.0.0.1:{served.port}"
    answer = served.ask("POST", "/api/search", {"query": "tree", "index": "made"}, Origin=own)
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_an_origin_that_is_allowed_is_told_so_and_no_other(made_once):
    rules = AccessRules.of("127.0.0.1", origins=["https://app.example"])
    with running(made_once, rules) as service:
        mine = service.ask(
            "POST", "/api/search", {"query": "tree", "index": "made"}, Origin="https://app.example"
        )
        assert (mine.status, mine.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "origin" in mine.headers["vary"].lower()
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
        before = service.ask("OPTIONS", "/api/search", None, Origin="https://app.example", **asked)
        assert (before.status, before.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "content-type" in before.headers["access-control-allow-headers"].lower()
        asked["Access_Control_Request_Headers"] = "authorization,content-type,mcp-protocol-version"
        assert service.ask("OPTIONS", "/mcp", None, Origin="https://app.example", **asked).status == 200
        assert service.ask("GET", "/api/indexes", Origin="https://other.example").status == 403
        assert service.ask("OPTIONS", "/api/search", Origin="https://other.example", **asked).status == 400


def test_every_answer_tells_the_browser_what_it_may_not_do(served: Running):
    for path in ("/", "/docs", "/api/indexes", "/page/docs.js", "/nothing", "/api/documents/made/9999"):
        headers = served.ask("GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert "unsafe-inline" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert served.ask("GET", "/api/indexes").headers["cache-control"] == "no-store"


def test_with_a_token_the_api_wants_it_and_the_page_does_not(made_once):
    with running(made_once, AccessRules.of("127.0.0.1", token=TOKEN)) as service:
        for path in ("/api/indexes", "/metrics", "/api/documents/made/1"):
            for header in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"):
                answer = service.ask("GET", path, **({"Authorization": header} if header else {}))
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in answer.error
            assert service.ask("GET", path, Authorization=f"Bearer {TOKEN}").status == 200
            assert service.ask("GET", path, Authorization=f"bearer  {TOKEN}").status == 200
        assert service.ask("POST", "/api/search", {"query": "tree", "index": "made"}).status == 401
        assert service.ask("GET", "/healthz").status == 200
        assert service.ask("GET", "/docs").status == 200


def test_a_service_for_other_machines_goes_by_addresses_and_its_own_names():
    rules = AccessRules.of("0.0.0.0", more=["Search.Example.Org:8443"], token=TOKEN)
    for host in (
        "192.168.1.5:8765",
        "[fe80::1]:8765",
        "search.example.org",
        "localhost",
        socket.gethostname(),
    ):
        assert rules.knows(host), host
    for host in ("evil.example", "1.2.3.4.evil.example", "", "[", "::::"):
        assert not rules.knows(host), host
    assert not AccessRules.of("127.0.0.1").knows("192.168.1.5")
    assert AccessRules.of("127.0.0.2").knows("127.0.0.2:80")


def test_a_large_body_is_refused_before_it_has_come(served: Running):
    size = guard.MOST_BYTES + 1
    head = f"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    reply = raw(served, head)
    assert b" 413 " in reply.splitlines()[0]


def test_a_large_body_in_pieces_of_no_told_length_is_refused(served: Running):
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    reply = raw(served, head + piece * 17)
    assert b" 413 " in reply.splitlines()[0]


def test_a_body_that_does_not_come_is_not_waited_for(served: Running, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    assert b" 408 " in raw(served, head).splitlines()[0]


def test_too_many_at_once_are_told_to_come_again(made_once, monkeypatch):
    monkeypatch.setattr(guard, "MOST_UNDER_WAY", 2)
    monkeypatch.setattr(guard, "BODY_SECONDS", 20)
    with running(made_once) as service:
        head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        waiting = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
        for connection in waiting:
            connection.sendall(head)
        until = time.monotonic() + 10
        while (answer := service.ask("GET", "/api/indexes")).status == 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert "2 requests are under way" in answer.error
        assert service.ask("GET", "/healthz").status == 200
        for connection in waiting:
            connection.close()
        until = time.monotonic() + 10
        while service.ask("GET", "/api/indexes").status != 200:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_client_that_goes_away_costs_nobody_an_answer(served: Running):
    body = json.dumps({"query": "tree", "index": "made"}).encode()
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def leave() -> None:
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(whole)

    threads = [threading.Thread(target=leave) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.search("tree").status == 200


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.5", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_no_other_machine_reaches(host: str, is_one: bool):
    assert is_loopback(host) == is_one


@pytest.mark.parametrize(
    ("text", "origin"),
    [("https://Example.org", "https://example.org"), ("http://a.b:81/", "http://a.b:81"), ("*", None),
     ("null", None), ("example.org", None), ("https://a.b/path", None), ("https://u@a.b", None),
     ("ftp://a.b", None), ("https://a.b?x", None)],
)  # fmt: skip
def test_an_origin_is_a_scheme_and_a_host(text: str, origin: str | None):
    with nullcontext() if origin else pytest.raises(UsageError, match="not an origin"):
        assert origin_of(text) == origin


def test_a_stop_that_has_waited_long_enough_says_so(made_once, monkeypatch):
    go_on, begun = threading.Event(), threading.Event()

    def slow(self, where):
        begun.set()
        assert go_on.wait(20)

    monkeypatch.setattr(Index, "select", slow)
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    answers: list[HttpAnswer] = []
    with running(made_once) as service:
        thread = threading.Thread(target=lambda: answers.append(service.search("tree", where="year > 0")))
        thread.start()
        assert begun.wait(20)
        service.server.should_exit = True
        thread.join(20)
    go_on.set()
    assert answers[0].status == 503
    assert "the service stops" in answers[0].error
