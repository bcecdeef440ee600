"""Parts that are looked through together answer as the same rows in one part."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resizable_search.quantise import Tier, quantise, sign_words
from resizable_search.scan import base
from resizable_search.scan.base import View
from resizable_search.topk import NO_ROW, Top, merge


def view_of(rows, allowed):
    return View(rows, rows.shape[1], allowed, Tier(*quantise(rows), rows.shape[1]), sign_words(rows).T.copy())


@pytest.mark.parametrize("too_many", [50.0, 0.4])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    kinds=st.integers(1, 200),
    k=st.sampled_from([1, 4, 20]),
    m=st.sampled_from([1, 2, 14]),
    precision=st.sampled_from(["exact", "float32", "int8", "bits"]),
    gone=st.floats(0, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_answer_as_one(engine, monkeypatch, too_many, sizes, kinds, k, m, precision, gone, seed):
    monkeypatch.setattr(base, "TOO_MANY", too_many)  # some give up, or none
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((kinds, 64)).astype(np.float32)[rng.integers(0, kinds, sum(sizes))]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rng.standard_normal((m, 64)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    allowed = rng.random(len(rows)) >= gone
    k = min(k, len(rows))
    starts = np.cumsum([0, *sizes])
    views = [view_of(rows[a:b], allowed[a:b]) for a, b in zip(starts, starts[1:], strict=False)]
    tops = [
        Top(found.top.scores, np.where(found.top.rows == NO_ROW, NO_ROW, found.top.rows + start))
        for found, start in zip(engine.scan_parts(views, precision, queries, k), starts, strict=False)
    ]
    many, one = merge(tops, k), engine.scan(view_of(rows, allowed), precision, queries, k).top
    np.testing.assert_array_equal(many.rows, one.rows)
    np.testing.assert_array_equal(many.scores, one.scores)
