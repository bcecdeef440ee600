"""Codes, steps and errors against float64, and the bounds that the engine trusts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resizable_search.engine import short_codes, vectors
from resizable_search.engine.vectors import Tier, quantise, quantise_queries
from tests.engine.test_engines import KINDS, unit_rows


def distance(row, codes, step):
    off = [float(x) - float(step) * int(c) for x, c in zip(row, codes, strict=True)]
    return math.sqrt(math.fsum(x * x for x in off))


@settings(max_examples=80)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.integers(1, 90), st.integers(0, 2**32 - 1), st.data())
def test_the_error_bounds_what_the_codes_lose(kind, n, width, seed, data):
    rows = unit_rows(n, width, seed, kind)
    codes, steps, errors = quantise(rows)
    assert (codes.dtype, steps.dtype, errors.dtype) == (np.int8, np.float32, np.float32)
    assert np.abs(codes.astype(int)).max() <= 127
    dim = data.draw(st.integers(1, width))
    tier = Tier(codes, steps, errors)
    cut = tier.cut(rows, dim)
    short = vectors.truncate(rows, dim)
    for i in range(n):
        true = distance(rows[i], codes[i], steps[i])
        assert true <= errors[i] <= true * (1 + 1e-6) + 1e-44
        assert distance(short[i], codes[i, :dim], cut.steps[i]) <= cut.errors[i]
        assert cut.errors[i] <= 1.01


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_a_cut_tier_copies_its_codes_where_they_are_few(monkeypatch, most):
    monkeypatch.setattr(vectors, "MOST_COPIED", most)
    rows = np.random.default_rng(0).standard_normal((50, 128), np.float32)
    codes, steps, errors = quantise(rows)
    cut = Tier(codes, steps, errors).cut(rows, 40)
    np.testing.assert_array_equal(cut.codes[:, :40], codes[:, :40])
    assert cut.codes.shape == ((50, 64) if most else (50, 128))


def test_the_largest_number_has_the_largest_code():
    rows = vectors.normalise(np.array([[3, -4, 0, 1e-9], [0, 0, 0, 0]], np.float32))
    codes, steps, errors = quantise(rows)
    assert codes.tolist() == [[95, -127, 0, 0], [0, 0, 0, 0]]
    assert steps[0] == np.float32(0.8) / np.float32(127)
    assert (steps[1], errors[1]) == (0, 0)


@settings(max_examples=60)
@given(st.integers(1, 4200), st.integers(0, 2**32 - 1), st.booleans())
def test_an_integer_query_is_near_and_its_sums_fit_32_bits(dim, seed, spiky):
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((2, dim)).astype(np.float32)
    if spiky:
        raw[:, 0] = 1000
    queries = vectors.normalise(raw)
    codes, units = quantise_queries(queries)
    for i in range(2):
        near = codes[i, :dim] * units[i]
        assert not codes[i, dim:].any()
        assert np.abs(queries[i].astype(np.float64) - near).max() <= 0.5 * units[i]
        # The worst row there can be: every code 127, with the query's signs.
        assert 127 * int(np.abs(codes[i].astype(np.int64)).sum()) < 2**31
        assert units[i] <= 2.0**-13


def test_a_zero_query_stays_zero():
    codes, units = quantise_queries(np.zeros((1, 5), np.float32))
    assert not codes.any()
    assert np.isfinite(units).all()


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_error_of_four_bits_bounds_what_they_lose(kind, n, width, seed):
    rows = unit_rows(n, width, seed, kind)
    mean = short_codes.mean_of(short_codes.sum_of(rows), n)
    codes, (steps, errors) = short_codes.four_bit(rows, mean)
    half = codes.shape[1]
    assert half % 64 == 0
    assert 2 * half >= width > 2 * (half - 64)
    for i in range(n):
        both = np.concatenate([codes[i] & 15, codes[i] >> 4])
        assert not both[width:].any()
        away = [float(step) for step in (both[:width] - 7.5) * float(steps[i])]
        off = [float(x) - float(m) - a for x, m, a in zip(rows[i], mean, away, strict=True)]
        true = math.sqrt(math.fsum(x * x for x in off))
        assert true <= errors[i] <= true * (1 + 1e-6) + 1e-44
