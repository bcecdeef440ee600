"""The service in its event loop: texts are embedded once, and whoever asks at once shares what is made."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from resizable_search.errors import (
    DocumentNotFoundError,
    EmbedderError,
    IndexFormatError,
    IndexNotFoundError,
    QueryError,
    QueryTimeoutError,
)
from resizable_search.search.index import Index, open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.service import service as module
from resizable_search.service.index_pool import IndexPool
from resizable_search.service.schemas import OldSearchRequest
from resizable_search.service.searches import search
from resizable_search.service.service import Service
from resizable_search.store.filter import Filter
from resizable_search.store.layout import Home
from tests.service.conftest import built


def run(home, action: Callable[[Service], Awaitable[Any]]) -> Any:
    """What comes of an action on the service of a home."""

    async def whole() -> Any:
        service = Service(IndexPool(Home(home), threads=1, engine="numpy"))
        try:
            return await asyncio.wait_for(action(service), 30)
        finally:
            service.close()

    return asyncio.run(whole())


@pytest.fixture
def embedded(monkeypatch):
    """The texts that were embedded; `embedded.hold` is waited for first, `embedded.fail` raised."""
    embed = Index.embed_queries

    class Embedded(list):
        hold = threading.Event()
        fail: Exception | None = None

    result = Embedded()
    result.hold.set()

    def watched(self, texts):
        result.extend(texts)
        assert result.hold.wait(20)
        if result.fail is not None:
            raise result.fail
        return embed(self, texts)

    monkeypatch.setattr(Index, "embed_queries", watched)
    return result


def test_a_text_is_embedded_once(made_once, embedded):
    async def asked(service: Service):
        first = await service.search("made", ["tree leaf"], SearchOptions(k=3))
        again = await service.search("made", ["tree leaf", "storm", "tree leaf"], SearchOptions(k=3))
        return first, again

    first, again = run(made_once, asked)
    assert embedded == ["tree leaf", "storm"]
    with open_index("made", home=made_once, engine="numpy") as index:
        assert first[0].hits == again[0].hits == again[2].hits == index.query("tree leaf", k=3)


def test_those_who_ask_the_same_at_once_wait_for_one_embedding(made_once, embedded):
    async def asked(service: Service):
        embedded.hold.clear()
        waiting = [
            asyncio.ensure_future(service.search("made", ["tree leaf"], SearchOptions(k=i)))
            for i in (1, 2, 3)
        ]
        while not embedded:
            await asyncio.sleep(0.01)
        waiting[0].cancel()  # whoever leaves takes nothing from the others
        await asyncio.sleep(0.01)
        embedded.hold.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    left, *stayed = run(made_once, asked)
    assert isinstance(left, asyncio.CancelledError)
    assert [len(answers[0].hits) for answers in stayed] == [2, 3]
    assert embedded == ["tree leaf"]


def test_a_slow_embedding_keeps_nobody_waiting_whose_vector_is_known(made_once, embedded):
    async def asked(service: Service):
        await service.search("made", ["tree leaf"], SearchOptions())
        embedded.hold.clear()
        slow = asyncio.ensure_future(service.search("made", ["storm"], SearchOptions()))
        while "storm" not in embedded:
            await asyncio.sleep(0.01)
        quick = await service.search("made", ["tree leaf"], SearchOptions())
        is_waiting = not slow.done()
        embedded.hold.set()
        return quick, is_waiting, await slow

    quick, is_waiting, slow = run(made_once, asked)
    assert is_waiting
    assert (quick[0].query, slow[0].query) == ("tree leaf", "storm")


def test_a_failed_embedding_is_told_to_each_and_tried_again(made_once, embedded):
    async def asked(service: Service):
        embedded.fail = EmbedderError("the endpoint is down: start it")
        both = [service.search("made", ["tree leaf"], SearchOptions()) for _ in range(2)]
        failed = await asyncio.gather(*both, return_exceptions=True)
        embedded.fail = None
        return failed, await service.search("made", ["tree leaf"], SearchOptions(k=1))

    failed, result = run(made_once, asked)
    assert [str(error) for error in failed] == ["the endpoint is down: start it"] * 2
    assert len(result[0].hits) == 1


def test_an_embedder_that_hangs_costs_its_own_callers_alone_and_them_not_for_ever(made_once, monkeypatch):
    embed, go_on = Index.embed_queries, threading.Event()

    def watched(self, texts):
        assert self.name != "made" or texts == ("tree leaf",) or go_on.wait(20)
        return embed(self, texts)

    monkeypatch.setattr(Index, "embed_queries", watched)

    async def asked(service: Service):
        await service.search("made", ["tree leaf"], SearchOptions())
        monkeypatch.setattr(module, "QUERY_SECONDS", 0.1)
        waiting = [
            asyncio.ensure_future(service.search("made", [f"tree {i}"], SearchOptions()))
            for i in range(2 * module.MOST_EMBEDDINGS)
        ]
        failed = await asyncio.gather(*waiting, return_exceptions=True)
        monkeypatch.setattr(module, "QUERY_SECONDS", 15.0)
        others = await asyncio.gather(  # while the embedder still hangs
            service.search("other", ["storm"], SearchOptions(k=3)),
            service.search("made", ["tree leaf"], SearchOptions(k=3)),
            service.search("made", ["storm"], SearchOptions(k=3, mode="lexical")),
            service.document("made", 1),
            service.indexes(),
        )
        go_on.set()
        return failed, others, await service.search("made", ["storm"], SearchOptions(k=3))

    failed, others, after = run(made_once, asked)
    assert {str(error) for error in failed} == {
        "the embedder of made gave no vector within 0.1 s: check that its server answers, or try again later"
    }
    assert {type(error) for error in failed} == {QueryTimeoutError}
    assert [len(others[i][0].hits) for i in range(3)] == [3, 3, 3]
    assert len(after[0].hits) == 3


def test_an_embedder_that_hangs_does_not_hold_a_text_that_the_cache_knows(made_once, monkeypatch):
    monkeypatch.setattr(Index, "embed_queries", lambda self, texts: pytest.fail("it was embedded"))
    monkeypatch.setattr(
        Index, "cached_queries", lambda self, texts: np.ones((len(texts), self.full_dim), np.float32)
    )

    async def asked(service: Service):
        return await service.search("made", ["tree leaf"], SearchOptions(k=3))

    assert len(run(made_once, asked)[0].hits) == 3


def test_only_so_many_vectors_are_kept(made_once, embedded, monkeypatch):
    monkeypatch.setattr(module, "MOST_VECTORS", 2)

    async def asked(service: Service):
        for text in ("tree", "leaf", "tree", "storm", "tree", "leaf"):
            await service.search("made", [text], SearchOptions(k=1))
        return len(service._vectors)

    assert run(made_once, asked) == 2
    assert embedded == ["tree", "leaf", "storm", "leaf"]


def test_an_index_of_another_embedder_has_the_text_embedded_anew(tmp_path, embedded):
    built(tmp_path)

    async def asked(service: Service):
        first = await service.search("made", ["tree leaf"], SearchOptions(k=5))
        await asyncio.to_thread(built, tmp_path, "made", 80, 9, True)
        embedded.clear()
        again = await service.search("made", ["tree leaf"], SearchOptions(k=5))
        return first, again

    first, again = run(tmp_path, asked)
    assert embedded == ["tree leaf"]
    with open_index("made", home=tmp_path, engine="numpy") as index:
        assert again[0].hits == index.query("tree leaf", k=5) != first[0].hits


def test_compare_is_the_full_dimension_for_the_same_documents(made_once):
    async def asked(service: Service):
        options = {"k": 5, "dim": 3, "where": "year < 1950", "compare": True}
        return await search(service, OldSearchRequest(query="tree leaf", index="made", **options))

    answer = run(made_once, asked)
    with open_index("made", home=made_once, engine="numpy") as index:
        full = index.query("tree leaf", k=5, where="year < 1950")
        cut = index.query("tree leaf", k=5, dim=3, where="year < 1950")
    assert [hit["row"] for hit in answer["full"]["hits"]] == [hit.row for hit in full]
    assert [hit["row"] for hit in answer["hits"]] == [hit.row for hit in cut]


def test_errors_are_those_of_the_index(made_once):
    async def asked(service: Service):
        calls = [
            service.search("nope", ["tree"], SearchOptions()),
            service.search("made", ["tree", "zebra"], SearchOptions()),
            service.document("made", 10**9),
            service.document("nope", 0),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    result = run(made_once, asked)
    assert [type(error) for error in result] == [
        IndexNotFoundError, QueryError, DocumentNotFoundError, IndexNotFoundError
    ]  # fmt: skip


def test_a_damaged_index_is_listed_with_what_is_wrong(tmp_path):
    built(tmp_path, count=20)
    (tmp_path / "made" / "manifest.json").write_text("{")

    async def asked(service: Service):
        return await service.indexes()

    (card,) = run(tmp_path, asked)
    assert card.name == "made"
    assert "manifest.json" in card.problem


def test_many_at_once_get_what_one_alone_gets(made_once):
    texts = ["tree leaf", "storm rain", "queue heap", "sand rock"]
    searches = [SearchOptions(k=4), SearchOptions(k=4, dim=8), SearchOptions(k=2, group=True)]

    async def asked(service: Service):
        calls = [service.search("made", [texts[i % 4]], searches[i % 3]) for i in range(120)]
        return await asyncio.gather(*calls)

    result = run(made_once, asked)
    with open_index("made", home=made_once, engine="numpy") as index:
        for i, (answer,) in enumerate(result):
            search = searches[i % 3]
            alone = index.search([texts[i % 4]], search)[0]
            assert answer.hits == alone.hits
            assert np.isfinite(answer.timings_ms.scan)


@pytest.fixture
def slow(monkeypatch):
    """An expression, `year > 0`, that takes until `slow.go_on` is set."""
    select = Index.select

    class Slow:
        go_on = threading.Event()
        begun = threading.Event()

    result = Slow()

    def watched(self, where):
        if where == "year > 0":
            result.begun.set()
            assert result.go_on.wait(20)
        return select(self, where)

    monkeypatch.setattr(Index, "select", watched)
    yield result
    result.go_on.set()


def test_a_slow_expression_costs_its_own_callers_alone(made_once, slow):
    async def asked(service: Service):
        waiting = [
            asyncio.ensure_future(service.search("made", ["tree leaf"], SearchOptions(k=3, where="year > 0")))
            for _ in range(module.MOST_THREADS + 4)
        ]
        await asyncio.to_thread(slow.begun.wait, 20)
        others = await asyncio.gather(
            service.search("made", ["storm"], SearchOptions(k=3)),
            service.search("other", ["storm"], SearchOptions(k=3, where="year > 1")),
            service.document("made", 1),
            service.indexes(),
        )
        is_slow = not any(one.done() for one in waiting)
        slow.go_on.set()
        return is_slow, others, await asyncio.gather(*waiting)

    is_slow, others, result = run(made_once, asked)
    assert is_slow
    assert [len(others[i][0].hits) for i in range(2)] == [3, 3]
    assert all(answers[0].hits == result[0][0].hits for answers in result)


def test_an_expression_is_evaluated_once_for_a_question(made_once, monkeypatch):
    evaluated = []
    rows = Filter._rows

    def counted(self, connection, path, expression, guard):
        evaluated.append(expression)
        return rows(self, connection, path, expression, guard)

    monkeypatch.setattr(Filter, "_rows", counted)

    async def asked(service: Service):
        options = {"k": 3, "dim": 8, "where": "year > 0", "compare": True}
        return await search(service, OldSearchRequest(query=["tree leaf", "storm"], index="made", **options))

    assert len(run(made_once, asked)["results"]) == 2
    assert evaluated == ["year > 0"]


def test_an_index_that_changes_after_its_expression_was_evaluated_has_it_evaluated_anew(tmp_path, embedded):
    built(tmp_path)

    async def asked(service: Service):
        embedded.hold.clear()
        waiting = asyncio.ensure_future(
            service.search("made", ["tree leaf"], SearchOptions(k=200, where="year = 1907"))
        )
        while not embedded:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(built, tmp_path, "made", 320, 9, True)
        embedded.hold.set()
        return await waiting

    (answer,) = run(tmp_path, asked)
    assert {hit.id for hit in answer.hits} == {"d7", "d107", "d207", "d307"}


def test_a_damaged_index_is_searched_again_by_the_first_request_after_it_is_mended(tmp_path, monkeypatch):
    """Also if the same text is being embedded for a request that met the damage."""
    built(tmp_path)
    manifest = tmp_path / "made" / "manifest.json"
    whole = manifest.read_bytes()
    lend = IndexPool.lend
    begun, go_on = threading.Event(), threading.Event()

    @contextmanager
    def late(self, name):
        with ExitStack() as stack:
            try:
                index = stack.enter_context(lend(self, name))
            except IndexFormatError:
                begun.set()
                assert go_on.wait(20)
                raise
            yield index

    async def asked(service: Service):
        await service.search("made", ["storm"], SearchOptions(k=3))
        manifest.unlink()
        monkeypatch.setattr(IndexPool, "lend", late)
        early = asyncio.ensure_future(service.search("made", ["tree leaf"], SearchOptions(k=3)))
        await asyncio.to_thread(begun.wait, 20)
        manifest.write_bytes(whole)
        first = asyncio.ensure_future(service.search("made", ["tree leaf"], SearchOptions(k=3)))
        await asyncio.sleep(0.05)
        go_on.set()
        return await asyncio.gather(early, first, return_exceptions=True)

    early, first = run(tmp_path, asked)
    assert isinstance(early, IndexFormatError)
    assert len(first[0].hits) == 3
