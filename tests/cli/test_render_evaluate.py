"""The table of `rsearch bench` on terminals of several widths."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from resizable_search.cli import render_evaluate
from resizable_search.evaluate.bench import BenchReport
from tests.evaluate.test_plots import measured, of_twelve, reported


def shown(report: BenchReport, width: int) -> list[str]:
    out = io.StringIO()
    render_evaluate.bench(report, Console(file=out, width=width, highlight=False, markup=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def by_dim(*pairs: tuple[int, int]) -> BenchReport:
    plans = [measured(f"{dim}:{rerank * 10},768" if rerank else str(dim), 100, 0.9) for dim, rerank in pairs]
    return reported(*(replace(m, dim=d, rerank=r) for m, (d, r) in zip(plans, pairs, strict=True)))


def test_dimensions_and_reranks_have_columns_of_their_own():
    lines = shown(by_dim((768, 0), (256, 10)), 88)
    assert lines[1].split()[:2] == ["dim", "rerank"]
    assert lines[3].split()[:2] == ["256", "×10"]
    assert "best" in lines[1]


@pytest.mark.parametrize("width", [80, 100, 120, 10_000])
def test_no_row_is_cut_off_or_runs_over(width: int):
    report = of_twelve()
    many = [replace(m, batch=batch, threads=2) for batch in (1, 1000) for m in report.measurements]
    for one in (report, replace(report, measurements=many)):
        lines = shown(one, width)
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
        for name in ("plan", "runs/s", "p99 ms", "× full", "overlap@10"):
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
    assert lines[3].split().count("–") == 3
    assert "no p95 and p99: " in lines[-1]
    cold = replace(report, cache="cold", cold_stayed=0.015, measurements=[replace(full, calls=5)])
    lines = shown(cold, 120)
    assert "p95" not in "".join(lines)
    assert "p50 ms" in lines[1]
    assert "1.5 % of them stayed" in " ".join(lines)


def test_one_query_has_no_interval():
    report = by_dim((768, 0), (256, 0))
    single = [replace(m, overlap_ci=None) for m in report.measurements]
    lines = shown(replace(report, measurements=single), 120)
    assert "±" not in "".join(lines)
    assert "interval" not in "".join(lines)
    assert lines[3].endswith("0.900")
