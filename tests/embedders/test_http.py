import subprocess
import sys
import threading
import time

import pytest

from resizable_search.embedders.http import (
    Endpoint,
    call_with_timeout,
    checked_url,
    message_in,
    retry_after,
    root_cause,
)
from resizable_search.errors import EmbedderError, ServiceError, UsageError

HUNG_REQUEST = """
import socket, threading, urllib.request
from resizable_search.embedders.http import call_with_timeout
from resizable_search.errors import ServiceError

deaf = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
try:
    call_with_timeout(lambda: urllib.request.build_opener().open(url), 0.3, url)
except ServiceError as error:
    print(error)
assert any(thread.name == "rsearch-timeout" for thread in threading.enumerate())
"""


def test_the_result_comes_back():
    assert call_with_timeout(lambda: "answer", 5) == "answer"


def test_an_error_comes_back_as_it_is():
    error = TimeoutError("the function's own")

    def fail():
        raise error

    with pytest.raises(TimeoutError) as caught:
        call_with_timeout(fail, 5)
    assert caught.value is error


def test_a_call_past_its_timeout_is_abandoned():
    done = threading.Event()
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"^http://there did not answer within 0\.1 s; try again later$"):
        call_with_timeout(done.wait, 0.1, "http://there")
    assert time.monotonic() - began < 2
    done.set()


def test_what_an_abandoned_call_raises_is_dropped(capfd):
    released = threading.Event()

    def fail_late():
        released.wait()
        raise RuntimeError("too late")

    with pytest.raises(ServiceError):
        call_with_timeout(fail_late, 0.05)
    released.set()
    for thread in threading.enumerate():
        if thread.name == "rsearch-timeout":
            thread.join(5)
    assert capfd.readouterr() == ("", "")


def test_exit_does_not_wait_for_a_hung_request():
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", HUNG_REQUEST], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "did not answer within 0.3 s" in run.stdout
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://LocalHost:11434/v1/", "http://localhost:11434/v1"),
        ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1"),
        (" http://[::1]:8080 ", "http://[::1]:8080"),
    ],
)
def test_addresses_have_one_form(given, expected):
    assert checked_url(given) == expected


@pytest.mark.parametrize(
    "given", ["localhost:11434", "here", "ftp://x/v1", "http://", "http://a b", "http://x:y"]
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(UsageError, match="is no address"):
        checked_url(given)


@pytest.mark.parametrize("given", ["http://me:S3cret@x/v1", "http://x/v1?key=S3cret", "http://x/#S3cret"])
def test_addresses_with_a_secret_are_refused_without_showing_it(given):
    with pytest.raises(UsageError, match="no user, password, query") as caught:
        checked_url(given)
    assert "S3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "odd"}}', "odd"),
        ('{"error": "odd"}', "odd"),
        ('{"detail": [{"msg": "odd"}]}', '[{"msg": "odd"}]'),
        ('{"object": "error", "message": "odd"}', "odd"),
        ("odd\nand \x1b[31mmore", "odd and [31mmore"),
        ("<html>x", ""),
        ('{"error": {"message": "<400> odd"}}', "<400> odd"),
        ("", ""),
    ],
)
def test_the_message_of_every_kind_of_server_is_read(body, words):
    assert message_in(body) == words


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_the_wait_that_a_server_asks_for_is_read(headers, seconds):
    assert retry_after(headers) == seconds


def test_an_address_that_only_the_client_knows_to_be_none():
    endpoint = Endpoint("http://\u2603\u2603.\u2603/v1", "A_KEY", "model", needs_key=False)
    with pytest.raises(EmbedderError, match="is no address, .*; check `base_url`") as caught:
        endpoint.post({}, 5.0)
    assert not isinstance(caught.value, ServiceError)


def test_a_cause_is_told_in_one_line_without_a_full_stop():
    error = OSError("outer")
    error.__cause__ = ValueError("Server disconnected\n  without an answer.")
    assert root_cause(error) == "Server disconnected without an answer"
    assert root_cause(ValueError("...")) == "ValueError"
