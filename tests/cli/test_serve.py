"""`rsearch serve`: where it listens, whom it lets ask, and how it stops."""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.cli.conftest import Inside, Machine, Ran, errs
from tests.service.conftest import built

TOKEN = "a-token-of-32-characters-or-more"


@dataclass
class Started:
    """A service that runs."""

    machine: Machine
    process: "subprocess.Popen[str]"
    greeting: str

    @property
    def port(self) -> int:
        match = re.search(r"http://[^ ]*:(\d+)", self.greeting)
        assert match, self.greeting
        return int(match[1])

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        answered = answer.status, json.loads(answer.read())
        connection.close()
        return answered

    def is_reading(self) -> bool:
        """Whether a request is under way besides the one for this answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read()
        connection.close()
        return b"rsearch_requests_under_way 2.0" in metrics

    def stop(self, number: int = signal.SIGTERM) -> Ran:
        self.process.send_signal(number)
        return self.machine.end(self.process)


@contextmanager
def serving(machine: Machine, *args: object, **env: str) -> Iterator[Started]:
    """The command, from its first line on stderr on."""
    process = machine.start("serve", "--port", 0, *args, **env)
    try:
        assert process.stderr is not None
        yield Started(machine, process, process.stderr.readline())
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_serves_the_home_until_it_is_stopped(machine: Machine):
    built(machine.home)
    with serving(machine) as service:
        assert re.fullmatch(
            r"rsearch: serving [^ ]+ at http://127\.0\.0\.1:\d+ \(Ctrl-C stops\)\n", service.greeting
        )
        status, content = service.ask("POST", "/api/search", {"query": "tree leaf", "dim": 8, "rerank": 2})
        assert (status, content["index"], len(content["hits"])) == (200, "made", 10)
        ran = service.stop()
    assert (ran.code, ran.out, ran.err) == (0, "", "rsearch: stopped\n")


def test_open_opens_the_page_in_the_browser(machine: Machine, tmp_path):
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    with serving(machine, "--open", BROWSER=str(browser)) as service:
        while not opened.exists():
            time.sleep(0.01)
        assert opened.read_text() == f"http://127.0.0.1:{service.port}"
        assert service.stop().err == "rsearch: stopped\n"


def test_ctrl_c_ends_it_as_it_ends_every_command(machine: Machine):
    with serving(machine) as service:
        assert "no index yet" in service.greeting
        ran = service.stop(signal.SIGINT)
    assert (ran.code, ran.err) == (130, "rsearch: stopped\n")


def test_a_stop_lets_what_is_under_way_be_answered(machine: Machine):
    built(machine.home)
    with serving(machine) as service:
        service.ask("GET", "/api/indexes")
        body = json.dumps({"query": "tree leaf"}).encode()
        head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        while not service.is_reading():
            time.sleep(0.01)
        stopped: list[Ran] = []
        thread = threading.Thread(target=lambda: stopped.append(service.stop()))
        thread.start()
        time.sleep(0.3)
        connection.sendall(body[5:])
        answer = connection.makefile("rb").readline()
        thread.join()
        connection.close()
    assert b" 200 " in answer
    assert (stopped[0].code, stopped[0].err) == (0, "rsearch: stopped\n")


def test_another_address_wants_allow_remote_and_a_token(inside: Inside, monkeypatch):
    monkeypatch.delenv("RSEARCH_TOKEN", raising=False)
    errs(inside.run("serve", "--host", "0.0.0.0"), 2, "--allow-remote", "token")
    errs(inside.run("serve", "--host", "0.0.0.0", "--allow-remote"), 2, "$RSEARCH_TOKEN", "--token-file")
    inside.setenv("RSEARCH_TOKEN", TOKEN)
    errs(inside.run("serve", "--host", "0.0.0.0"), 2, "--allow-remote")


@pytest.mark.parametrize("token", ["short", "has a\nline break in it", "ü" * 20, ""])
def test_a_token_that_is_none_is_refused_without_being_told(inside: Inside, token: str, tmp_path):
    file = tmp_path / "token"
    file.write_text(token)
    ran = inside.run("serve", "--token-file", str(file))
    errs(ran, 2, "16 or more printable ASCII characters")
    assert not token or token.splitlines()[0] not in ran.err


def test_a_blank_token_is_refused_and_an_empty_variable_is_none(inside: Inside, monkeypatch):
    inside.setenv("RSEARCH_TOKEN", "   ")
    errs(inside.run("serve"), 2, "$RSEARCH_TOKEN", "16 or more")
    inside.setenv("RSEARCH_TOKEN", "")
    errs(inside.run("serve", "--index", "nope"), 1, "no index")


@pytest.mark.parametrize("host", ["https://a.example", "a.example/b", "*"])
def test_allow_host_takes_names_alone(inside: Inside, host: str):
    errs(inside.run("serve", "--allow-host", host), 2, "--allow-host", "search.example.org")


def test_a_second_ctrl_c_ends_it_at_once_without_a_traceback(machine: Machine):
    built(machine.home)
    with serving(machine) as service, socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        while not service.is_reading():
            time.sleep(0.01)
        service.process.send_signal(signal.SIGINT)
        while _is_open(service.port):
            time.sleep(0.01)
        ran = service.stop(signal.SIGINT)
    assert (ran.code, ran.err) == (130, "rsearch: stopped\n")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_token_file_that_cannot_be_read_is_named(inside: Inside, tmp_path):
    errs(inside.run("serve", "--token-file", str(tmp_path / "nope")), 1, "nope", "token file")


def test_with_a_token_it_serves_other_machines_and_tells_it_to_nobody(machine: Machine):
    built(machine.home, count=20)
    token = machine.folder / "token"
    token.write_text(f"{TOKEN}\n")
    with serving(machine, "--host", "0.0.0.0", "--allow-remote", "--token-file", token) as service:
        assert service.ask("GET", "/api/indexes")[0] == 401
        assert service.ask("GET", "/api/indexes", Authorization=f"Bearer {TOKEN}")[0] == 200
        ran = service.stop()
    assert TOKEN not in service.greeting + ran.err
    assert " at http://127.0.0.1:" in service.greeting
    assert " and all addresses of this machine (" in service.greeting


def test_a_port_that_is_taken_is_told(inside: Inside):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        errs(inside.run("serve", "--port", port), 1, f"127.0.0.1 port {port}", "--port")


def test_an_address_that_is_none_is_told(inside: Inside, monkeypatch):
    inside.setenv("RSEARCH_TOKEN", TOKEN)
    errs(inside.run("serve", "--host", "256.1.1.1", "--allow-remote"), 2, "--host 256.1.1.1")


def test_an_index_that_there_is_not_is_told_at_once(inside: Inside):
    errs(inside.run("serve", "--index", "nope"), 1, "no index")


@pytest.mark.parametrize("origin", ["*", "example.org", "https://a.b/c"])
def test_cors_takes_origins_alone(inside: Inside, origin: str):
    errs(inside.run("serve", "--cors", origin), 2, "--cors", "https://example.org")


def test_without_the_extra_it_says_what_to_install(machine: Machine, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')\n")
    errs(
        machine.run("serve", PYTHONPATH=os.fspath(hidden)),
        1,
        "uvicorn",
        "pip install ",
        "[serve]",
    )


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_whoever_starts_mcp_by_hand_is_told_who_speaks_to_it(inside: Inside, monkeypatch, is_terminal: bool):
    monkeypatch.setattr("resizable_search.service.mcp.run_stdio", lambda pool: 0)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: is_terminal)
    ran = inside.run("mcp")
    waiting = "rsearch: waiting for an assistant on stdin: see `rsearch mcp --help` (Ctrl-C stops)\n"
    assert (ran.code, ran.out, ran.err) == (0, "", waiting if is_terminal else "")
    monkeypatch.setattr("sys.stdin", None)  # as `<&-` leaves it
    errs(inside.run("mcp"), 1, "stdin is closed: let an assistant's program start this command")
