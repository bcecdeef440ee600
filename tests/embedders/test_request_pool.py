import threading
import time

import numpy as np
import pytest

from resizable_search.embedders import request_pool
from resizable_search.embedders.request_pool import BatchResult, Pacer, RequestPool, embed_all
from resizable_search.errors import BadAnswerError, QuotaError, RefusedTextError, ServiceError
from tests.support import TableEmbedder


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(request_pool, "FIRST_PAUSE", 0.001)


def failing(*errors):
    """An embedder whose first calls fail so, one after the other."""
    embedder = TableEmbedder(remote=True)
    left = list(errors)

    def before(texts):
        if left:
            raise left.pop(0)

    embedder.before = before
    return embedder


def results(pool: RequestPool, count: int) -> list[BatchResult]:
    """The next results, which may come together or one after the other."""
    found = []
    while len(found) < count:
        found += pool.next(5)
    return found


def test_what_may_be_cured_is_tried_again_and_told():
    notes = []
    embedder = failing(ServiceError("busy"), BadAnswerError("short", again=True))
    pool = RequestPool(embedder, "search_query", on_retry=notes.append)
    pool.submit([7], ["a text"])
    (answer,) = results(pool, 1)
    np.testing.assert_array_equal(answer.vectors, [embedder.vector("a text")])
    assert (answer.keys, pool.usage.requests, len(notes)) == ([7], 3, 2)
    assert notes[0].startswith("busy; trying again in")
    pool.drain(0)


def test_a_service_that_says_how_long_to_wait_is_not_asked_sooner():
    notes = []
    pool = RequestPool(failing(ServiceError("busy", retry_after=0.2)), "search_query", on_retry=notes.append)
    begun = time.monotonic()
    pool.submit([0], ["x"])
    assert results(pool, 1)[0].vectors is not None
    assert time.monotonic() - begun > 0.19
    assert len(notes) == 1
    pool.drain(0)


def test_a_query_is_not_kept_waiting_for_long():
    embedder = failing(ServiceError("busy", retry_after=300.0))
    with pytest.raises(ServiceError, match="busy"):
        embed_all(embedder, ["x"], "search_query")


def test_batches_are_as_large_as_the_embedder_says():
    embedder, sizes = TableEmbedder(), []
    embedder.fit_in = lambda texts: min(len(texts), 1 + len(texts[0]) % 3)
    embedder.before = lambda texts: sizes.append(len(texts))
    texts = ["x" * (i % 5 + 1) for i in range(23)]
    rows = embed_all(embedder, texts, "search_query")
    np.testing.assert_array_equal(rows, [embedder.vector(text) for text in texts])
    assert sum(sizes) == 23
    assert set(sizes) == {1, 2}


@pytest.mark.parametrize("error", [QuotaError("pay"), BadAnswerError("wrong width")])
def test_what_cannot_be_cured_ends_the_work_after_one_request(error):
    pool = RequestPool(failing(error), "search_query")
    for key in range(5):
        pool.submit([key], ["x"])
    with pytest.raises(type(error)):
        pool.next()
    assert pool.drain(1) == []
    assert pool.usage.requests == 1


def test_a_refused_text_is_an_answer_and_the_work_goes_on():
    pool = RequestPool(failing(RefusedTextError("odd")), "search_document")
    pool.submit([0], ["x"])
    pool.submit([1], ["y"])
    refused, answered = results(pool, 2)
    assert str(refused.refused) == "odd"
    assert answered.vectors is not None
    pool.drain(0)


def test_so_many_at_once_and_no_more():
    embedder = TableEmbedder()
    under_way, most, lock = 0, 0, threading.Lock()

    def before(texts):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1

    embedder.before = before
    pool = RequestPool(embedder, "search_document", concurrency=3)
    for key in range(12):
        pool.submit([key], [f"text {key}"])
    assert sorted(result.keys[0] for result in results(pool, 12)) == list(range(12))
    pool.drain(0)
    assert most == 3


def test_no_thread_outlives_the_work():
    before = threading.active_count()
    for _ in range(20):
        embed_all(TableEmbedder(), [f"text {i}" for i in range(30)], "search_query")
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_draining_waits_for_what_is_under_way_and_sends_nothing_more():
    embedder = TableEmbedder()
    begun, go_on = threading.Event(), threading.Event()

    def before(texts):
        begun.set()
        go_on.wait(5)

    embedder.before = before
    pool = RequestPool(embedder, "search_document", concurrency=1)
    pool.submit([0], ["first"])
    pool.submit([1], ["second"])
    begun.wait(5)
    threading.Timer(0.05, go_on.set).start()
    assert [answer.keys for answer in pool.drain(5)] == [[0]]
    assert embedder.asked == ["first"]


