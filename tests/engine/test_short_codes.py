"""Codes of one and four bits: the kernels of every kind of processor, and the selection of the best."""

import numpy as np
import pytest

from resizable_search.engine import numba_engine, short_codes, vectors
from resizable_search.engine.base import ordered, select
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.short_codes import CODE_ROWS
from tests.engine.test_engines import mean_of, unit_rows
from tests.support import one_bit_scores


def view_of(rows, dim, allowed=None):
    return View(rows, dim, allowed, one_bit=short_codes.one_bit(rows, mean_of(rows)))


@pytest.mark.parametrize("features", ["+avx512vbmi", "+avx512bw", "+avx2", "plain"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("dim", [3, 24, 90, 112, 121])
def test_every_kind_of_processor_gives_the_same_scores(monkeypatch, features, count, dim):
    from llvmlite.binding import get_host_cpu_features
    from numba import njit

    from resizable_search.engine.kernels import lookup

    if features != "plain" and features not in get_host_cpu_features().flatten():
        pytest.skip(f"this processor lacks {features}")
    monkeypatch.setattr(lookup, "FEATURES", features)
    look_up = lookup.plain_look_up(count) if features == "plain" else lookup._in_registers(count)
    lines, m = -(-dim // 8), count + 1
    rows, queries = unit_rows(128, dim, 0, "outliers"), unit_rows(m, dim, 1, "plain")
    codes, tables = short_codes.one_bit(rows, mean_of(rows)), lookup.new_tables(m, lines, "vbmi" in features)
    totals, bounds = np.empty(m, np.float32), np.empty(m, np.float32)
    lookup.make_tables(queries, dim, tables, totals)
    meant = np.stack([one_bit_scores(rows[64:], mean_of(rows), query) for query in queries])
    bounds[:] = np.median(meant, axis=1)

    @njit
    def run(address, step, keys, masks):
        look_up(address, step, lines, tables, 1, totals, bounds, keys, masks)

    keys, masks = np.empty((count, CODE_ROWS), np.float32), np.empty(count, np.uint64)
    run(codes[1].ctypes.data, codes[0].nbytes, keys, masks)
    np.testing.assert_array_equal(keys, meant[1:])
    reaches = [[int(mask) >> i & 1 for i in range(CODE_ROWS)] for mask in masks]
    np.testing.assert_array_equal(np.array(reaches, bool), meant[1:] >= bounds[1:, None])


@pytest.mark.parametrize("features", ["+avx512bw", "+avx2", "plain"])
@pytest.mark.parametrize("dim", [7, 128, 300])
def test_every_kind_of_processor_multiplies_four_bits_alike(monkeypatch, features, dim):
    from llvmlite.binding import get_host_cpu_features
    from numba import njit

    from resizable_search.engine.kernels import basics, four_bit

    if features != "plain" and features not in get_host_cpu_features().flatten():
        pytest.skip(f"this processor lacks {features}")
    for module in (basics, four_bit):
        monkeypatch.setattr(module, "FEATURES", features)
    rng, width = np.random.default_rng(0), short_codes.four_bit_width(dim)
    codes = rng.integers(0, 256, (9, width), np.uint8)
    queries = rng.integers(-127, 128, (2, 2 * width)).astype(np.int8)
    tile, out = four_bit._tile, np.zeros(6, np.int32)

    @njit
    def run(codes, queries, out):
        tile(codes, 3, queries, 1, out, 2)

    run(codes, queries, out)
    both = np.concatenate([codes & 15, codes >> 4], axis=1).astype(int)
    assert out.tolist() == [0, 0, *(both[3:7] @ queries[1].astype(int)).tolist()]


@pytest.mark.parametrize("k", [1, 20, 3000, 6000])
@pytest.mark.parametrize("dim", [33, 64])
def test_a_sample_that_promises_too_much_changes_nothing(engine, k, dim):
    """The best rows lie in the only blocks that are sampled first."""
    rows = unit_rows(6400, 64, 0, "plain")
    rows[:12] = vectors.normalise(rows[:1] + 0.01 * rows[:12])
    rows[100:130] = rows[3]
    scores = one_bit_scores(rows, mean_of(rows), vectors.truncate(rows[:1], dim)[0])
    everything = np.arange(len(rows))
    for allowed in (None, np.arange(len(rows)) % 3 > 0):
        may = everything if allowed is None else np.flatnonzero(allowed)
        meant, best = select(scores[may], may, k)
        parts = Parts([view_of(rows, dim, allowed)])
        top = ordered(engine.scan(parts, vectors.truncate(rows[:1], dim), "1bit", k).top)
        assert top.rows[0, : len(best)].tolist() == best.tolist()
        np.testing.assert_array_equal(top.scores[0, : len(best)], meant)
        assert (top.rows[0, len(best) :] == -1).all()


@pytest.mark.parametrize("dim", [1, 20, 33, 40])
def test_codes_of_a_smaller_dimension_are_copied_where_they_are_few(engine, monkeypatch, dim):
    rows = unit_rows(300, 40, 0, "plain")
    queries = vectors.truncate(rows[:2], dim)
    near, far = view_of(rows, dim), view_of(rows, dim)
    monkeypatch.setattr("resizable_search.engine.parts.MOST_COPIED", 0)
    assert far.near_codes is far.codes
    there = ordered(engine.scan(Parts([far]), queries, "1bit", 50).top)
    monkeypatch.undo()
    assert near.near_codes.shape == (5, 2 + -(-dim // 8), CODE_ROWS)
    here = ordered(engine.scan(Parts([near]), queries, "1bit", 50).top)
    np.testing.assert_array_equal(here.rows, there.rows)
    np.testing.assert_array_equal(here.scores, there.scores)


@pytest.mark.parametrize("limit", ["MOST_PACKED", "MOST_LOOKED_UP"])
def test_what_the_kernels_have_no_room_for_is_left_to_numpy(engine, monkeypatch, limit):
    monkeypatch.setattr(numba_engine, limit, 3)
    rows = unit_rows(200, 40, 0, "plain")
    parts, scores = Parts([view_of(rows, 40)]), one_bit_scores(rows, mean_of(rows), rows[7])
    meant, best = select(scores, np.arange(200), 9)
    for result in (
        engine.scan(parts, rows[7:8], "1bit", 9),
        engine.rescore(parts, rows[7:8], "1bit", np.arange(200)[None], 9),
    ):
        top = ordered(result.top)
        assert top.rows[0].tolist() == best.tolist()
        np.testing.assert_array_equal(top.scores[0], meant)
        assert (result.by, result.read) == ("1bit", 200 * 7)


@pytest.mark.parametrize("dim", [1, 5, 8, 768, 3000, 16_000])
def test_small_queries_fit_their_tables_and_sums(dim):
    queries = np.random.default_rng(dim).standard_normal((5, dim)).astype(np.float32)
    queries[1] = 0
    queries[2, 0] = 1e30
    queries[3] = 1
    small = short_codes.small_queries(queries).astype(int)
    assert small.shape == (5, dim + -dim % 8)
    assert not small[:, dim:].any()
    size = np.abs(small).reshape(5, -1, 2, 4).sum(axis=3), np.abs(small).reshape(5, -1, 8)
    fours, sixes, twos = size[0].reshape(5, -1), size[1][:, :, :6].sum(axis=2), size[1][:, :, 6:].sum(axis=2)
    threes = np.add.reduceat(twos, range(0, twos.shape[1], 3), axis=1)
    most = np.concatenate([fours, sixes, threes], axis=1).max(axis=1)
    assert most.max() <= short_codes.table_limit(dim) <= 127
    assert fours.sum(axis=1).max() < 1 << 16
    assert most[[0, 2, 3]].min() >= short_codes.table_limit(dim) - 6
    assert not small[1].any()
