import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.engine.base import NO_ROW
from resizable_search.evaluate.bench import sample_queries
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.support import ListCorpus, TableEmbedder, articles, delete_rows


@pytest.fixture
def home(tmp_path):
    """An index of two parts: 60 and 35 rows."""
    for limit in (60, 95):
        build(
            ListCorpus(articles(95)), TableEmbedder(), Home(tmp_path), BuildOptions("made", limit, dims=(16,))
        )
    return tmp_path


def opened(home):
    return open_index("made", home=home, embedder=TableEmbedder())


def test_deleted_rows_are_never_found_and_the_others_keep_their_answers(home):
    query = np.random.default_rng(0).standard_normal((2, 96)).astype(np.float32)
    with opened(home) as index:
        before = index.scan(query, k=95, dim=16, rerank=1)
    gone = {0, 7, 59, 60, 94}
    delete_rows(home / "made", [0, 7, 59])
    manifest = delete_rows(home / "made", [60, 94, 7])
    assert (manifest.rows, manifest.documents, manifest.generation) == (95, 90, 4)
    with opened(home) as index:
        assert index.rows == 90
        after = index.scan(query, k=95, dim=16, rerank=1)
        for i in range(2):
            live = [row for row in before.rows[i].tolist() if row not in gone]
            assert after.rows[i].tolist() == live + [NO_ROW] * 5
        sampled = sample_queries(index, 95).own_rows
        assert sampled.tolist() == [row for row in range(95) if row not in gone]


def test_a_reader_keeps_its_generation_while_rows_are_deleted(home):
    query = np.ones((1, 96), np.float32)
    with opened(home) as index:
        before = index.scan(query, k=5)
        delete_rows(home / "made", before.rows[0].tolist())
        np.testing.assert_array_equal(index.scan(query, k=5).rows, before.rows)
    with opened(home) as index:
        assert not set(index.scan(query, k=5).rows[0]) & set(before.rows[0])


def test_only_the_bitmaps_in_use_are_kept(home):
    delete_rows(home / "made", [1])
    delete_rows(home / "made", [2])
    assert [path.name for path in (home / "made").glob("deleted*")] == ["deleted.4.npy"]
    assert not list((home / "made/parts").rglob("deleted*"))