def test_the_pacer_spaces_requests_evenly(monkeypatch):
    now = 100.0
    monkeypatch.setattr(request_pool.time, "monotonic", lambda: now)
    pacer = Pacer(240)
    pauses = [pacer.delay() * request_pool.FILL for _ in range(4)]
    np.testing.assert_allclose(pauses, [0, 0.25, 0.5, 0.75])
    now = 200.0
    turns = request_pool.CATCH_UP * 4 * request_pool.FILL
    late = [pacer.delay() for _ in range(8)]
    assert late[: int(turns) + 1] == [0] * (int(turns) + 1)  # what was missed is caught up, but no more
    np.testing.assert_allclose(np.diff(late[int(turns) + 1 :]) * request_pool.FILL, 0.25)
    free = Pacer(None)
    assert [free.delay() for _ in range(3)] == [0, 0, 0]


def test_what_ends_the_work_comes_after_the_results_before_it():
    pool = RequestPool(TableEmbedder(), "search_document", concurrency=2)
    pool.submit([0], ["x"])
    while pool._results.empty():
        time.sleep(0.001)
    pool._results.put(QuotaError("pay"))
    pool.outstanding += 1
    assert [result.keys for result in pool.next()] == [[0]]
    with pytest.raises(QuotaError):
        pool.next()
    assert pool.outstanding == 0
    pool.drain(0)


def test_no_more_are_sent_than_have_places_until_their_answers_are_safe():
    embedder = TableEmbedder()
    pool = RequestPool(embedder, "search_document", concurrency=3)
    for key in range(12):
        pool.submit([key], [f"text {key}"])
    time.sleep(0.1)
    assert len(embedder.asked) == 3
    assert len(pool.next()) == 3  # not known to be safe yet
    time.sleep(0.1)
    assert len(embedder.asked) == 3
    pool.next(0.1)
    time.sleep(0.1)
    assert len(embedder.asked) == 6
    pool.drain(1)


def test_what_a_client_repeats_by_itself_has_its_place_in_the_pace(monkeypatch):
    embedder = TableEmbedder(remote=True)
    embedder.before = lambda texts: embedder.before_repeat()
    begun = time.monotonic()
    pool = RequestPool(embedder, "search_document", concurrency=1, requests_per_minute=600)
    for key in range(2):
        pool.submit([key], ["x"])
        pool.next()
    assert pool.usage.requests == 4
    assert time.monotonic() - begun > 0.29
    pool.drain(0)


def test_nothing_is_repeated_once_the_work_has_ended():
    embedder = TableEmbedder()
    begun, go_on, sent = threading.Event(), threading.Event(), []

    def before(texts):
        begun.set()
        go_on.wait(5)
        embedder.before_repeat()
        sent.append(texts)

    embedder.before = before
    pool = RequestPool(embedder, "search_document", concurrency=1)
    pool.submit([0], ["x"])
    begun.wait(5)
    threading.Timer(0.05, go_on.set).start()
    assert pool.drain(5) == []
    assert sent == []


def test_a_query_that_is_refused_is_an_error_with_the_services_reason():
    with pytest.raises(RefusedTextError, match="^it has no words$"):
        embed_all(failing(RefusedTextError("it has no words")), ["?"], "search_query")


def test_no_text_is_no_request():
    embedder = TableEmbedder()
    assert embed_all(embedder, [], "search_query").shape == (0, 96)
    assert embedder.asked == []


@pytest.mark.parametrize("error", [ServiceError("it is failing; look"), BadAnswerError("a NaN", again=True)])
def test_a_text_that_a_service_always_fails_on_is_refused(error):
    """The service embeds another text, so it is not down."""
    embedder = TableEmbedder(remote=True)

    def before(texts):
        if "poison" in texts:
            raise error

    embedder.before = before
    pool = RequestPool(embedder, "search_document")
    pool.submit([0], ["poison"])
    pool.submit([1], ["y"])
    first, second = results(pool, 2)
    assert str(first.refused).startswith(str(error).partition(";")[0] + ", but embeds other texts; ")
    assert second.vectors is not None
    assert pool.usage.requests == request_pool.TRIES + 2
    pool.drain(0)


def test_a_service_that_is_down_ends_the_work():
    """The other text fails too: no text is at fault."""
    pool = RequestPool(failing(*[ServiceError("down")] * (request_pool.TRIES + 1)), "search_document")
    pool.submit([0], ["x"])
    with pytest.raises(ServiceError, match="down"):
        pool.next()
    pool.drain(0)
