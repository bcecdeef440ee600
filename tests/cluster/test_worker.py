"""What runs in a worker, called without Ray: how it begins, scans its parts, and tells what went wrong."""

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resizable_search import __version__
from resizable_search.build.build import build
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.cluster.worker import EmbedWorker, ScanWorker, readable_parts
from resizable_search.embedders import registry
from resizable_search.engine import vectors
from resizable_search.errors import (
    ClusterError,
    CredentialsError,
    IndexFormatError,
    NoCredentialsError,
    RsearchError,
)
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from tests.servers.openai_api import KEY, OpenAIServer
from tests.support import ListCorpus, TableEmbedder, articles

QUERIES = np.random.default_rng(2).standard_normal((3, 96)).astype(np.float32)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Ray's store of objects, where a reference leads to a value; variables are put back afterwards."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda reference: reference()))
    for name in ("OPENAI_API_KEY", "NOMIC_API_KEY", "ATLAS_API_PATH"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def parted(tmp_path) -> Path:
    """An index of three parts, with deleted documents."""
    home = Home(tmp_path / "home")
    for limit in (40, 70, 75):
        options = BuildOptions("parted", limit, dims=(16,))
        build(ListCorpus(articles(75)), TableEmbedder(), home, options)
    delete(home.index("parted"), ["a3", "a50"])
    return home.index("parted")


@pytest.fixture
def scans():
    """Makes workers that scan, whose files are closed in the end."""
    made: list[tuple[ScanWorker, tuple[int, ...]]] = []

    def new(folder: Path, numbers=(0, 1, 2), generation: int | None = None) -> ScanWorker:
        generation = read_manifest(folder).generation if generation is None else generation
        made.append((ScanWorker(__version__, str(folder), generation, numbers, 1), numbers))
        return made[-1][0]

    yield new
    for worker, numbers in made:
        for number in numbers:
            with suppress(RsearchError):
                worker._opened(number)[0].close()


def best(results, query: int, k: int) -> list[tuple[int, float]]:
    """The k best of a query among the rows that each part found."""
    pairs = [
        (int(row), float(score))
        for result in results
        for row, score in zip(result.top.rows[query], result.top.scores[query], strict=True)
        if row >= 0
    ]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]


def embeds(**options) -> EmbedWorker:
    spec = registry.create("openai", "mine", options).spec
    return EmbedWorker(__version__, pickle.loads(pickle.dumps(spec.to_json())))


def test_a_node_with_another_version_says_so():
    with pytest.raises(
        ClusterError, match=rf"^\S+ has rsearch {__version__}, and the node that asks 9\.9: in"
    ):
        EmbedWorker("9.9", {})


def test_a_worker_without_a_key_names_its_host_and_every_remedy():
    worker = EmbedWorker(__version__, registry.create("nomic").spec.to_json())
    with pytest.raises(NoCredentialsError, match=r"^on \S+: no Nomic credentials") as caught:
        worker.ready([dict], check=True)
    error = pickle.loads(pickle.dumps(caught.value))  # as it reaches the node that asks
    assert error.message.startswith("on ")
    assert len(error.remedies) > 1
    assert all(remedy in str(error) for remedy in error.remedies)
    assert worker.ready([dict], check=False)[1] == os.getpid()  # a worker that was restarted asks nobody


def test_a_key_comes_by_reference_and_what_a_call_costs_goes_back():
    with OpenAIServer(keys=(KEY,)) as api:
        worker = embeds(base_url=api.base_url, width=96)
        worker.ready([lambda: {"OPENAI_API_KEY": KEY}], check=True)
        for texts, billed in ((["one"], 2), (["two", "three"], 1)):  # the first with the check before it
            rows, calls = worker.embed([dict], texts, "search_document")
            assert rows.tobytes() == api.vectors("mine", texts).tobytes()
            assert calls.count(("on_usage", (1,))) == billed


def test_a_wrong_key_is_refused_by_the_host_that_has_it():
    with OpenAIServer(keys=(KEY,)) as api:
        worker = embeds(base_url=api.base_url, width=96)
        with pytest.raises(CredentialsError, match=r"^on \S+: .*OPENAI_API_KEY"):
            worker.ready([lambda: {"OPENAI_API_KEY": "another"}], check=True)


def test_an_embedder_that_the_node_lacks_is_named():
    spec = TableEmbedder().spec.to_json()
    with pytest.raises(RsearchError, match=r"^on \S+: .*table"):
        EmbedWorker(__version__, spec).ready([dict], check=False)


@pytest.mark.parametrize("dim", [96, 16, 9])
def test_the_best_rows_of_all_parts_are_the_answer_of_one_machine(scans, parted, dim):
    worker = scans(parted)
    with open_index(parted, embedder=TableEmbedder()) as index:
        whole = index.scan(QUERIES, k=20, dim=dim)
    queries = vectors.truncate(QUERIES, dim)
    queries.flags.writeable = False  # as Ray gives them
    results = worker.scan(dim, queries, "exact", 20, None)
    assert [result.top.rows.shape for result in results] == [(3, 20), (3, 20), (3, 5)]
    rows = np.sort(np.concatenate([result.top.rows for result in results], axis=1), axis=1)
    rescored = worker.rescore(dim, queries, "exact", rows, 20)
    for query in range(3):
        expected = list(zip(whole.rows[query].tolist(), whole.scores[query].tolist(), strict=True))
        assert best(results, query, 20) == expected
        assert best(rescored, query, 20) == expected
    assert not {3, 50} & set(rows.ravel())


def test_masks_are_those_of_the_parts_of_this_worker(scans, parted):
    masks = [np.arange(5) == 2, np.arange(40) == 7]
    results = scans(parted, (2, 0)).scan(16, np.eye(1, 16, dtype=np.float32), "int8", 10, masks)
    assert [result.top.rows[result.top.rows >= 0].tolist() for result in results] == [[72], [7]]


def test_rows_of_other_workers_are_no_candidates(scans, parted):
    rows = np.array([[1, 2, 41, 73], [41, 42, 43, 44]])
    (result,) = scans(parted, (0,)).rescore(16, np.eye(2, 16, dtype=np.float32), "float32", rows, 4)
    assert [sorted(found) for found in result.top.rows.tolist()] == [[1, 2], [-1, -1]]


def test_a_part_that_cannot_be_read_is_told_and_the_others_are_scanned(scans, parted):
    (parted / "parts/2/16.npy").unlink()
    first, second, third = scans(parted).scan(16, np.eye(1, 16, dtype=np.float32), "exact", 2, None)
    assert isinstance(second, IndexFormatError)
    assert "16.npy" in str(second)
    assert "\n" not in str(second)
    assert (first.top.rows < 40).all()
    assert (third.top.rows >= 70).all()
    assert readable_parts(str(parted), read_manifest(parted).generation) == [1, 3]


def test_an_index_that_changed_or_is_not_here_is_told(scans, parted, tmp_path):
    query = np.eye(1, 16, dtype=np.float32)
    generation = read_manifest(parted).generation
    for result in scans(parted, generation=generation - 1).rescore(16, query, "exact", np.array([[1]]), 1):
        assert str(result) == f"{parted} has changed since it was opened: search again"
    (result,) = scans(tmp_path / "elsewhere", (0,), generation).scan(16, query, "exact", 1, None)
    assert isinstance(result, RsearchError)
    assert str(tmp_path / "elsewhere") in str(result)
    assert readable_parts(str(tmp_path / "elsewhere"), generation) == []
    assert readable_parts(str(parted), generation - 1) == []
