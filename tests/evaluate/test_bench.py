from dataclasses import replace

import numpy as np
import pytest

from resizable_search import system as threads
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate import bench, timing
from resizable_search.evaluate.bench import (
    BenchOptions,
    Queries,
    overlap_at_k,
    run_bench,
    sample_queries,
    text_queries,
)
from tests.support import index_of

FULL = 96


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rows = np.random.default_rng(0).standard_normal((300, FULL)).astype(np.float32)
    with index_of(rows, tmp_path_factory.mktemp("home"), dims=(16, 64, FULL)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Figures are not what is tested."""
    for name, value in {"LOOP_SECONDS": 0.001, "SECONDS": 0.01, "LONGEST": 0.02, "ENOUGH": 4}.items():
        monkeypatch.setattr(timing, name, value)


def rows_of(*lists):
    return [np.array(rows, np.int64) for rows in lists]


def test_overlap_is_the_mean_share_with_its_interval():
    mean, (low, high) = overlap_at_k(rows_of([1, 2], [3, 4], [5, 6]), rows_of([2, 1], [3, 9], [8, 9]))
    assert mean == pytest.approx(0.5)
    assert (low, high) == (0.0, 1.0)
    assert overlap_at_k(rows_of([1, 2]), rows_of([1, 7])) == (0.5, None)


def test_the_share_of_nothing_is_whole():
    assert overlap_at_k(rows_of([], []), rows_of([], [])) == (1.0, (1.0, 1.0))


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (10**9, 0), (5, -1)])
def test_a_senseless_sample_is_refused(index, count, seed):
    with pytest.raises(UsageError, match="`seed`" if seed else "`sample`"):
        sample_queries(index, count, seed)


@pytest.mark.parametrize(
    ("options", "plans"),
    [
        ({}, "96 64 16"),
        ({"dims": (64,)}, "96 64"),
        ({"dims": (96, 64), "reranks": (0, 3)}, "96 64 64:30,96"),
        (
            {"dims": (96, 64), "precisions": ("exact", "float32", "int8", "bits")},
            "96 96:float32 96:int8:100,96 96:bits:100,96 64 64:float32 64:int8:100,96 64:bits:100,96",
        ),
        ({"dims": (64,), "precisions": ("bits",), "reranks": (0,)}, "96 64:bits:100,96"),
        ({"dims": (64,), "reranks": (3,), "k": 4}, "96 64 64:30,96"),
        ({"dims": (64,), "precisions": ("int8",), "reranks": (2, 5)}, "96 64:int8:20,96 64:int8:50,96"),
        (
            {"dims": (64,), "plans": ("64:exact", "96:bits:40,96:int8:30,96", "16:bits:40,96:float32")},
            "96 64 96:bits:40,96:int8:30,96 16:bits:40,96:float32",
        ),
    ],
    ids=str,
)
def test_the_plans_that_are_measured(options, plans):
    chosen = BenchOptions(**options).check().chosen_plans(FULL, (16, 64, FULL))
    assert [str(plan) for plan in chosen] == plans.split()


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"k": 10**9}, {"batches": (0,)}, {"batches": (1, 10**9)}, {"cold": True, "batches": (2,)}],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(index, options):
    with pytest.raises(UsageError):
        run_bench(index, sample_queries(index, 3), BenchOptions(**options))


def test_a_batch_goes_round_the_queries():
    queries = Queries(np.eye(5, FULL, dtype=np.float32), "made", np.arange(5), texts=tuple("abcde"))
    batches = queries.batches(3)
    assert [batch.own_rows.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 0]]
    assert [batch.texts for batch in batches] == [("a", "b", "c"), ("d", "e", "a")]
    assert [batch.vectors.argmax(axis=1).tolist() for batch in batches] == [[0, 1, 2], [3, 4, 0]]
    assert queries.batches(7)[0].own_rows.tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_every_plan_is_measured_in_each_batch_on_each_number_of_threads(index):
    options = BenchOptions(dims=(16,), plans=("96:bits:40,96:int8:30,96",), batches=(1, 8), threads=(1, 2))
    report = run_bench(index, sample_queries(index, 20), options)
    ways = [(m.threads, m.batch, m.plan) for m in report.measurements]
    plans = ("96", "16", "96:bits:40,96:int8:30,96")
    assert ways == [(threads, batch, plan) for threads in (1, 2) for batch in (1, 8) for plan in plans]
    assert report.threads == 2
    assert {m.engine for m in report.measurements} == {report.engine}
    assert [m.rerank for m in report.measurements[:3]] == [0, 0, None]
    for i, m in enumerate(report.measurements):
        full = report.measurements[i - i % 3]
        assert m.speedup == pytest.approx(full.seconds_per_run / m.seconds_per_run)
        assert m.overlap == report.measurements[i % 3].overlap
    assert report.measurements[0].overlap == 1
    assert report.measurements[0].overlap_ci == (1, 1)


def test_what_a_query_reads_is_measured_and_a_small_index_says_how_large_it_would_have_to_be(
    index, monkeypatch
):
    monkeypatch.setattr(timing, "PACED", 10_000)
    report = run_bench(index, sample_queries(index, 20), BenchOptions(dims=(64, 16)))
    assert [m.bytes_per_run > 0 for m in report.measurements] == [True] * 3
    assert all(
        m.best_seconds_per_run <= m.seconds_per_run <= m.worst_seconds_per_run for m in report.measurements
    )
    full, *smaller = (
        replace(m, best_seconds_per_run=1e-3, worst_seconds_per_run=1e-3) for m in report.measurements
    )
    monkeypatch.setattr(timing, "scan_pace", lambda *_: 1e-9)
    # 1 ms, of which 300 rows are 0.03: a quarter of the rest is saved on 72 - 16 numbers a row.
    assert bench._pays_from(index, "numpy", [full, *smaller]) == round(0.25 * (1e-3 - 300 * 96e-9) / 56e-9)
    fast = replace(smaller[0], worst_seconds_per_run=1e-4)
    assert bench._pays_from(index, "numpy", [full, fast]) is None
    assert bench._pays_from(index, "numpy", [full]) is None


def test_what_misses_a_target_is_named_once(index):
    options = BenchOptions(dims=(64, 16), batches=(1, 2))
    report = run_bench(index, sample_queries(index, 20), options)
    assert report.missing(0) == []
    assert [m.plan for m in report.missing(1)] == ["64", "16"]


def test_one_query_has_no_interval(index):
    report = run_bench(index, text_queries(index, ["a text"], "a list"), BenchOptions(dims=(16,)))
    assert [m.overlap_ci for m in report.measurements] == [None, None]


def test_queries_that_say_nothing_are_refused_with_what_helps(tmp_path, index):
    zeros = "the rows drawn from made are all zero vectors: give `queries`"
    with index_of(np.zeros((5, 8), np.float32), tmp_path) as empty, pytest.raises(UsageError, match=zeros):
        sample_queries(empty, 3)
    with pytest.raises(UsageError, match="queries.txt has no query: put one a line"):
        text_queries(index, [], "queries.txt")


def test_an_index_of_one_row_loses_nothing(tmp_path):
    with index_of(np.ones((1, 8), np.float32), tmp_path, dims=(4, 8)) as single:
        report = run_bench(single, sample_queries(single))
    assert [m.overlap for m in report.measurements] == [1.0, 1.0]


def test_the_threads_are_numpys_too(index):
    before = threads.blas_threads()
    with bench._on_threads(index, 1, "numpy") as (_, count):
        assert count == threads.blas_threads() == 1
    assert threads.blas_threads() == before


def test_a_slow_call_is_timed_by_itself(monkeypatch):
    monkeypatch.setattr(timing, "SLOW", 0.0)
    timed = timing.time_warm(lambda turn: "numpy", 10)
    assert timed.seconds == timed.calls
    assert (timed.loops, timed.engine, len(timed.calls)) == (1, "numpy", 10)


def cold(index):
    queries = Queries(np.ones((2, FULL), np.float32), "made")
    return run_bench(index, queries, BenchOptions(dims=(16,), cold=True))


def test_cold_runs_find_nothing_in_memory(index, monkeypatch):
    dropped = []
    monkeypatch.setattr(timing, "drop", lambda files: dropped.append(list(files)) or 0.25)
    report = cold(index)
    assert (report.cache, report.cold_stayed) == ("cold", 0.25)
    assert len(dropped) == 2 * timing.COLD_RUNS
    assert {"96.npy", "16.npy", "documents.sqlite"} <= {path.name for path in dropped[0]}
    assert all((m.calls, m.repeats, m.loops) == (5, 5, 1) for m in report.measurements)


def test_files_that_stay_in_memory_are_not_measured_cold(index, monkeypatch):
    monkeypatch.setattr(timing, "drop", lambda files: 0.9)
    with pytest.raises(RsearchError, match="90 % of made's files stay in memory"):
        cold(index)
