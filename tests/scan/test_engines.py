"""Every engine gives the defined answer: DESIGN's words in plain Python are the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resizable_search import vectors
from resizable_search.scan import numpy_engine
from resizable_search.scan.base import View, margin
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.topk import NO_ROW
from tests.support import oracle


def unit_rows(n, dim, seed, kind):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    if kind == "duplicates":
        rows = rows[rng.integers(0, max(1, n // 4), n)]
    elif kind == "near ties":
        rows = rows[:1] + rng.standard_normal((n, dim)).astype(np.float32) * np.float32(1e-7)
    elif kind == "outliers":
        rows *= np.where(rng.random((n, dim)) < 0.05, 1e4, 1).astype(np.float32)
    elif kind == "zeros":
        rows[rng.random(n) < 0.5] = 0
        rows[:, dim // 2 :] *= rng.random((n, 1)) < 0.5
    elif kind == "tiny prefix":
        rows[:, : max(1, dim // 2)] *= np.float32(1e-18)
    elif kind == "subnormal prefix":
        rows[: n // 2, : max(1, dim // 2)] *= np.float32(10.0 ** -float(rng.integers(28, 45)))
    return vectors.normalise(rows)


KINDS = ["plain", "duplicates", "near ties", "outliers", "zeros", "tiny prefix", "subnormal prefix"]


def assert_defined(engine, rows, dim, queries, k):
    view = View(rows, dim)
    meant = rows if dim == rows.shape[1] else vectors.truncate(rows, dim)
    top = engine.scan(view, "exact", queries, k).top
    assert top.scores.shape == top.rows.shape == (len(queries), k)
    for i, query in enumerate(queries):
        scores, found = oracle(meant, query, k)
        n = len(found)
        np.testing.assert_array_equal(top.rows[i, :n], found)
        np.testing.assert_array_equal(top.scores[i, :n], scores)
        assert (top.rows[i, n:] == NO_ROW).all()
        assert np.isneginf(top.scores[i, n:]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 60),
    st.integers(1, 80),
    st.sampled_from([1, 3, 10, 100]),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_the_answer_is_the_defined_one(kind, n, width, k, m, seed, data):
    dim = data.draw(st.integers(1, width))
    rows = unit_rows(n, width, seed, kind)
    rng = np.random.default_rng(seed + 1)
    raw = rng.standard_normal((m, width)).astype(np.float32)
    raw[0] = rows[rng.integers(n)]
    assert_defined(NumpyEngine(), rows, dim, vectors.truncate(raw, dim), k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 100, 700])
def test_many_blocks_give_the_defined_answer(engine, kind, k, monkeypatch):
    monkeypatch.setattr(numpy_engine, "BLOCK_ROWS", 64)
    monkeypatch.setattr(numpy_engine, "BLOCK_SCORES", 600)
    rows = unit_rows(700, 48, 3, kind)
    queries = vectors.truncate(rows[[5, 600]] + np.float32(0.01), 48)
    assert_defined(engine, rows, 48, queries, k)
    assert_defined(engine, rows, 20, vectors.truncate(queries, 20), k)


def test_one_query_and_a_batch_agree_bit_for_bit(engine):
    rows = unit_rows(5000, 96, 0, "duplicates")
    queries = vectors.truncate(np.random.default_rng(1).standard_normal((33, 96)).astype(np.float32), 64)
    view = View(rows, 64)
    together = engine.scan(view, "exact", queries, 10).top
    for i in range(len(queries)):
        alone = engine.scan(view, "exact", queries[i : i + 1], 10).top
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_equal_rows_come_in_order_of_row(engine):
    rows = np.tile(unit_rows(1, 768, 0, "plain"), (2000, 1))
    top = engine.scan(View(rows, 768), "exact", rows[:1], 10).top
    assert top.rows[0].tolist() == list(range(10))
    assert len(set(top.scores[0].tolist())) == 1


def test_rows_that_are_not_allowed_are_not_found(engine):
    rows = unit_rows(300, 32, 0, "plain")
    allowed = np.zeros(300, bool)
    allowed[[7, 150, 299]] = True
    view = View(rows, 32, allowed)
    top = engine.scan(view, "exact", rows[:1], 5).top
    assert set(top.rows[0].tolist()) == {7, 150, 299, NO_ROW}


def test_the_margin_bounds_what_float32_loses():
    for dim in (1, 8, 300, 768):
        rows = unit_rows(4000, 768, dim, "outliers")
        view = View(rows, dim)
        query = vectors.truncate(rows[:1] * np.float32(0.7) + np.float32(0.01), dim)
        fast = (rows[:, :dim] @ query[0]) * (1 if not view.is_cut else view.reciprocals.scale)
        exact = view.defined_scores(query[0], np.arange(4000))
        assert np.abs(fast.astype(np.float64) - exact).max() <= margin(view)


def test_the_rows_are_never_written(engine):
    rows = unit_rows(100, 32, 0, "plain")
    rows.flags.writeable = False
    engine.scan(View(rows, 16), "exact", vectors.truncate(rows[:2], 16), 5)
