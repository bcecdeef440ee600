"""Builds and searches on a real cluster: the same index and the same answers, whatever dies meanwhile.

One test, so that one process starts one cluster.
"""

import os
import re
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.delete import delete
from resizable_search.build.report import BuildReport
from resizable_search.build.workspace import BuildOptions
from resizable_search.cluster import connection
from resizable_search.cluster import embedder as spreading
from resizable_search.cluster.connection import RayOptions, connected
from resizable_search.cluster.embedder import RayEmbedder, on_cluster
from resizable_search.cluster.search import RayEngines, nodes_of
from resizable_search.corpora.base import Document
from resizable_search.embedders import registry, request_pool
from resizable_search.embedders.base import Embedder
from resizable_search.errors import BuildStoppedError, ClusterError, NoCredentialsError, ServiceError
from resizable_search.search.index import Index, open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.store.layout import Home
from tests.build.changes.conftest import contents
from tests.servers.nomic_api import KEY, NomicServer
from tests.support import ListCorpus, articles

ray = pytest.importorskip("ray", reason='not installed: pip install ".[ray]"')

DOCUMENTS = articles(300)


@dataclass
class Story:
    """A cluster, and a home of indexes."""

    cluster: Any
    home: Home

    def build(self, name: str, embedder: Embedder, documents=DOCUMENTS, stop=None) -> BuildReport:
        options = BuildOptions(name, dims=(16,))
        return build(ListCorpus(documents), embedder, self.home, options, stop=stop)

    def on(self, embedder: Embedder, workers: int = 1, stop=None):
        return on_cluster(embedder, RayOptions(self.cluster.address, workers), stop)

    def build_on(self, name: str, embedder: Embedder, workers: int = 1, **options) -> BuildReport:
        with self.on(embedder, workers) as spread:
            return self.build(name, spread, **options)

    def vectors(self, name: str) -> bytes:
        return (self.home.index(name) / "32.npy").read_bytes()


def deadly(**options: Any) -> Embedder:
    return registry.create("deadly", options.pop("model", None), {"poison": "killer", **options})


@pytest.mark.filterwarnings("default")
def test_a_cluster_makes_the_same_index_whatever_dies(cluster, tmp_path: Path, monkeypatch):
    story = Story(cluster, Home(tmp_path / "home"))
    story.build("plain", deadly())
    monkeypatch.setattr(spreading, "STARTS", 1)  # each death takes some seconds
    with connected(RayOptions(cluster.address)):
        workers_die(story)
        a_worker_gives_no_sign_of_life(story, monkeypatch)
        a_text_kills_its_worker(story, monkeypatch)
        a_build_is_stopped_and_resumed(story)
        a_key_reaches_the_workers_and_no_log(story, monkeypatch)
        a_search_on_actors_is_the_search_of_one_machine(story)
        with monkeypatch.context() as patch:
            what_no_node_has_room_for_is_told(story, patch)
        what_cannot_work_is_told(story, monkeypatch)


def workers_die(story: Story) -> None:
    with story.on(deadly(seconds=100), 3) as embedder:
        assert isinstance(embedder, RayEmbedder)
        embedder.check()
        ended = threading.Event()

        def kill() -> None:
            while not ended.wait(0.3) and embedder.lost < 2:
                for worker in [one for one in embedder._workers if one.is_ready][:1]:
                    with suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        report = story.build("killed", embedder)
        ended.set()
        thread.join()
        assert embedder.lost >= 1
        assert re.search(r"texts by worker [\d ]+.* \d lost", embedder.status())
    assert report.left_out == []
    assert story.vectors("killed") == story.vectors("plain")
    story.build_on("killed", deadly())  # complete: no cluster is needed


def a_worker_gives_no_sign_of_life(story: Story, monkeypatch) -> None:
    real, silent = spreading.without_sign, iter([True])
    with monkeypatch.context() as patch, story.on(deadly(), 2) as embedder:
        patch.setattr(
            spreading, "without_sign", lambda ray, calls: calls if next(silent, False) else real(ray, calls)
        )
        assert story.build("silent", embedder).left_out == []
        assert embedder.lost == 1
    assert story.vectors("silent") == story.vectors("plain")


def a_text_kills_its_worker(story: Story, monkeypatch) -> None:
    monkeypatch.setattr(request_pool, "TRIES", 2)
    monkeypatch.setattr(request_pool, "FIRST_PAUSE", 0.01)
    bad = Document("bad", "", "", "a killer")
    report = story.build_on("poisoned", deadly(), 2, documents=[*DOCUMENTS[:100], bad, *DOCUMENTS[100:]])
    assert [entry["id"] for entry in report.left_out] == ["bad"]
    assert re.match(r"a worker on \S+ died, but embeds other texts", report.left_out[0]["reason"])
    assert story.vectors("poisoned") == story.vectors("plain")
    with pytest.raises(ServiceError, match=r"a worker on \S+ died; look at Ray's logs"):
        story.build_on("hopeless", registry.create("deadly", None, {"poison": "e"}), documents=DOCUMENTS[:1])


def a_build_is_stopped_and_resumed(story: Story) -> None:
    stop = threading.Event()
    slow = deadly(seconds=50)
    with story.on(slow, 1, stop) as embedder:
        embedder.check()
        threading.Timer(0.4, stop.set).start()
        with pytest.raises(BuildStoppedError, match="same command resumes"):
            story.build("stopped", embedder, stop=stop)
    story.build("stopped", deadly())
    without = ("embedder",)
    assert contents(story.home.index("stopped"), without) == contents(story.home.index("plain"), without)


