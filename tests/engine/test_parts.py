"""Parts that are scanned together answer as the same rows in one part."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resizable_search.engine import base, numba_engine
from resizable_search.engine.base import ordered
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.vectors import Tier, normalise, quantise
from tests.engine.test_engines import mean_of, view_of


def split(rows, dim, allowed, sizes):
    """The rows in parts of those sizes."""
    cuts = np.cumsum([0, *sizes])
    return Parts(
        [view_of(rows[a:b], dim, allowed[a:b], mean_of(rows)) for a, b in zip(cuts, cuts[1:], strict=False)]
    )


def made(sizes, kinds, m, gone, seed):
    """Rows with many alike, queries, and which rows may be found."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((kinds, 64)).astype(np.float32)[rng.integers(0, kinds, sum(sizes))]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rng.standard_normal((m, 64)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return rows, queries, rng.random(len(rows)) >= gone


def assert_same(one, other):
    one, other = ordered(one), ordered(other)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


MADE = {
    "sizes": st.lists(st.integers(1, 90), min_size=1, max_size=6),
    "kinds": st.integers(1, 200),
    "k": st.sampled_from([1, 4, 20]),
    "m": st.sampled_from([1, 2, 14]),
    "gone": st.floats(0, 0.9),
    "seed": st.integers(0, 2**32 - 1),
}
HEALTH = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("too_many", [50.0, 0.4])
@settings(max_examples=40, suppress_health_check=HEALTH)
@given(
    **MADE,
    dim=st.sampled_from([64, 40]),
    precision=st.sampled_from(["exact", "float32", "int8", "1bit"]),
)
def test_parts_answer_as_one(engine, monkeypatch, too_many, sizes, kinds, k, m, dim, precision, gone, seed):
    monkeypatch.setattr(base, "TOO_MANY", too_many)  # the scan gives up, or does not
    monkeypatch.setattr(numba_engine, "WORTH_FOUR_BITS", 0)
    rows, queries, allowed = made(sizes, kinds, m, gone, seed)
    queries = engine.truncate(queries, dim)
    k = min(k, len(rows))
    many, one = split(rows, dim, allowed, sizes), split(rows, dim, allowed, [len(rows)])
    result = engine.scan(many, queries, precision, k)
    assert_same(result.top, engine.scan(one, queries, precision, k).top)
    own = np.sort(np.random.default_rng(seed).integers(-1, len(rows) + 1, (m, 30)), axis=1)
    own = np.array(
        [[row if row not in line[:i] else -1 for i, row in enumerate(line)] for line in own.tolist()]
    )
    own.sort(axis=1)
    again, whole = (engine.rescore(parts, queries, precision, own, k) for parts in (many, one))
    assert_same(again.top, whole.top)
    assert (again.rescored, again.read, again.by) == (whole.rescored, whole.read, whole.by)
    fewer = allowed & (np.random.default_rng(seed).random(len(rows)) < 0.7)
    cuts = np.cumsum([0, *sizes])
    masks = [fewer[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    narrow = engine.scan(many.narrowed(masks), queries, precision, k)
    assert_same(narrow.top, engine.scan(one.narrowed([fewer]), queries, precision, k).top)


def test_an_array_that_a_kernel_would_misread_is_refused(engine):
    rows = np.ones((4, 16), np.float32)[:, ::2]
    with pytest.raises(ValueError, match="in C order"):
        Parts([View(rows, 8)]).table("float32")


def test_threads_at_once_get_one_tier_of_a_dimension_that_is_not_stored():
    """Tables hold the addresses of its arrays: a second tier would leave the first one's freed."""
    rows = normalise(np.random.default_rng(0).standard_normal((20_000, 64), np.float32))
    tier = Tier(*quantise(rows))
    for _ in range(5):
        view, barrier = View(rows, 40, None, tier), threading.Barrier(8)

        def look(_, view=view, barrier=barrier):
            barrier.wait()
            return id(view.tier)

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(look, range(8)))) == 1
