"""Measurements as a table that reads like timeit, and as CSV."""

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from resizable_search.cli.tables import Column, fitted, show_table, side_by_side, stdout_console

if TYPE_CHECKING:
    from resizable_search.evaluate.bench import BenchReport, Measurement
    from resizable_search.evaluate.relevance import EvaluatedPlan

FEW = 20
"""Of fewer calls than this, a 95th and a 99th percentile are not told."""

LEAST_NEEDED = ("best", "p95", "s per run", "p50", "p99 ms", "× full")
"""What a table that is too wide for its terminal leaves out, in this order."""


def bench(report: "BenchReport", console: Console | None = None) -> None:
    """The measurements as a table that reads like timeit."""
    console = console or stdout_console()
    columns, gap = fitted(bench_columns(report), console.width, LEAST_NEEDED)
    console.print(Text(bench_title(report)))
    show_table(side_by_side(columns, gap), console)
    console.print(Text(bench_footer(report), style="dim"))


def bench_title(report: "BenchReport") -> str:
    """What was measured, in one line."""
    asked = report.queries
    which = many(asked.count, "query", "queries")
    if asked.seed is not None:
        which = f"{asked.count} of its own rows as {'query' if asked.count == 1 else 'queries'}"
    counts = list(dict.fromkeys(m.threads for m in report.measurements))
    threads = many(counts[0], "thread", "threads") if len(counts) == 1 else f"{_listed(counts)} threads"
    return (
        f"{report.index} · {report.rows:,} × {report.full_dim} · k {report.k} · {which} · {threads} · "
        f"{report.cache}"
    )


def bench_columns(report: "BenchReport") -> list[Column]:
    """All that is told of each measurement. What is the same for all of them has no column."""
    measured = report.measurements
    # The same decimals in every row, so that points stand under points.
    decimals = 2 if max(m.p99_ms for m in measured) < 100 else 1
    full = str(report.full_dim)
    columns = ways(measured, report.k, report.full_dim)
    for name, values in (
        ("batch", [m.batch for m in measured]),
        ("threads", [m.threads for m in measured]),
    ):
        if len(set(values)) > 1 or (name == "batch" and values[0] > 1):
            columns.append(Column(name, tuple(f"{value:,}" for value in values)))
    columns += [
        Column("s per run", tuple(f"{m.seconds_per_run:.6f}" for m in measured)),
        Column("best", tuple(f"{m.best_seconds_per_run:.6f}" for m in measured)),
        Column("runs/s", tuple(f"{m.runs_per_second:,.1f}" for m in measured)),
    ]
    enough = [m.calls >= FEW for m in measured]
    p50, p95, p99 = (
        tuple(f"{ms:.{decimals}f}" for ms in values)
        for values in zip(*((m.p50_ms, m.p95_ms, m.p99_ms) for m in measured), strict=True)
    )
    if any(enough):
        columns.append(Column("p50", p50))
        for name, cells in (("p95", p95), ("p99 ms", p99)):
            told = tuple(cell if of_many else "–" for cell, of_many in zip(cells, enough, strict=True))
            columns.append(Column(name, told))
    else:
        columns.append(Column("p50 ms", p50))
    return [
        *columns,
        Column("× full", tuple(f"{m.speedup:.1f}" for m in measured)),
        Column(f"overlap@{report.k}", tuple(overlap_cell(m, full) for m in measured), left=True),
    ]


def ways(measured: "Sequence[Measurement | EvaluatedPlan]", k: int, full: int) -> list[Column]:
    """What was measured: dimensions and reranks where these say it whole, else plans."""
    if all(m.plan in (str(m.dim), f"{m.dim}:{(m.rerank or 0) * k},{full}") for m in measured):
        return [
            Column("dim", tuple(str(m.dim) for m in measured)),
            Column("rerank", tuple(f"×{m.rerank}" if m.rerank else "–" for m in measured)),
        ]
    return [Column("plan", tuple(m.plan for m in measured), left=True)]


def bench_footer(report: "BenchReport") -> str:
    """How to read the table, in a few lines."""
    asked, measured = report.queries, report.measurements
    lines = [
        f"queries: rows of seed {asked.seed}, each left out of its own answers"
        if asked.seed is not None
        else f"queries: {asked.source}, embedded in {asked.embed_seconds:.2f} s (not counted)"
    ]
    lines[0] += f"; engine: {report.engine}"
    counts = sorted({m.repeats for m in measured})
    repeats = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    interval = ", 95 % interval" if measured[0].overlap_ci else ""
    overlap = f"overlap with the full dimension{interval}"
    if report.cold_stayed is None:
        lines.append(f"s per run: median of {repeats} repeats; {overlap}")
    else:
        lines += [
            f"s per run: median of {repeats} cold runs; {overlap}",
            "cold: before each run the index was opened anew and its files dropped from the page cache "
            f"(posix_fadvise); {report.cold_stayed * 100:.1f} % of them stayed",
        ]
    if any(m.batch > 1 for m in measured):
        lines.append("batch: s per run and runs/s are by query, p50 to p99 are what the whole batch takes")
    if report.cold_stayed is None and any(m.calls < FEW for m in measured):
        lines.append(f"no p95 and p99: of fewer than {FEW} calls they would mean nothing")
    return "\n".join(lines)


def bench_csv(report: "BenchReport") -> None:
    """The measurements as CSV with a header; an interval that there is not is empty."""
    rows = []
    for m in report.measurements:
        row = asdict(m)
        row["overlap_low"], row["overlap_high"] = row.pop("overlap_ci") or (None, None)
        rows.append(row)
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def overlap_cell(m: "Measurement | EvaluatedPlan", full: str) -> str:
    """An overlap with its interval, which that of the full dimension with itself does not need."""
    if m.plan == full or m.overlap_ci is None:
        return f"{m.overlap:.3f}"
    low, high = m.overlap_ci
    return f"{m.overlap:.3f} ± {max(m.overlap - low, high - m.overlap):.3f}"


def many(count: int, one: str, more: str) -> str:
    """`1 query`, `1,234 queries`."""
    return f"{count:,} {one if count == 1 else more}"


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
