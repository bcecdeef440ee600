"""The desk: what waits together is scanned together, and each gets its own answer."""

import dataclasses
import queue
import threading

import numpy as np
import pytest

from resizable_search.errors import UsageError
from resizable_search.search.index import Index
from resizable_search.search.options import SearchOptions
from resizable_search.service.batcher import MOST_TOGETHER, Ask, Batcher, MovedError
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.layout import Home

TEXTS = ["tree leaf", "storm rain", "queue heap", "sand rock", "hash table"]


@pytest.fixture
def shelf(made_once):
    found = IndexPool(Home(made_once), threads=1, engine="numpy")
    yield found
    found.close()


def asks(
    shelf: IndexPool, searches: list[SearchOptions], count: int, fingerprint: str | None = None
) -> list[Ask]:
    with shelf.lend("made") as index:
        made = dict(zip(TEXTS, index.embed_queries(TEXTS), strict=True))
        by = fingerprint or index.fingerprint
        selected = {search: (index, index.select(search.where)) for search in searches if search.where}
    found = []
    for i in range(count):
        text, search = TEXTS[i % 5], searches[i % len(searches)]
        found.append(Ask(text, made[text], by, 0.001, search, i, selected.get(search)))
    return found


def answered(shelf: IndexPool, asked: list[Ask], monkeypatch) -> tuple[dict, list[int]]:
    """The outcomes by number, and how many queries each run had, of asks that wait while one is answered."""
    told: queue.SimpleQueue = queue.SimpleQueue()
    runs: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    run = Index.run

    def watched(self, queries, *args, **options):
        runs.append(len(queries))
        begun.set()
        assert go_on.wait(20)
        return run(self, queries, *args, **options)

    monkeypatch.setattr(Index, "run", watched)
    desk = Batcher(shelf, "made", told.put)
    desk.put(asked[:1])
    assert begun.wait(20)
    desk.put(asked[1:])
    go_on.set()
    outcomes: dict = {}
    while len(outcomes) < len(asked):
        outcomes |= {ask.wanted: outcome for ask, outcome in told.get(timeout=20)}
    desk.close()
    return outcomes, runs


def test_queries_that_wait_share_a_scan_and_each_has_its_own_answer(shelf, made_once, monkeypatch):
    searches = [
        SearchOptions(k=3),
        SearchOptions(k=3, dim=8, rerank=2),
        SearchOptions(k=5, where="year > 1950"),
    ]
    asked = asks(shelf, searches, 31)
    with shelf.lend("made") as index:
        expected = [
            index.query(ask.text, ask.search.k, ask.search.dim, ask.search.rerank, where=ask.search.where)
            for ask in asked
        ]
    outcomes, runs = answered(shelf, asked, monkeypatch)
    assert [outcomes[i].hits for i in range(31)] == expected
    assert [outcomes[i].query for i in range(31)] == [ask.text for ask in asked]
    assert sorted(runs) == [1, 10, 10, 10]


def test_a_scan_has_so_many_queries_and_no_more(shelf, monkeypatch):
    outcomes, runs = answered(shelf, asks(shelf, [SearchOptions(k=1)], 2 * MOST_TOGETHER + 2), monkeypatch)
    assert runs == [1, MOST_TOGETHER, MOST_TOGETHER, 1]
    assert all(len(outcome.hits) == 1 for outcome in outcomes.values())


def test_what_makes_no_sense_is_an_error_of_its_own_asks_alone(shelf, monkeypatch):
    outcomes, _ = answered(
        shelf, asks(shelf, [SearchOptions(k=2), SearchOptions(k=2, dim=10**6)], 10), monkeypatch
    )
    for i in range(10):
        assert isinstance(outcomes[i], UsageError) == (i % 2 == 1)


def test_vectors_of_another_embedder_are_sent_back(shelf, monkeypatch):
    told: queue.SimpleQueue = queue.SimpleQueue()
    desk = Batcher(shelf, "made", told.put)
    desk.put(asks(shelf, [SearchOptions()], 2, "another"))
    found = told.get(timeout=20)
    assert all(isinstance(outcome, MovedError) for _, outcome in found)
    desk.close()


def test_an_expression_is_never_evaluated_at_the_desk(shelf, monkeypatch):
    told: queue.SimpleQueue = queue.SimpleQueue()
    desk = Batcher(shelf, "made", told.put)
    (asked,) = asks(shelf, [SearchOptions(where="year > 1950")], 1)
    monkeypatch.setattr(Index, "select", lambda *_: pytest.fail("evaluated at the desk"))
    desk.put([asked, dataclasses.replace(asked, selected=None)])
    found = [outcome for _, outcome in told.get(timeout=20)]
    while len(found) < 2:
        found += [outcome for _, outcome in told.get(timeout=20)]
    assert any(isinstance(outcome, MovedError) for outcome in found)
    desk.close()


def test_an_index_that_is_gone_is_the_error_of_all(made_once, shelf):
    told: queue.SimpleQueue = queue.SimpleQueue()
    desk = Batcher(shelf, "gone", told.put)
    vector = np.ones(3, np.float32)
    desk.put([Ask("tree", vector, "", 0.0, SearchOptions(), i) for i in range(3)])
    outcomes = []
    while len(outcomes) < 3:
        outcomes += told.get(timeout=20)
    assert {str(outcome) for _, outcome in outcomes} == {"no index 'gone': there are made, other"}
    desk.close()
