"""The table of `rsearch bench` on terminals of several widths."""

from dataclasses import replace

import pytest

from resizable_search.cli import render_evaluate
from resizable_search.evaluate.bench import BenchReport
from tests.cli.test_render import terminal
from tests.evaluate.test_plots import measured, of_twelve, reported


def shown(report: BenchReport, width: int) -> list[str]:
    with terminal(width) as out:
        render_evaluate.bench(report)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def by_dim(*pairs: tuple[int, int]) -> BenchReport:
    plans = [measured(f"{dim}:{rerank * 10},768" if rerank else str(dim), 100, 0.9) for dim, rerank in pairs]
    return reported(*(replace(m, dim=d, rerank=r) for m, (d, r) in zip(plans, pairs, strict=True)))


def test_dimensions_and_reranks_have_columns_of_their_own():
    lines = shown(by_dim((768, 0), (256, 10)), 88)
    assert lines[1].split()[:2] == ["dim", "rerank"]
    assert lines[3].split()[:2] == ["256", "×10"]
    assert "best ms" in lines[1]


@pytest.mark.parametrize("width", [80, 100, 120, 10_000])
def test_no_row_is_cut_off_or_runs_over(width: int):
    report = of_twelve()
    many = [replace(m, batch=batch, threads=2) for batch in (1, 1000) for m in report.measurements]
    for one in (report, replace(report, measurements=many)):
        lines = shown(one, width)
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
        for name in ("plan", "ms/query", "p99 ms", "× full", "overlap@10"):
            assert name in lines[1] + lines[2]
        plans = "".join("".join(line.split(" ")[:2]) for line in lines)
        for m in report.measurements:
            assert m.plan in plans


def test_a_long_plan_is_broken_behind_a_comma_on_a_narrow_terminal():
    lines = shown(of_twelve(), 80)
    first = next(i for i, line in enumerate(lines) if line.startswith("768:bits:400,"))
    assert lines[first].split()[0] == "768:bits:400,"
    assert lines[first + 1].strip() == "768:int8:30,768"
    assert "768:bits:400,768:int8:30,768" in "".join(shown(of_twelve(), 120))


def test_batches_and_threads_are_told_where_they_differ():
    report = by_dim((768, 0), (768, 0))
    one, many = report.measurements
    lines = shown(replace(report, measurements=[one, replace(many, batch=1000, threads=1)]), 120)
    assert " · 2, 1 threads · " in lines[0]
    assert lines[1].split()[:4] == ["dim", "rerank", "batch", "threads"]
    assert lines[3].split()[:4] == ["768", "–", "1,000", "1"]
    assert any(line.startswith("batch: ") for line in lines)
    assert "batch" not in "".join(shown(report, 120))


def test_percentiles_of_few_calls_are_not_told():
    report = by_dim((768, 0), (256, 0))
    full, few = report.measurements
    lines = shown(replace(report, measurements=[full, replace(few, calls=19)]), 120)
    assert lines[3].split().count("–") == 4  # × full too: the times are alike
    assert "no p95 and p99: " in lines[-2]
    cold = replace(report, cache="cold", cold_stayed=0.015, measurements=[replace(full, calls=5)])
    lines = shown(cold, 120)
    assert "p95" not in "".join(lines)
    assert "p50 ms" in lines[1]
    assert "1.5 % of them stayed" in " ".join(lines)


def test_times_are_compared_where_the_ranges_of_their_repeats_do_not_overlap():
    report = by_dim((768, 0), (256, 0), (128, 0))
    full, near, fast = report.measurements
    fast = replace(fast, worst_seconds_per_run=full.best_seconds_per_run / 2, speedup=2.0)
    lines = shown(replace(report, measurements=[full, near, fast]), 120)
    at = lines[1].index("× full")
    assert [line[at : at + 6].strip() for line in lines[2:5]] == ["1.0", "–", "2.0"]


def test_the_last_line_advises_the_cheapest_setting_that_kept_nearly_all():
    report = by_dim((768, 0), (256, 0), (256, 10), (64, 10))
    full, lossy, good, least = report.measurements
    good = replace(good, overlap=0.995, bytes_per_run=400)
    assert shown(replace(report, measurements=[full, lossy]), 120)[-1].startswith(
        "advice: search the full dim"
    )
    alike = replace(
        report, measurements=[replace(full, overlap=1.0), lossy, good, replace(least, overlap=0.9)]
    )
    assert shown(alike, 120)[-1] == (
        "advice: --dim 256 --rerank 10 kept 99.5 % here, with 40 % of the bytes and about the same time"
    )
    fast = replace(good, plan="256:bits:100,768", seconds_per_run=0.005, worst_seconds_per_run=0.006)
    faster = replace(alike, measurements=[alike.measurements[0], good, fast])
    assert shown(faster, 120)[-1] == (
        "advice: --plan 256:bits:100,768 kept 99.5 % here, with 40 % of the bytes and 50 % of the time"
    )


def test_a_small_index_says_from_which_size_on_dimensions_pay():
    lines = shown(replace(by_dim((768, 0), (256, 0)), pays_from=12_345), 120)
    assert "a small index: from about 10,000 rows on, 256 dimensions save a quarter of the time" in lines


def test_one_query_has_no_interval():
    report = by_dim((768, 0), (256, 0))
    single = [replace(m, overlap_ci=None) for m in report.measurements]
    lines = shown(replace(report, measurements=single), 120)
    assert "±" not in "".join(lines)
    assert "interval" not in "".join(lines)
    assert lines[3].endswith("0.900")
