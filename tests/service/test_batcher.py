"""The batcher: what waits together is scanned together, and each gets its own answer."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest

from resizable_search.errors import UsageError
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Answer
from resizable_search.service.batcher import MOST_TOGETHER, Batcher, MovedError, PendingQuery
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.layout import Home

TEXTS = ["tree leaf", "storm rain", "queue heap", "sand rock", "hash table"]


@pytest.fixture
def pool(made_once):
    opened = IndexPool(Home(made_once), threads=1, engine="numpy")
    yield opened
    opened.close()


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def queries(
    loop: asyncio.AbstractEventLoop,
    pool: IndexPool,
    searches: list[SearchOptions],
    count: int,
    fingerprint: str | None = None,
) -> list[PendingQuery]:
    with pool.lend("made") as index:
        made = dict(zip(TEXTS, index.embed_queries(TEXTS), strict=True))
        by = fingerprint or index.fingerprint
        selected = {search: (index, index.select(search.where)) for search in searches if search.where}
    pending = []
    for i in range(count):
        text, search = TEXTS[i % 5], searches[i % len(searches)]
        future = loop.create_future()
        pending.append(PendingQuery(text, made[text], by, 0.001, search, future, selected.get(search)))
    return pending


def outcome(query: PendingQuery) -> Answer | BaseException:
    """The answer to a query, or its error."""
    query.future.get_loop().run_until_complete(asyncio.wait([query.future], timeout=20))
    return query.future.exception() or query.future.result()


def answered(pool: IndexPool, asked: list[PendingQuery], monkeypatch) -> tuple[list, list[int]]:
    """The outcomes, and the queries of each run; all but one wait while that one is answered."""
    runs: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    run = Index.run

    def watched(self, queries, *args, **options):
        runs.append(len(queries))
        begun.set()
        assert go_on.wait(20)
        return run(self, queries, *args, **options)

    monkeypatch.setattr(Index, "run", watched)
    batcher = Batcher(pool, "made")
    batcher.put(asked[:1])
    assert begun.wait(20)
    batcher.put(asked[1:])
    go_on.set()
    outcomes = [outcome(query) for query in asked]
    batcher.close()
    return outcomes, runs


def test_queries_that_wait_share_a_scan_and_each_has_its_own_answer(loop, pool, made_once, monkeypatch):
    searches = [
        SearchOptions(k=3),
        SearchOptions(k=3, dim=8, rerank=2),
        SearchOptions(k=5, where="year > 1950"),
    ]
    asked = queries(loop, pool, searches, 31)
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
    assert [answer.hits for answer in outcomes] == expected
    assert [answer.query for answer in outcomes] == [query.text for query in asked]
    assert sorted(runs) == [1, 10, 10, 10]


def test_a_scan_has_so_many_queries_and_no_more(loop, pool, monkeypatch):
    outcomes, runs = answered(
        pool, queries(loop, pool, [SearchOptions(k=1)], 2 * MOST_TOGETHER + 2), monkeypatch
    )
    assert runs == [1, MOST_TOGETHER, MOST_TOGETHER, 1]
    assert all(len(answer.hits) == 1 for answer in outcomes)


def test_what_makes_no_sense_is_an_error_of_its_own_queries_alone(loop, pool, monkeypatch):
    outcomes, _ = answered(
        pool, queries(loop, pool, [SearchOptions(k=2), SearchOptions(k=2, dim=10**6)], 10), monkeypatch
    )
    for i in range(10):
        assert isinstance(outcomes[i], UsageError) == (i % 2 == 1)


def test_vectors_of_another_embedder_are_sent_back(loop, pool):
    batcher = Batcher(pool, "made")
    asked = queries(loop, pool, [SearchOptions()], 2, "another")
    batcher.put(asked)
    assert all(isinstance(outcome(query), MovedError) for query in asked)
    batcher.close()


def test_an_expression_is_never_evaluated_in_the_batcher(loop, pool, monkeypatch):
    batcher = Batcher(pool, "made")
    first, second = (queries(loop, pool, [SearchOptions(where="year > 1950")], 1)[0] for _ in range(2))
    monkeypatch.setattr(Index, "select", lambda *_: pytest.fail("evaluated in the batcher"))
    asked = [first, dataclasses.replace(second, selected=None)]
    batcher.put(asked)
    assert any(isinstance(outcome(query), MovedError) for query in asked)
    batcher.close()


def test_a_query_whose_caller_has_gone_is_passed_over(loop, pool):
    batcher = Batcher(pool, "made")
    gone, waits = queries(loop, pool, [SearchOptions(k=2)], 2)
    gone.future.cancel()
    batcher.put([gone, waits])
    assert len(outcome(waits).hits) == 2
    batcher.close()


def test_a_caller_may_leave_during_the_scan(loop, pool, monkeypatch):
    leaves, waits = queries(loop, pool, [SearchOptions(k=2)], 2)
    run = Index.run

    def left(self, *args, **options):
        loop.call_soon_threadsafe(leaves.future.cancel)
        return run(self, *args, **options)

    monkeypatch.setattr(Index, "run", left)
    batcher = Batcher(pool, "made")
    batcher.put([leaves, waits])
    assert len(outcome(waits).hits) == 2
    assert leaves.future.cancelled()
    batcher.close()


def test_an_index_that_is_gone_is_the_error_of_all(loop, made_once, pool):
    batcher = Batcher(pool, "gone")
    vector = np.ones(3, np.float32)
    asked = [PendingQuery("tree", vector, "", 0.0, SearchOptions(), loop.create_future()) for _ in range(3)]
    batcher.put(asked)
    assert {str(outcome(query)) for query in asked} == {"no index 'gone': there are made, other"}
    batcher.close()
