"""The cache of query vectors: bounded, safe for threads, and never a reason why a query fails."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from resizable_search.search import query_embedder
from resizable_search.search.query_embedder import QueryCache, query_cache

WIDTH = 8


def vector(number: int) -> np.ndarray:
    return np.full(WIDTH, number, np.float32)


def numbers(cache: QueryCache, count: int) -> list[int]:
    """Which texts of `0`, `1` and so on have a vector."""
    found = {i: cache.get("f", str(i), WIDTH) for i in range(count)}
    assert all(row is None or (row == vector(i)).all() for i, row in found.items())
    return [i for i, row in found.items() if row is not None]


def test_the_oldest_vectors_go(tmp_path, monkeypatch):
    monkeypatch.setattr(query_embedder, "MOST_BYTES", 40_000)
    cache = QueryCache(tmp_path / "state" / "queries.sqlite")
    for i in range(1_000):
        cache.put("f", {str(i): vector(i)})
    left = numbers(cache, 1_000)
    assert left == list(range(left[0], 1_000))
    assert 5 <= len(left) < 400
    assert (tmp_path / "state" / "queries.sqlite").stat().st_size < 80_000


def test_a_file_of_an_earlier_version_is_begun_again(tmp_path):
    path = tmp_path / "queries.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE queries (fingerprint TEXT, text_sha256 BLOB, vector BLOB)")
    cache = QueryCache(path)
    assert numbers(cache, 1) == []
    cache.put("f", {"0": vector(0)})
    assert numbers(cache, 1) == [0]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall() == [("vectors",)]


def test_a_file_that_is_gone_or_replaced_is_opened_again(tmp_path):
    path = tmp_path / "queries.sqlite"
    cache = QueryCache(path)
    cache.put("f", {"1": vector(1)})
    path.unlink()
    assert numbers(cache, 3) == []
    cache.put("f", {"2": vector(2)})
    assert numbers(cache, 3) == numbers(QueryCache(path), 3) == [2]


def test_a_damaged_file_and_a_missing_folder_fail_nothing(tmp_path):
    path = tmp_path / "queries.sqlite"
    path.write_bytes(b"no database " * 1000)
    (tmp_path / "file").touch()
    for place in (path, tmp_path / "file" / "queries.sqlite"):
        cache = QueryCache(place)
        cache.put("f", {"1": vector(1)})
        assert numbers(cache, 3) == []


def test_threads_share_one_cache_of_a_process(tmp_path):
    path = tmp_path / "queries.sqlite"
    cache = query_cache(path)
    assert query_cache(path) is cache
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: query_cache(path).put("f", {str(i): vector(i)}), range(64)))
        assert list(pool.map(lambda i: cache.get("f", str(i), WIDTH)[0], range(64))) == list(range(64))
