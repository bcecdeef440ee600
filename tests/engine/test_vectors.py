import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resizable_search.engine import vectors
from tests.support import float64_unit

finite = st.floats(-(2.0**50), 2.0**50, width=32, allow_subnormal=False)
rows_of = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=90), elements=finite)


@given(rows_of)
def test_lane_sum_is_near_the_true_sum_and_does_not_depend_on_company(rows):
    wide = rows.astype(np.float64)
    sums = vectors.lane_sum(wide)
    for row, total in zip(wide, sums, strict=True):
        exact = math.fsum(row.tolist())
        assert total == pytest.approx(exact, rel=1e-12, abs=1e-12 * (1 + np.abs(row).sum()))
        assert vectors.lane_sum(row[None].copy())[0] == total


@given(rows_of, st.data())
def test_truncate_equals_slice_then_renormalise_in_float64(rows, data):
    dim = data.draw(st.integers(1, rows.shape[1]))
    before = rows.copy()
    cut = vectors.truncate(rows, dim)
    assert cut.dtype == np.float32
    assert cut.flags.c_contiguous
    np.testing.assert_array_equal(rows, before)
    for got, row in zip(cut, rows, strict=True):
        np.testing.assert_allclose(got, float64_unit(row[:dim]), atol=1e-7)


@given(rows_of)
def test_truncate_is_idempotent_to_one_rounding(rows):
    once = vectors.truncate(rows, rows.shape[1])
    np.testing.assert_allclose(vectors.truncate(once, rows.shape[1]), once, rtol=2.5e-7, atol=1e-30)


@given(rows_of)
def test_centring_twice_changes_nothing_that_matters(rows):
    once = vectors.centre(rows)
    scale = np.abs(rows).max(initial=1e-30)
    np.testing.assert_allclose(vectors.centre(once), once, atol=1e-6 * scale)
    np.testing.assert_allclose(once, rows - rows.astype(np.float64).mean(1, keepdims=True), atol=1e-6 * scale)


def test_a_zero_row_stays_zero():
    rows = np.zeros((2, 5), np.float32)
    rows[1, 4] = 3
    np.testing.assert_array_equal(vectors.truncate(rows, 4), np.zeros((2, 4)))
    np.testing.assert_array_equal(vectors.truncate(rows, 5)[1], [0, 0, 0, 0, 1])


def test_the_end_of_the_range_overflows_nothing():
    rows = np.full((2, 96), -3e38, np.float32)
    rows[0, 0] = 3e38
    rows[1] = np.arange(96)
    made = vectors.prepare(rows, 96, centred=True)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, rtol=1e-6)
    assert made[0, 0] > 0.9
    assert rows[0, 0] == np.float32(3e38)


def test_centring_comes_before_the_cut():
    rows = np.array([[1, 2, 3, 10]], np.float32)  # its mean is 4
    np.testing.assert_allclose(
        vectors.prepare(rows, 2, centred=True), [[-3 / 13**0.5, -2 / 13**0.5]], rtol=1e-6
    )
    np.testing.assert_allclose(vectors.prepare(rows, 2, centred=False), [[5**-0.5, 2 * 5**-0.5]], rtol=1e-6)


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_dot_in_blocks_is_dot_of_the_whole(dim, n, seed):
    rng = np.random.default_rng(seed)
    rows = vectors.normalise(rng.standard_normal((n, dim)).astype(np.float32))
    query = rows[0]
    whole = vectors.dot(rows, query)
    parts = [vectors.dot(rows[i : i + 7], query) for i in range(0, n, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_allclose(whole, rows.astype(np.float64) @ query.astype(np.float64), atol=6e-8)


def test_spans_cover_every_row_once_within_the_bound():
    spans = vectors.spans(100_000, 768)
    assert spans[0][0] == 0
    assert spans[-1][1] == 100_000
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
    assert max(stop - start for start, stop in spans) * 768 * 8 <= vectors.BLOCK_BYTES


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-42, 1e-30, 1.0, 1e30, 1e37, 1e200, 1e300])
def test_the_size_of_a_raw_row_changes_nothing(size):
    row = np.random.default_rng(0).standard_normal(96) * size
    if size > 1e-40:
        expected = row - row.mean()
        expected /= size
        expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(vectors.prepare(row[None], 96, centred=True)[0], expected, atol=1e-6)
    both = vectors.tamed(np.stack([row, np.ones(96)]))
    np.testing.assert_array_equal(both[0], vectors.tamed(row[None])[0])
    assert np.isfinite(both).all()
    assert both.any(axis=1).all()


def test_zero_and_endless_rows_stay_so():
    rows = np.array([[0, 0], [1e-300, np.inf], [np.nan, 1]])
    tame = vectors.tamed(rows)
    assert not tame[0].any()
    assert not np.isfinite(tame[1:]).all(axis=1).any()
