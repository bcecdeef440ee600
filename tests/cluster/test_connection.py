"""Clusters that are not there, and options that make no sense."""

import pickle
import re
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from resizable_search.cluster import connection
from resizable_search.cluster.connection import RayOptions, connected
from resizable_search.cluster.embedder import on_cluster
from resizable_search.embedders.http import TooLongError
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.errors import ClusterError, NoCredentialsError, RsearchError, ServiceError, UsageError


@contextmanager
def listening(answer: bytes | None):
    """An address where something that is no Ray answers so, or never (None)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.recv(100)
                if answer is None:
                    time.sleep(1)
                else:
                    accepted.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def ray():
    return pytest.importorskip("ray")


def test_an_address_without_a_cluster_is_told_in_seconds(ray, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    for address in (closed, "127.0.0.1:99999", "no-such-host.invalid:6379"):
        with (
            pytest.raises(ClusterError, match=f"no Ray cluster answers at {address} "),
            connected(RayOptions(address)),
        ):
            pass
    for answer, words in ((b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no Ray cluster"), (None, "timed out")):
        with listening(answer) as address, pytest.raises(ClusterError, match=words):
            connected(RayOptions(address)).__enter__()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("none")))
    with (
        pytest.raises(ClusterError, match="no Ray cluster runs on this machine"),
        connected(RayOptions("auto")),
    ):
        pass
    mismatch = RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.1\n  Python: 3.9")
    monkeypatch.setattr(ray, "init", lambda *_, **__: (_ for _ in ()).throw(mismatch))
    with (
        pytest.raises(ClusterError, match=r"Ray: 2.1 Python: 3.9; install the same"),
        connected(RayOptions("auto")),
    ):
        pass


def test_a_local_cluster_that_does_not_start_is_told_with_where_to_look(ray, monkeypatch):
    begun = {}

    def init(address, **options):
        begun.update(options)
        raise RuntimeError("The node failed to start:\n  no space in /dev/shm")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_worker_niceness", "7")
    problem = (
        "cannot join the Ray cluster at local: The node failed to start: no space in /dev/shm; look at its"
    )
    with pytest.raises(ClusterError, match=f"^{problem}"), connected(RayOptions("local", 64)):
        pass
    assert (begun["include_dashboard"], begun["num_cpus"] >= 64) == (False, True)


def test_without_ray_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(RsearchError, match=r"ray cannot be imported .*\[ray\]"),
        connected(RayOptions("local")),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "ray://head:10001"}, "takes no address of a Ray client"),
        ({"address": "head"}, "`ray` must be local, auto or HOST:PORT, not head"),
        ({"address": "local", "workers": 0}, "`workers` must be 1 to 1000, not 0"),
        ({"address": "local", "gpus": -1.0}, "`gpus_per_worker` must be 0 or more"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        RayOptions(**options)


def test_a_fitted_embedder_stays_here():
    with pytest.raises(UsageError, match="lsa is fitted"), on_cluster(LsaEmbedder(), RayOptions("local")):
        pass
    lsa = LsaEmbedder()
    with on_cluster(lsa, None) as same:
        assert same is lsa


def test_calls_without_a_sign_of_life_are_found(monkeypatch):
    """Three actors: one answers, one is slow but alive, one is dead."""
    monkeypatch.setattr(connection, "ASK_SECONDS", 0)

    class Actor:
        def __init__(self, name: str) -> None:
            self.name, self.asked = name, 0

        sign = property(lambda self: self)

        def options(self, concurrency_group: str) -> "Actor":
            return self

        def remote(self) -> str:
            self.asked += 1
            return f"sign of {self.name}"

    class Ray:
        waits = 0

        def wait(self, refs, *, num_returns, timeout, fetch_local=True):
            assert fetch_local != refs[0].startswith(
                "sign"
            )  # an answer must be here, not on a node that dies
            self.waits += 1
            late = [ref for ref in refs if "dead" in ref or (ref == "slow" and self.waits < 4)]
            return [ref for ref in refs if ref not in late], late

    actors = {name: Actor(name) for name in ("quick", "slow", "dead")}
    assert connection.without_sign(Ray(), actors) == {"dead"}
    assert [actor.asked for actor in actors.values()] == [0, 2, 1]


@pytest.mark.parametrize(
    "error",
    [
        TooLongError("too long", "8192 tokens, however you requested 10031"),
        NoCredentialsError("no key", "set one", "choose another embedder"),
        ServiceError("busy", retry_after=3.0, status=503),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_process_is_what_it_was(error):
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("creation task\nModuleNotFoundError: No module named 'x'", "ModuleNotFoundError.*; install resiz"),
        ("creation task\nresizable_search.errors.ClusterError: another", "^another$"),
        ("creation task\nTypeError: takes 2", r"^TypeError: takes 2; install resizable_search \S+ on every"),
        ("The actor died", r"they die before they are ready \(The actor died\): look at"),
    ],
)
def test_why_a_worker_does_not_start_is_one_line(words, problem):
    assert re.search(problem, connection.start_problem(RuntimeError(words)))
