import subprocess
import sys
import threading
import time

import pytest

from resizable_search.embedders.http import call_with_timeout
from resizable_search.errors import ServiceError

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