def a_key_reaches_the_workers_and_no_log(story: Story, monkeypatch) -> None:
    with NomicServer() as api:
        monkeypatch.setenv("ATLAS_API_PATH", api.url)
        monkeypatch.setenv("NOMIC_API_KEY", "")
        with pytest.raises(NoCredentialsError, match=r"on \S+: no Nomic credentials"):
            story.build_on("hosted", registry.create("nomic"))
        monkeypatch.setenv("NOMIC_API_KEY", KEY)
        report = story.build_on("hosted", registry.create("nomic"), documents=DOCUMENTS[:100])
    assert (report.added, report.spent.requests) == (100, 10)
    for path in Path(story.cluster.head_node.get_session_dir_path()).rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def what_cannot_work_is_told(story: Story, monkeypatch) -> None:
    with pytest.raises(ClusterError, match="they die before they are ready"):
        story.build_on("none", deadly(model="stillborn"))
    with pytest.raises(ClusterError, match=r"a worker on \S+ failed: ValueError: an odd text"):
        story.build_on("odd", deadly(), documents=[Document("odd", "", "", "odd")])
    monkeypatch.setattr(spreading, "__version__", "9.9")
    with pytest.raises(ClusterError, match=r"has rsearch .*, and the node that asks 9.9: install the same"):
        story.build_on("none", deadly())


def a_search_on_actors_is_the_search_of_one_machine(story: Story) -> None:
    for limit in (90, 160, 210, 300):
        options = BuildOptions("parted", limit, dims=(16,))
        build(ListCorpus(DOCUMENTS), deadly(), story.home, options)
    folder = story.home.index("parted")
    delete(folder, ["a3", "a100", "a299"])
    cluster = RayOptions(story.cluster.address, 2)
    may_lack = RayEngines(cluster, partial=True)
    with (
        open_index(folder, embedder=deadly()) as alone,
        open_index(folder, embedder=deadly(), engine=RayEngines(cluster)) as spread,
        open_index(folder, embedder=deadly(), engine=may_lack) as partial,
    ):
        same_answers(alone, spread)
        all_parts = [parts for _, parts in nodes_of(cluster, folder, alone.manifest.generation)]
        assert all_parts == [[1, 2, 3, 4]] * 3
        assert alone.similar("a7", 5) == spread.similar("a7", 5) == partial.similar("a7", 5)
        engines = [index._chooser.pick(0) for index in (spread, partial)]
        first = engines[0]._actors[0]
        kill(first)
        same_answers(alone, spread, plans=("16:50,32",))
        assert engines[0]._actors[0] is first
        ray.kill(first)  # which Ray does not restart
        with suppress(ray.exceptions.RayActorError):
            while True:
                ray.get(first.sign.remote())
        with pytest.raises(ClusterError, match="its actor died 2 times"):
            spread.scan(np.ones((2, 32), np.float32))
        same_answers(alone, spread, plans=("16:50,32",))
        assert engines[0]._actors[0] is not first
        (folder / "parts/2/32.npy").rename(folder / "parts/2/gone.npy")
        for engine in engines:
            for actor in engine._actors:
                kill(actor)
        queries = np.ones((2, 32), np.float32)
        with pytest.raises(ClusterError, match=r"parted: .*part 2.* cannot be scanned: .*32.npy.*`partial`"):
            spread.scan(queries)
        top = partial.scan(queries, 300, plan="16:300,32")
        assert np.count_nonzero(top.rows[0] >= 0) == 297 - 69
        (missing,) = top.missing
        assert re.match(r"part 2 cannot be scanned: .*32.npy", missing)


def kill(actor: Any) -> None:
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


def what_no_node_has_room_for_is_told(story: Story, monkeypatch) -> None:
    for module, name in ((connection, "ASK_SECONDS"), (connection, "PATIENCE"), (spreading, "NOTE_SECONDS")):
        monkeypatch.setattr(module, name, 0.2)
    folder, cluster = story.home.index("plain"), RayOptions(story.cluster.address, 1, resources={"moon": 1})
    assert [parts for _, parts in nodes_of(RayOptions(story.cluster.address), folder, 99)] == [[], [], []]
    queries = np.ones((1, 32), np.float32)
    for is_partial in (False, True):
        engines = RayEngines(cluster, partial=is_partial)
        with open_index(folder, embedder=deadly(), engine=engines) as index:
            if not is_partial:
                with pytest.raises(ClusterError, match=r"part 1 cannot be scanned: .* no sign of life"):
                    index.scan(queries)
            else:
                assert (index.scan(queries).rows == -1).all()
                assert "no sign of life" in index.search(["a"], SearchOptions())[0].missing[0]
        engines.close()
    notes: list[str] = []
    with on_cluster(deadly(), cluster, stop := threading.Event()) as embedder:
        embedder.on_note = lambda note: (notes.append(note), stop.set())
        with pytest.raises(KeyboardInterrupt):
            embedder.check()
    assert "no worker is ready" in notes[0]


def same_answers(
    alone: Index, spread: Index, plans=("32", "16:50,32", "9:int8:40,32", "32:1bit:100,32:int8:30,32:float32")
) -> None:
    queries = np.random.default_rng(1).standard_normal((5, 32)).astype(np.float32)
    for plan in plans:
        for where in (None, "id GLOB '*7*'", "id = 'a5'", "id != 'a5'"):
            for k in (1, 10, 400):
                how = {"k": k, "where": where, "plan": plan if k < 30 else None}
                one, other = (index.scan(queries, **how) for index in (alone, spread))
                assert one.rows.tobytes() == other.rows.tobytes(), how
                assert one.scores.tobytes() == other.scores.tobytes(), how
