"""Every engine gives the defined answer; the oracle is the definition in plain Python."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resizable_search.engine import base, numba_engine, numpy_engine, scheduling, short_codes, vectors
from resizable_search.engine.base import NO_ROW, margin, ordered, select
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.vectors import Tier, quantise, quantise_queries
from resizable_search.errors import UsageError
from tests.support import one_bit_scores, oracle


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


LARGE = 50_000
PRECISIONS = ["exact", "float32", "int8", "1bit"]


def mean_of(rows):
    return short_codes.mean_of(short_codes.sum_of(rows), len(rows))


def view_of(rows, dim, allowed=None, mean=None):
    """A view with every tier."""
    mean = mean_of(rows) if mean is None else mean
    codes = short_codes.one_bit(rows, mean)
    four_bit = (*short_codes.four_bit(rows, mean), mean) if dim == rows.shape[1] else None
    return View(rows, dim, allowed, Tier(*quantise(rows)), codes, four_bit)


def rough_scores(view, precision, query):
    """The scores in int8 and 1bit, in plain Python."""
    if precision == "1bit":
        return one_bit_scores(view.stored, mean_of(view.stored), query)
    codes, units = quantise_queries(query[None])
    sums = [sum(map(int.__mul__, row, codes[0].tolist())) for row in view.tier.codes[:, : view.dim].tolist()]
    scores = [float(total) * float(step) for total, step in zip(sums, view.tier.steps, strict=True)]
    return (np.array(scores) * units[0]).astype(np.float32)


def assert_defined(engine, rows, dim, queries, k, precision="exact", allowed=None):
    view = view_of(rows, dim, allowed)
    meant = view.rows(np.arange(len(rows)))
    result = engine.scan(Parts([view]), queries, precision, k)
    top = ordered(result.top)
    assert top.scores.shape == top.rows.shape == (len(queries), k)
    assert (top.scores.dtype, top.rows.dtype) == (np.float32, np.int64)
    may = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    for i, query in enumerate(queries):
        if precision in ("exact", "float32") and meant.size > LARGE:
            # Plain Python takes too long; `vectors.dot` is held against it in test_vectors.
            scores, best = select(vectors.dot(meant[may], query), may, k)
        elif precision in ("int8", "1bit"):
            all_scores = rough_scores(view, precision, query)
            best = may[np.lexsort((may, -all_scores[may]))][:k]
            scores = all_scores[best]
        else:
            scores, best = oracle(meant[may], query, k)
            best = may[best]
        n = len(best)
        np.testing.assert_array_equal(top.rows[i, :n], best)
        np.testing.assert_array_equal(top.scores[i, :n], scores)
        assert (top.rows[i, n:] == NO_ROW).all()
        assert np.isneginf(top.scores[i, n:]).all()
    return result


@pytest.fixture
def never_gives_up(monkeypatch):
    """Let the scans of codes handle small parts too, which they would leave to the floats."""
    monkeypatch.setattr(numba_engine, "WORTH_FOUR_BITS", 0)
    monkeypatch.setattr(base, "TOO_MANY", 50.0)


@pytest.mark.usefixtures("never_gives_up")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(KINDS),
    st.integers(1, 60),
    st.integers(1, 130),
    st.sampled_from([1, 3, 10, 100]),
    st.integers(1, 14),
    st.sampled_from(PRECISIONS),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_the_answer_is_the_defined_one(engine, kind, n, width, k, m, precision, seed, data):
    dim = data.draw(st.integers(1, width))
    rows = unit_rows(n, width, seed, kind)
    rng = np.random.default_rng(seed + 1)
    raw = rng.standard_normal((m, width)).astype(np.float32)
    raw[0] = rows[rng.integers(n)]
    allowed = rng.random(n) < 0.7 if data.draw(st.booleans()) else None
    assert_defined(engine, rows, dim, vectors.truncate(raw, dim), k, precision, allowed)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 100, 700])
def test_many_blocks_give_the_defined_answer(engine, kind, k, precision, monkeypatch):
    monkeypatch.setattr(numpy_engine, "BLOCK_ROWS", 64)
    monkeypatch.setattr(numpy_engine, "BLOCK_SCORES", 600)
    monkeypatch.setattr(scheduling, "LEAST_BYTES", 1000)
    monkeypatch.setattr(scheduling, "CHUNK_BYTES", 4000)
    rows = unit_rows(700, 48, 3, kind)
    queries = vectors.truncate(rows[[5, 600]] + np.float32(0.01), 48)
    assert_defined(engine, rows, 48, queries, k, precision)
    assert_defined(engine, rows, 20, vectors.truncate(queries, 20), k, precision)


@pytest.mark.parametrize("kind", ["plain", "outliers", "near ties"])
@pytest.mark.parametrize("dim", [64, 128, 256, 300, 512, 768])
def test_every_dimension_is_exact_and_few_rows_are_rescored(engine, kind, dim):
    rows = unit_rows(4000, 768, dim, kind)
    queries = vectors.truncate(unit_rows(3, 768, 1, "plain") + rows[:3] * np.float32(0.3), dim)
    result = assert_defined(engine, rows, dim, queries, 10)
    if engine.name == "numba" and kind != "near ties":
        assert result.by == "int8"  # four bits leave too many rows that lie in all directions
        assert 3 * 10 <= result.rescored <= 3 * 4000 * base.TOO_MANY


@pytest.mark.parametrize("m", [1, 3, 4])
@pytest.mark.parametrize("dim", [96, 300])
def test_an_exact_scan_begins_with_four_bits_where_rows_lie_in_few_directions(engine, m, dim, monkeypatch):
    monkeypatch.setattr(numba_engine, "WORTH_FOUR_BITS", 0)
    rng = np.random.default_rng(dim)
    rows = (rng.standard_normal((6001, 12)) @ rng.standard_normal((12, dim))).astype(np.float32)
    rows = vectors.normalise(rows + np.float32(0.5))
    queries = vectors.normalise(rows[-m:] + np.float32(0.02) * rows[:m])
    result = assert_defined(engine, rows, dim, queries, 10)
    if engine.name == "numba":
        assert result.by == ("4bit" if m < scheduling.FEW else "int8")
        assert 10 * m <= result.rescored < 6001 * m // 50
    assert_defined(engine, rows, dim, queries, 10, allowed=rng.random(6001) < 0.01)


def test_where_too_many_rows_survive_the_floats_are_read(engine):
    rows = unit_rows(6000, 64, 0, "near ties")
    result = assert_defined(engine, rows, 64, rows[:2], 10)
    assert result.by == "float32"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_query_and_a_batch_agree_bit_for_bit(engine, precision):
    rows = unit_rows(5000, 96, 0, "duplicates")
    queries = vectors.truncate(np.random.default_rng(1).standard_normal((67, 96)).astype(np.float32), 64)
    view = view_of(rows, 64)
    together = engine.scan(Parts([view]), queries, precision, 10).top
    for i in range(len(queries)):
        alone = engine.scan(Parts([view]), queries[i : i + 1], precision, 10).top
        np.testing.assert_array_equal(alone.rows[0], together.rows[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_equal_rows_come_in_order_of_row(engine):
    rows = np.tile(unit_rows(1, 768, 0, "plain"), (2000, 1))
    for precision in PRECISIONS:
        top = engine.scan(Parts([view_of(rows, 768)]), rows[:1], precision, 10).top
        assert top.rows[0].tolist() == list(range(10))
        assert len(set(top.scores[0].tolist())) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [7, 40, 64, 96])
def test_given_rows_get_the_scores_that_a_scan_gives_them(engine, precision, dim):
    rows = unit_rows(300, 96, dim, "zeros")
    view = view_of(rows, dim)
    queries = vectors.truncate(unit_rows(9, 96, 2, "plain"), dim)
    top = engine.scan(Parts([view]), queries, precision, 300).top
    asked = np.sort(np.concatenate([top.rows[:, :50], np.full((9, 2), NO_ROW)], axis=1), axis=1)
    asked[:, -1] = 300  # beyond the last row
    best = engine.rescore(Parts([view]), queries, precision, asked, 60).top
    for i in range(9):
        real = set(asked[i].tolist()) - {NO_ROW, 300}
        scored = zip(top.rows[i], top.scores[i], strict=True)
        expected = [(row, score) for row, score in scored if row in real]
        assert best.rows[i].tolist() == [row for row, _ in expected] + [NO_ROW] * (60 - len(expected))
        assert best.scores[i, : len(expected)].tolist() == [score for _, score in expected]
        assert np.isneginf(best.scores[i, len(expected) :]).all()


def test_rows_that_a_sample_promised_in_vain_are_found_by_a_second_scan(engine):
    rows = unit_rows(70 * 64, 24, 1, "plain")
    query = vectors.truncate(rows[-1:], 24)
    blocks = np.arange(len(rows)) // 64
    rows[blocks % 32 == 0] += 3 * query  # the sample of a scan
    assert_defined(engine, vectors.normalise(rows), 24, query, 350, "1bit")
    queries = np.concatenate([query, unit_rows(5, 24, 2, "plain")])
    assert_defined(engine, vectors.normalise(rows), 24, queries, 350, "1bit")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "later"), [(24, 48), (48, 48), (40, 48)])
@pytest.mark.parametrize("keep", [30, 700])
def test_a_narrowing_gives_what_a_scan_and_a_rescore_give(engine, kind, dim, later, keep):
    rows = unit_rows(3000, 48, 4, kind)
    mean, allowed = mean_of(rows), np.random.default_rng(5).random(1000) < 0.4

    def parts_at(dim):
        return Parts([view_of(rows[:2000], dim, None, mean), view_of(rows[2000:], dim, allowed, mean)])

    first, last = parts_at(dim), parts_at(later)
    assert engine.narrowing(first, keep, last, 10) is None  # the first query makes the tables
    raw = 7 * rows[[5]] + np.float32(0.1)
    kept = engine.scan(first, engine.truncate(raw, dim), "1bit", keep)
    kept.top.rows.sort(axis=1)
    expected = engine.rescore(last, engine.truncate(raw, later), "exact", kept.top.rows, 10)
    narrowing = engine.narrowing(first, keep, last, 10)
    if engine.name == "numpy":
        assert narrowing is None
        return
    (scan, seconds), (rescore, more_seconds) = narrowing(raw)
    np.testing.assert_array_equal(rescore.top.rows, expected.top.rows)
    np.testing.assert_array_equal(rescore.top.scores, expected.top.scores)
    assert (scan.read, scan.by, scan.rescored) == (kept.read, "1bit", 0)
    assert (rescore.read, rescore.by, rescore.rescored) == (expected.read, "int8", expected.rescored)
    assert 0 < seconds < 1 > more_seconds > 0
    raw[0, 3] = np.inf
    assert narrowing(raw) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 5, 30])
def test_given_rows_that_their_codes_rule_out_change_nothing(engine, kind, k):
    rows = unit_rows(700, 96, 4, kind)
    view, floats = view_of(rows, 96), View(rows, 96)
    queries = vectors.truncate(unit_rows(9, 96, 2, "plain"), 96)
    queries[0] = rows[5]
    given = np.sort(np.random.default_rng(0).permuted(np.tile(np.arange(-1, 705), (9, 1)), axis=1)[:, :400])
    result = engine.rescore(Parts([view]), queries, "exact", given, k)
    plain = engine.rescore(Parts([floats]), queries, "exact", given, k)
    np.testing.assert_array_equal(result.top.rows, plain.top.rows)
    np.testing.assert_array_equal(result.top.scores, plain.top.scores)
    if result.by == "int8" and kind == "plain":
        assert 9 * k <= result.rescored < plain.rescored / 3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_that_are_not_allowed_are_not_found(engine, precision):
    rows = unit_rows(300, 32, 0, "plain")
    allowed = np.zeros(300, bool)
    allowed[[7, 150, 299]] = True
    top = engine.scan(Parts([view_of(rows, 32, allowed)]), rows[:1], precision, 5).top
    assert set(top.rows[0].tolist()) == {7, 150, 299, NO_ROW}


def test_without_tiers_exact_reads_the_floats_and_rough_says_what_to_do(engine):
    rows = unit_rows(3000, 64, 0, "plain")
    assert engine.scan(Parts([View(rows, 64)]), rows[:1], "exact", 5).by == "float32"
    for precision in ("int8", "1bit"):
        with pytest.raises(UsageError, match="`warm`"):
            engine.scan(Parts([View(rows, 64)]), rows[:1], precision, 5)


def test_the_margin_bounds_what_float32_loses():
    for dim in (1, 8, 300, 768):
        rows = unit_rows(4000, 768, dim, "outliers")
        view = View(rows, dim)
        query = vectors.truncate(rows[:1] * np.float32(0.7) + np.float32(0.01), dim)
        fast = (rows[:, :dim] @ query[0]) * (1 if not view.is_cut else view.scale_and_short[0])
        exact = view.defined_scores(query[0], np.arange(4000))
        assert np.abs(fast.astype(np.float64) - exact).max() <= margin(view)


def test_the_rows_are_never_written(engine):
    rows = unit_rows(100, 32, 0, "plain")
    rows.flags.writeable = False
    for precision in PRECISIONS:
        engine.scan(Parts([view_of(rows, 16)]), vectors.truncate(rows[:2], 16), precision, 5)
