"""What people judged relevant and each plan found, as a table, as values for each query, and as TREC runs."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from resizable_search.cli.render_bench import many, overlap_cell, ways
from resizable_search.cli.tables import Column, fitted, show_table, side_by_side, stdout_console
from resizable_search.errors import StorageError
from resizable_search.system import replace_file
from resizable_search.text import counted, quoted

if TYPE_CHECKING:
    from resizable_search.evaluate.relevance import EvaluatedPlan, Evaluation, EvaluationReport, Measured
    from resizable_search.search.index import Index

LOWER, HIGHER = "↓", "↑"
"""Marks of a difference whose interval has no 0 in it."""

DIFFERENCE = "less full, 95 %"
"""The column of the first measure's differences."""

TIME = "ms"

NAMED = 3
"""How many ids a line names."""


def evaluation(report: "EvaluationReport", console: Console | None = None) -> None:
    """The plans as a table, and below it how to read it and what was missing."""
    console = console or stdout_console()
    kept, gap = fitted(columns(report), console.width, least_needed(report))
    console.print(Text(title(report)))
    show_table(side_by_side(kept, gap), console)
    console.print(Text(footer(report), style="dim"))
    for line in missing(report):
        console.print(Text(line))


def title(report: "EvaluationReport") -> str:
    """What was evaluated, in one line."""
    asked = many(report.queries.count, "judged query", "judged queries")
    return f"{report.index} · {report.rows:,} × {report.full_dim} · k {report.k} · {asked}"


def least_needed(report: "EvaluationReport") -> list[str]:
    """What a table that is too wide for its terminal leaves out, in this order; never the first measure."""
    return [TIME, DIFFERENCE, *list(report.plans[0].measures)[:0:-1]]


def columns(report: "EvaluationReport") -> list[Column]:
    """All that is told of each plan."""
    plans, full = report.plans, str(report.full_dim)
    found = ways(plans, report.k, report.full_dim)
    for number, name in enumerate(plans[0].measures):
        values = [plan.measures[name] for plan in plans]
        found.append(Column(name, _marked(values)))
        if not number and len(plans) > 1:
            found.append(Column(DIFFERENCE, tuple(map(_difference, values)), left=True))
    decimals = 2 if max(plan.ms for plan in plans) < 100 else 1
    return [
        *found,
        Column(f"overlap@{report.k}", tuple(overlap_cell(plan, full) for plan in plans), left=True),
        Column(TIME, tuple(f"{plan.ms:.{decimals}f}" for plan in plans)),
    ]


def footer(report: "EvaluationReport") -> str:
    """How to read the table, in a few lines."""
    plans, asked = report.plans, report.queries
    first = next(iter(plans[0].measures))
    lines = [
        f"judgements: {asked.source}; queries embedded in {asked.embed_seconds:.2f} s (not counted); "
        f"engine: {report.engine}"
    ]
    if any(m.difference_ci for plan in plans for m in plan.measures.values()):
        lines += [
            f"less full: {first} less that of the full dimension, and its 95 % interval by paired bootstrap "
            f"({report.resamples:,} draws, seed {report.seed})",
            f"{LOWER} {HIGHER}: lower or higher than at the full dimension, with 0 outside of that interval",
        ]
    lines.append(
        f"overlap@{report.k}: with the full dimension's answer; ms: median of single queries for "
        f"{many(report.k, 'hit', 'hits')}"
    )
    if any(name.startswith("RR") for name in plans[0].measures):
        lines.append("RR: reciprocal rank of the first relevant hit, which is MRR on average")
    if report.by_chunk:
        lines.append("the index holds chunks: of each document, its best one counts")
    depth = max(plan.depth for plan in plans)
    if short := [plan for plan in plans if plan.depth < depth]:
        lines.append(f"measures look at {depth:,} hits, or at those that a plan keeps: {_depths(short)}")
    return "\n".join(lines)


def missing(report: "EvaluationReport") -> list[str]:
    """What was not as it should be with the judgements, a line each."""
    asked, documents = report.queries, report.documents
    lines = []
    if documents.absent:
        lines.append(
            f"{documents.absent:,} of {counted(documents.count, 'judged document')} "
            f"{_are(documents.absent)} not in the index, and cannot be found"
        )
    if count := len(asked.silent):
        lines.append(
            f"{many(count, 'query says', 'queries say')} nothing to the embedder ({_named(asked.silent)}), "
            f"and {'finds' if count == 1 else 'find'} nothing"
        )
    if count := len(asked.hopeless):
        lines.append(
            f"{many(count, 'query has', 'queries have')} no relevant document ({_named(asked.hopeless)}), "
            f"and {'counts' if count == 1 else 'count'} as 0 whatever is found"
        )
    if count := len(asked.unasked):
        lines.append(
            f"{many(count, 'query is', 'queries are')} judged without a text ({_named(asked.unasked)}), "
            f"and {'counts' if count == 1 else 'count'} nowhere"
        )
    return lines


def write_per_query(found: "Evaluation", path: Path) -> None:
    """The value of each measure for each query under each plan, with tabs between, below a header."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["query", "plan", *found.names])
    writer.writerows([query, plan, *map(repr, values)] for query, plan, values in found.per_query())
    _write(path, text.getvalue(), "--per-query")


def write_runs(found: "Evaluation", index: "Index", folder: Path) -> None:
    """What each plan found, as a run in TREC's form: a file a plan, whose name is the plan's.

    White space in an id is written as in an address, since columns end at it.
    """
    for number, plan in enumerate(found.report.plans):
        lines = [
            f"{_solid(query)} Q0 {_solid(document)} {rank} {score!r} {plan.plan}\n"
            for query, document, rank, score in found.run_of(index, number)
        ]
        path = folder / f"{plan.plan.replace(':', '-').replace(',', '_')}.run"
        _write(path, "".join(lines), "--runs")


def _write(path: Path, content: str, option: str) -> None:
    """Write a file, and the folder that it goes into, in one step. Raises StorageError."""
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content.encode("utf-8", "replace"))
    except OSError as error:
        raise StorageError(
            f"cannot write {path} ({error.strerror}): name another place with {option}"
        ) from None


def _solid(id_: str) -> str:
    return re.sub(r"\s", lambda found: quote(found[0]), id_)


def _marked(values: "Sequence[Measured]") -> tuple[str, ...]:
    marks = [(LOWER if m.difference < 0 else HIGHER) if m.is_certain else "" for m in values]
    return tuple(f"{mark}{m.mean:.3f}" for m, mark in zip(values, marks, strict=True))


def _difference(m: "Measured") -> str:
    if m.difference_ci is None:
        return "–"
    low, high = m.difference_ci
    return f"{_signed(m.difference)} ({_signed(low)} to {_signed(high)})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def _depths(plans: "Sequence[EvaluatedPlan]") -> str:
    shown = [f"{plan.depth:,} of {plan.plan}" for plan in plans[:NAMED]]
    return ", ".join(shown) + (f" and {len(plans) - NAMED:,} more" if len(plans) > NAMED else "")


def _named(ids: Sequence[str]) -> str:
    return ", ".join(map(quoted, ids[:NAMED])) + (", …" if len(ids) > NAMED else "")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
