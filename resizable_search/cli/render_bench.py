"""Measurements as a table that reads like timeit, and as CSV."""

import csv
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resizable_search.cli.render import one_line, show_table, stdout_console
from resizable_search.wording import counted

if TYPE_CHECKING:
    from resizable_search.bench import BenchReport, Measurement

WIDE = 88
"""Columns from which the table stands with two spaces between its own."""


def bench(report: "BenchReport", console: Console | None = None) -> None:
    """The measurements as a table that reads like timeit."""
    console = console or stdout_console()
    console.print(Text(bench_title(report)))
    show_table(bench_table(report, wide=console.width >= WIDE), console)
    console.print(Text(bench_footer(report), style="dim"))


def bench_title(report: "BenchReport") -> str:
    """What was measured, in one line."""
    asked = report.queries
    queries = "query" if asked.count == 1 else "queries"
    which = (
        f"{asked.count} of its own rows as {queries}"
        if asked.seed is not None
        else f"{asked.count} {queries}"
    )
    threads = counted(report.threads, "thread")
    return (
        f"{report.index} · {report.rows:,} × {report.full_dim} · k {report.k} · {which} · {threads} · "
        f"{report.cache}"
    )


def bench_table(report: "BenchReport", *, wide: bool = True) -> Table:
    """A row for each measurement; `s per run` is the median of timeit's repeats, `best` the least."""
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold")
    names = ("dim", "rerank", "s per run", "best", "runs/s", "p50", "p95", "p99 ms", "× full")
    # What a line is of stays on it, however narrow the terminal is.
    kept = {"dim": max(3, len(str(report.full_dim))), "rerank": 6}
    for name in names:
        table.add_column(one_line(name), justify="right", no_wrap=name in kept, min_width=kept.get(name))
    table.add_column(one_line(f"overlap@{report.k}"))
    # The same decimals in every row, so that points stand under points.
    decimals = 2 if max(m.p99_ms for m in report.measurements) < 100 else 1
    for m in report.measurements:
        cells = (
            str(m.dim),
            f"×{m.rerank}" if m.rerank else "–",
            f"{m.seconds_per_run:.6f}",
            f"{m.best_seconds_per_run:.6f}",
            f"{m.runs_per_second:,.1f}",
            *(f"{ms:.{decimals}f}" for ms in (m.p50_ms, m.p95_ms, m.p99_ms)),
            f"{m.speedup:.1f}",
            _overlap(m, report.full_dim),
        )
        table.add_row(*map(one_line, cells))
    return table


def _overlap(m: "Measurement", full: int) -> str:
    if m.dim == full:
        return "1.000"
    low, high = m.overlap_ci
    return f"{m.overlap:.3f} ± {max(m.overlap - low, high - m.overlap):.3f}"


def bench_footer(report: "BenchReport") -> str:
    """How to read the table, in two lines."""
    asked = report.queries
    own = asked.seed is not None
    where = (
        f"queries: rows drawn with seed {asked.seed}, each left out of its own answers"
        if own
        else f"queries: {asked.source}, embedded in {asked.embed_seconds:.2f} s (not counted)"
    )
    repeats = report.measurements[0].repeats
    return f"{where}\ns per run: median of {repeats} repeats; overlap with the full dimension, 95 % interval"


def bench_csv(report: "BenchReport") -> None:
    """The measurements as CSV with a header."""
    rows = []
    for m in report.measurements:
        row = asdict(m)
        row["overlap_low"], row["overlap_high"] = row.pop("overlap_ci")
        rows.append(row)
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
