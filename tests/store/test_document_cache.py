"""Documents that are kept in memory are those asked for last, and no more than there is room for."""

import numpy as np

from resizable_search.store.documents import DocumentCache, StoredDocument
from resizable_search.store.reader import PartReader
from tests.support import index_of


def document(row: int, characters: int = 10) -> StoredDocument:
    return StoredDocument(row, f"d{row}", "", "", {}, "x" * characters)


def test_those_that_nobody_has_asked_for_longest_make_room():
    cache = DocumentCache(30)
    cache.put([document(0), document(1), document(2)])
    assert set(cache.take([0])) == {0}
    cache.put([document(3)])
    assert cache.take(range(5)) == {row: document(row) for row in (0, 2, 3)}


def test_a_document_is_counted_once_and_one_too_large_is_not_kept():
    cache = DocumentCache(30)
    for _ in range(9):
        cache.put([document(0), document(1), document(2)])
    assert set(cache.take(range(3))) == {0, 1, 2}
    cache.put([document(4, 31)])
    assert 4 not in cache.take([4])
    cache.put([document(5)])
    assert set(cache.take([5])) == {5}


def test_an_index_that_keeps_documents_reads_each_once_and_gives_the_same(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    read, asked = PartReader.documents, []
    monkeypatch.setattr(PartReader, "documents", lambda self, some: asked.extend(some) or read(self, some))
    with index_of(rows, tmp_path) as index:
        plain = index.documents([3, 1, 3, 40])
        index.cache_documents(10_000)
        asked.clear()
        assert index.documents([3, 1, 3, 40]) == index.documents([3, 1, 3, 40]) == plain
        assert sorted(set(asked)) == [1, 3, 40]
        before = len(asked)
        assert [d.row for d in index.documents([40, 2])] == [40, 2]
        assert asked[before:] == [2]
