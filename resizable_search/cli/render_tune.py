"""Tuned plans and what was measured to choose them, as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resizable_search.cli.tables import stdout_console

if TYPE_CHECKING:
    from resizable_search.evaluate.tune import TuneReport
    from resizable_search.store.tuned_plans import TunedPlan


def report(found: "TuneReport", console: Console | None = None) -> None:
    """The plan that was chosen, the plans beside it, and how it was proven."""
    console = console or stdout_console()
    tuned = found.tuned
    console.print(
        Text(f"{found.index} · {found.rows:,} × {found.full_dim} · k {tuned.k} · recall {tuned.recall:g}")
    )
    console.print(candidates_table(found), soft_wrap=False)
    if found.remark:
        console.print(Text(found.remark))
    console.print(Text(proof_line(tuned), style="dim"))
    kept = "" if found.not_kept else " · kept in the index"
    console.print(Text(f"rsearch query … --recall {tuned.recall:g}{_k(tuned)}{kept}", style="dim"))


def candidates_table(found: "TuneReport") -> Table:
    """The chosen plan, marked, among those than which none is both faster and better. JSON has all."""
    tuned = found.tuned
    exact = next((c for c in tuned.candidates if c.plan == str(found.full_dim)), None)
    table = _table()
    for name, side in (("", "left"), ("plan", "left"), (f"overlap@{tuned.k}", "left"), ("ms", "right")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("× exact", justify="right", no_wrap=True)
    most = 0.0
    for c in tuned.candidates:
        own = c.plan == tuned.plan
        if c.overlap <= most and not own and c is not exact:
            continue
        most = max(most, c.overlap)
        times = f"{exact.ms / c.ms:.1f}" if exact is not None and c.ms else ""
        cells = ["→" if own else "", c.plan, f"{c.overlap:.4f}", f"{c.ms:.2f}", times]
        table.add_row(*(Text(cell, style="bold" if own else "") for cell in cells))
    return table


def proof_line(tuned: "TunedPlan") -> str:
    """How sure the overlap is, over which queries, and on what it was timed."""
    threads = f"{tuned.engine}, {tuned.threads} thread{'s' if tuned.threads > 1 else ''}"
    if not tuned.queries:
        return f"exact: its overlap is 1 by definition · {threads}"
    drawn = "" if tuned.seed is None else f", seed {tuned.seed}"
    return (
        f"overlap {interval(tuned)}\n"
        f"chosen by {tuned.chosen_on:,} queries, confirmed by {tuned.queries:,} others "
        f"({tuned.source}{drawn}) · {threads}"
    )


def interval(tuned: "TunedPlan") -> str:
    """The overlap and its 95 % interval."""
    low, high = tuned.overlap_ci
    return f"{tuned.overlap:.4f} ({low:.4f} to {high:.4f})"


def plans(name: str, kept: Sequence["TunedPlan"], console: Console | None = None) -> None:
    """The plans that an index keeps."""
    console = console or stdout_console()
    if not kept:
        console.print(Text(f"{name} keeps no tuned plan: measure one with `rsearch tune --recall 0.99`"))
        return
    table = _table()
    for heading in ("k", "recall"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("plan", overflow="fold")
    table.add_column("overlap (95 %)", no_wrap=True)
    for heading in ("ms", "queries"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("on", overflow="fold")
    for tuned in kept:
        exact = not tuned.queries
        table.add_row(
            str(tuned.k),
            f"{tuned.recall:g}",
            tuned.plan,
            "exact" if exact else interval(tuned),
            f"{tuned.ms:.2f}",
            "–" if exact else f"{tuned.queries:,}",
            f"{tuned.measured[:10]} {tuned.engine}",
        )
    console.print(table)


def _k(tuned: "TunedPlan") -> str:
    return "" if tuned.k == 10 else f" -k {tuned.k}"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
