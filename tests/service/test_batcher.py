"""The batcher: what waits together is scanned together, and each gets its own answer."""

import dataclasses
import queue
import threading

import numpy as np
import pytest

from resizable_search.errors import UsageError
from resizable_search.search.index import Index
from resizable_search.search.options import SearchOptions
from resizable_search.service.batcher import MOST_TOGETHER, Batcher, MovedError, PendingQuery
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.layout import Home

TEXTS = ["tree leaf", "storm rain", "queue heap", "sand rock", "hash table"]


@pytest.fixture
def pool(made_once):
    found = IndexPool(Home(made_once), threads=1, engine="numpy")
    yield found
    found.close()


def queries(
    pool: IndexPool, searches: list[SearchOptions], count: int, fingerprint: str | None = None
) -> list[PendingQuery]:
    with pool.lend("made") as index:
        made = dict(zip(TEXTS, index.embed_queries(TEXTS), strict=True))
        by = fingerprint or index.fingerprint
        selected = {search: (index, index.select(search.where)) for search in searches if search.where}
    found = []
    for i in range(count):
        text, search = TEXTS[i % 5], searches[i % len(searches)]
        found.append(PendingQuery(text, made[text], by, 0.001, search, i, selected.get(search)))
    return found


def answered(pool: IndexPool, asked: list[PendingQuery], monkeypatch) -> tuple[dict, list[int]]:
    """The outcomes by number, and the queries of each run; all but one wait while that one is answered."""
    delivered: queue.SimpleQueue = queue.SimpleQueue()
    runs: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    run = Index.run

    def watched(self, queries, *args, **options):
        runs.append(len(queries))
        begun.set()
        assert go_on.wait(20)
        return run(self, queries, *args, **options)

    monkeypatch.setattr(Index, "run", watched)
    batcher = Batcher(pool, "made", delivered.put)
    batcher.put(asked[:1])
    assert begun.wait(20)
    batcher.put(asked[1:])
    go_on.set()
    outcomes: dict = {}
    while len(outcomes) < len(asked):
        outcomes |= {query.future: outcome for query, outcome in delivered.get(timeout=20)}
    batcher.close()
    return outcomes, runs


def test_queries_that_wait_share_a_scan_and_each_has_its_own_answer(pool, made_once, monkeypatch):
    searches = [
        SearchOptions(k=3),
        SearchOptions(k=3, dim=8, rerank=2),
        SearchOptions(k=5, where="year > 1950"),
    ]
    asked = queries(pool, searches, 31)
    with pool.lend("made") as index:
        expected = [
            index.query(
                query.text,
                query.options.k,
                query.options.dim,
                query.options.rerank,
                where=query.options.where,
            )
            for query in asked
        ]
    outcomes, runs = answered(pool, asked, monkeypatch)
    assert [outcomes[i].hits for i in range(31)] == expected
    assert [outcomes[i].query for i in range(31)] == [query.text for query in asked]
    assert sorted(runs) == [1, 10, 10, 10]


def test_a_scan_has_so_many_queries_and_no_more(pool, monkeypatch):
    outcomes, runs = answered(pool, queries(pool, [SearchOptions(k=1)], 2 * MOST_TOGETHER + 2), monkeypatch)
    assert runs == [1, MOST_TOGETHER, MOST_TOGETHER, 1]
    assert all(len(outcome.hits) == 1 for outcome in outcomes.values())


def test_what_makes_no_sense_is_an_error_of_its_own_queries_alone(pool, monkeypatch):
    outcomes, _ = answered(
        pool, queries(pool, [SearchOptions(k=2), SearchOptions(k=2, dim=10**6)], 10), monkeypatch
    )
    for i in range(10):
        assert isinstance(outcomes[i], UsageError) == (i % 2 == 1)


def test_vectors_of_another_embedder_are_sent_back(pool, monkeypatch):
    delivered: queue.SimpleQueue = queue.SimpleQueue()
    batcher = Batcher(pool, "made", delivered.put)
    batcher.put(queries(pool, [SearchOptions()], 2, "another"))
    found = delivered.get(timeout=20)
    assert all(isinstance(outcome, MovedError) for _, outcome in found)
    batcher.close()


def test_an_expression_is_never_evaluated_in_the_batcher(pool, monkeypatch):
    delivered: queue.SimpleQueue = queue.SimpleQueue()
    batcher = Batcher(pool, "made", delivered.put)
    (asked,) = queries(pool, [SearchOptions(where="year > 1950")], 1)
    monkeypatch.setattr(Index, "select", lambda *_: pytest.fail("evaluated in the batcher"))
    batcher.put([asked, dataclasses.replace(asked, selected=None)])
    found = [outcome for _, outcome in delivered.get(timeout=20)]
    while len(found) < 2:
        found += [outcome for _, outcome in delivered.get(timeout=20)]
    assert any(isinstance(outcome, MovedError) for outcome in found)
    batcher.close()


def test_an_index_that_is_gone_is_the_error_of_all(made_once, pool):
    delivered: queue.SimpleQueue = queue.SimpleQueue()
    batcher = Batcher(pool, "gone", delivered.put)
    vector = np.ones(3, np.float32)
    batcher.put([PendingQuery("tree", vector, "", 0.0, SearchOptions(), i) for i in range(3)])
    outcomes = []
    while len(outcomes) < 3:
        outcomes += delivered.get(timeout=20)
    assert {str(outcome) for _, outcome in outcomes} == {"no index 'gone': there are made, other"}
    batcher.close()
