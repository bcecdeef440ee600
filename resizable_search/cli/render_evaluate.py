"""Tables of `bench`, `tune` and `eval`, and their files: CSV, values by query, and TREC runs."""

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from resizable_search.cli.tables import Column, columns_of, fitted, show, show_table, styled
from resizable_search.evaluate.plots import write_target
from resizable_search.text import counted, listed, quoted

if TYPE_CHECKING:
    from resizable_search.evaluate.bench import BenchReport, Measurement
    from resizable_search.evaluate.relevance import EvaluatedPlan, Evaluation, EvaluationReport, MetricValue
    from resizable_search.evaluate.tune import TuneReport
    from resizable_search.evaluate.tune_mode import ModeReport
    from resizable_search.search.index import Index
    from resizable_search.store.tuned_plans import TunedPlan

ENOUGH_CALLS = 20  # fewer calls than this have no 95th and 99th percentile

LEAST_NEEDED = ("best ms", "p95 ms", "p50 ms", "queries/s", "p99 ms", "× full", "ms/query")
"""Columns of `bench` that a narrow terminal leaves out, in this order."""

LOWER, HIGHER = "↓", "↑"  # marks of a difference whose interval excludes 0
DIFFERENCE = "less full, 95 %"  # the column of the first metric's differences
NAMED = 3  # how many ids a line names


def bench(report: "BenchReport") -> None:
    """Print the measurements as a table that reads like timeit."""
    _print(report.title, fitted(bench_columns(report), LEAST_NEEDED), bench_footer(report))


def evaluation(report: "EvaluationReport") -> None:
    """Print the plans as a table, below it how to read it, and what the qrels and the index lack."""
    table = fitted(eval_columns(report), eval_least_needed(report))
    _print(report.title, table, eval_footer(report))
    for line in missing(report):
        show(line)


def _print(title: str, table: Sequence[Column], footer: Sequence[str]) -> None:
    show(title)
    show_table(table)
    for line in footer:
        show(line, "dim")


def bench_columns(report: "BenchReport") -> list[Column]:
    """A column for each figure; batch and threads only where they differ."""
    measured = report.measurements
    columns = plan_columns(measured)
    for name in ("batch", "threads"):
        values = [getattr(m, name) for m in measured]
        if len(set(values)) > 1 or (name == "batch" and values[0] > 1):
            columns.append(Column(name, [f"{value:,}" for value in values]))
    columns += [
        Column("ms/query", [f"{m.seconds_per_run * 1e3:.3f}" for m in measured]),
        Column("best ms", [f"{m.best_seconds_per_run * 1e3:.3f}" for m in measured]),
        Column("queries/s", [f"{m.runs_per_second:,.0f}" for m in measured]),
        Column("p50 ms", [f"{m.p50_ms:.2f}" for m in measured]),
    ]
    has_tails = any(m.calls >= ENOUGH_CALLS for m in measured)
    for heading, name in (("p95 ms", "p95_ms"), ("p99 ms", "p99_ms")) if has_tails else ():
        cells = [f"{getattr(m, name):.2f}" if m.calls >= ENOUGH_CALLS else "–" for m in measured]
        columns.append(Column(heading, cells))
    speedups = [f"{m.speedup:.1f}" if _is_comparable(m, report.full(m)) else "–" for m in measured]
    return [
        *columns,
        Column("× full", speedups),
        overlap_column(measured, report.k, report.full_dim),
    ]


def _is_comparable(m: "Measurement", full: "Measurement") -> bool:
    """Whether the ranges of the repeats of two measurements have nothing in common."""
    return m is full or m.is_faster(full) or full.is_faster(m)


def advice(report: "BenchReport") -> str:
    """One line: the cheapest setting that kept nearly all hits here, and what it saves."""
    full, best = report.measurements[0], report.cheapest
    if best is full:
        return "advice: search the full dimension; nothing cheaper that was measured kept 99 % here"
    way = f"--plan {best.plan}"
    if best.rerank is not None and not any(map(str.isalpha, best.plan)):
        way = f"--dim {best.dim}" + (f" --rerank {best.rerank}" if best.rerank else "")
    time = "about the same time"
    if best.is_faster(full):
        time = f"{best.seconds_per_run / full.seconds_per_run * 100:.0f} % of the time"
    share = f"{best.bytes_per_run / max(1, full.bytes_per_run) * 100:.0f} % of the bytes"
    return f"advice: {way} kept {best.overlap * 100:.1f} % here, with {share} and {time}"


def plan_columns(measured: "Sequence[Measurement | EvaluatedPlan]") -> list[Column]:
    """Dimension and rerank where these describe every plan, else the plans."""
    if any(m.rerank is None or any(map(str.isalpha, m.plan)) for m in measured):
        return [Column("plan", [m.plan for m in measured], left=True)]
    return [
        Column("dim", [str(m.dim) for m in measured]),
        Column("rerank", [f"×{m.rerank}" if m.rerank else "–" for m in measured]),
    ]


def overlap_column(measured: "Sequence[Measurement | EvaluatedPlan]", k: int, full: int) -> Column:
    """Overlaps with their intervals; the full dimension has none with itself."""
    cells = []
    for m in measured:
        cell = f"{m.overlap:.3f}"
        if m.plan != str(full) and m.overlap_ci is not None:
            low, high = m.overlap_ci
            cell += f" ± {max(m.overlap - low, high - m.overlap):.3f}"
        cells.append(cell)
    return Column(f"overlap@{k}", cells, left=True)


def bench_footer(report: "BenchReport") -> list[str]:
    """How to read the table."""
    asked, measured, stayed = report.queries, report.measurements, report.cold_stayed
    queries = f"rows of seed {asked.seed}, each left out of its own answers"
    if asked.seed is None:
        queries = f"{asked.source}, embedded in {asked.embed_seconds:.2f} s (not counted)"
    least, most = min(m.repeats for m in measured), max(m.repeats for m in measured)
    repeats = str(most) if least == most else f"{least} to {most}"
    runs = "repeats" if stayed is None else "cold runs"
    lines = [
        f"queries: {queries}; engine: {report.engine}",
        f"ms/query: median of {repeats} {runs}; × full: only where the ranges of the {runs} do not overlap",
        f"overlap@{report.k}: with the full dimension"
        + (", 95 % interval" if measured[0].overlap_ci else ""),
    ]
    if stayed is not None:
        dropped = "each run drops the files from the page cache (posix_fadvise) and reopens the index"
        lines.append(f"cold: {dropped}; {100 * stayed:.1f} % of them stayed")
    if any(m.batch > 1 for m in measured):
        lines.append("batch: ms/query and queries/s count single queries; p50 to p99 are of whole batches")
    if stayed is None and any(m.calls < ENOUGH_CALLS for m in measured):
        lines.append(f"no p95 and p99: they need {ENOUGH_CALLS} calls or more")
    if report.pays_from is not None:
        rows = round(report.pays_from, 1 - len(str(report.pays_from)))
        least = min(m.dim for m in measured if m.plan.isdigit())
        saves = f"{least} dimensions save a quarter of the time"
        lines.append(f"a small index: from about {rows:,} rows on, {saves}")
    return [*lines, advice(report)]


def bench_csv(report: "BenchReport") -> None:
    """Print the measurements as CSV with a header; a missing interval is empty."""
    rows = []
    for m in report.measurements:
        row = asdict(m)
        row["overlap_low"], row["overlap_high"] = row.pop("overlap_ci") or (None, None)
        rows.append(row)
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def eval_least_needed(report: "EvaluationReport") -> list[str]:
    """Columns that a narrow terminal leaves out, in this order; never the first metric."""
    others = list(report.plans[0].measures)[:0:-1]
    return ["ms", *others[:1], DIFFERENCE, *others[1:]]


def eval_columns(report: "EvaluationReport") -> list[Column]:
    """A column for each figure."""
    plans = report.plans
    columns = plan_columns(plans)
    for number, name in enumerate(plans[0].measures):
        values = [plan.measures[name] for plan in plans]
        marks = [(LOWER if m.difference < 0 else HIGHER) if m.is_certain else "" for m in values]
        columns.append(Column(name, [f"{mark}{m.mean:.3f}" for mark, m in zip(marks, values, strict=True)]))
        if not number and len(plans) > 1:
            columns.append(Column(DIFFERENCE, [_difference(value) for value in values], left=True))
    return [
        *columns,
        overlap_column(plans, report.k, report.full_dim),
        Column("ms", [f"{plan.ms:.2f}" for plan in plans]),
    ]


def eval_footer(report: "EvaluationReport") -> list[str]:
    """How to read the table."""
    plans, asked = report.plans, report.queries
    first = next(iter(plans[0].measures))
    lines = [
        f"judgements: {asked.source}; queries embedded in {asked.embed_seconds:.2f} s (not counted); "
        f"engine: {report.engine}"
    ]
    if any(m.difference_ci for plan in plans for m in plan.measures.values()):
        lines += [
            f"less full: {first} minus that of the full dimension, with its 95 % interval (paired bootstrap, "
            f"{report.resamples:,} draws, seed {report.seed})",
            f"{LOWER} {HIGHER}: lower or higher than the full dimension; the interval excludes 0",
        ]
    lines.append(f"overlap@{report.k}: with the full dimension; ms: median of single queries")
    if any(name.startswith("RR") for name in plans[0].measures):
        lines.append("RR: reciprocal rank of the first relevant hit; its mean is MRR")
    if report.by_chunk:
        lines.append("the index holds chunks: each document counts by its best chunk")
    depth = max(plan.depth for plan in plans)
    if short := [f"{plan.depth:,} of {plan.plan}" for plan in plans if plan.depth < depth]:
        lines.append(f"metrics look at {depth:,} hits, or as many as a plan keeps: {', '.join(short)}")
    return lines


def missing(report: "EvaluationReport") -> list[str]:
    """What the qrels, the queries or the index lack, a line each."""
    asked, documents = report.queries, report.documents
    lines = []
    if documents.absent:
        judged = counted(documents.count, "judged document")
        lines.append(f"{documents.absent:,} of {judged} not in the index: cannot be found")
    for ids, words in (
        (asked.silent, "without a word that the embedder knows: no hits"),
        (asked.hopeless, "without a relevant document: counted as 0"),
        (asked.unasked, "judged but not in the file of queries: left out"),
        (asked.documents, "in the index by the same id: does not find itself, as in BEIR"),
    ):
        if ids:
            lines.append(f"{counted(len(ids), 'query')} ({listed([*map(quoted, ids)], NAMED)}) {words}")
    return lines


def tuning(report: "TuneReport") -> None:
    """Print the chosen plan among those that none beats in both time and overlap, and its proof."""
    tuned = report.tuned
    rows, best = [], 0.0
    for candidate in tuned.candidates:
        chosen = candidate.plan == tuned.plan
        if candidate.overlap > best or chosen or candidate.plan == str(report.full_dim):
            best = max(best, candidate.overlap)
            figures = f"{candidate.overlap:.4f}", f"{candidate.ms:.2f}"
            rows.append(("→" if chosen else "", candidate.plan, *figures))
    proof = "exact: its overlap is 1 by definition"
    if tuned.queries:
        drawn = "" if tuned.seed is None else f", seed {tuned.seed}"
        proof = (
            f"overlap {_interval(tuned)}\nchosen by {tuned.chosen_on:,} queries, "
            f"confirmed by {tuned.queries:,} others ({tuned.source}{drawn})"
        )
    k = "" if tuned.k == 10 else f" -k {tuned.k}"
    stored = "" if report.not_kept else " · kept in the index"
    footer = [
        f"{proof} · {tuned.engine}, {counted(tuned.threads, 'thread')}",
        f"rsearch query … --recall {tuned.recall:g}{k}{stored}",
    ]
    title = f"{report.index} · {report.rows:,} × {report.full_dim} · k {tuned.k} · recall {tuned.recall:g}"
    table = _candidates(rows, f"overlap@{tuned.k}", "ms")
    _print(title, table, [report.remark, *footer] if report.remark else footer)


def _candidates(rows: Sequence[Sequence[str]], figure: str, *figures: str) -> list[Column]:
    """The plans, the one with a mark in bold, with their figures."""

    def style(row: int, line: str) -> str:
        return styled(line, "bold" if rows[row][0] else "")

    names = ("", "plan", figure, *figures)
    return columns_of(names, rows, right=names[-1:], style=style)


def _interval(tuned: "TunedPlan") -> str:
    """The overlap and its 95 % interval."""
    low, high = tuned.overlap_ci
    return f"{tuned.overlap:.4f} ({low:.4f} to {high:.4f})"


def tuned_mode(report: "ModeReport") -> None:
    """Print the metric by plan, and what confirmed the best one."""
    choice = report.choice
    best = max(report.means, key=lambda plan: report.means[plan])
    rows = [("→" if plan == best else "", plan, f"{mean:.4f}") for plan, mean in report.means.items()]
    table = _candidates(rows, choice.metric)
    low, high = choice.gain_ci
    kept = f"{choice.mode} is the default of the index now" if report.kept else "dense stays the default"
    footer = [
        f"{choice.queries:,} other queries: {choice.metric} {choice.value:.4f}, {choice.dense:.4f} by "
        f"meaning alone; the gain is {low:+.4f} to {high:+.4f} (95 %)",
        f"{kept}: {report.not_kept}" if report.not_kept else kept,
    ]
    asked = f"{choice.chosen_on:,} queries choose · {choice.source}"
    _print(f"{report.index} · {report.rows:,} documents · {asked}", table, footer)


def tuned_plans(name: str, plans: "Sequence[TunedPlan]") -> None:
    """Print the tuned plans of an index."""
    if not plans:
        show(f"{name} has no tuned plan: measure one with `rsearch tune --recall 0.99`")
        return
    columns = [
        Column("k", [str(tuned.k) for tuned in plans]),
        Column("recall", [f"{tuned.recall:g}" for tuned in plans]),
        Column("plan", [tuned.plan for tuned in plans], left=True),
        Column("overlap (95 %)", [_interval(t) if t.queries else "exact" for t in plans], left=True),
        Column("ms", [f"{tuned.ms:.2f}" for tuned in plans]),
        Column("queries", [f"{tuned.queries:,}" if tuned.queries else "–" for tuned in plans]),
        Column("on", [f"{tuned.measured[:10]} {tuned.engine}" for tuned in plans], left=True),
    ]
    show_table(fitted(columns, ("on", "queries")))


def write_per_query(evaluation: "Evaluation", path: Path) -> None:
    """Write each metric of each query under each plan as TSV with a header. Raises StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["query", "plan", *evaluation.names])
    writer.writerows([query, plan, *map(repr, values)] for query, plan, values in evaluation.per_query())
    write_target(path, text.getvalue().encode("utf-8", "replace"), "per_query")


def write_runs(evaluation: "Evaluation", index: "Index", folder: Path) -> None:
    """Write a TREC run for each plan, named after it. Raises StorageError."""
    for number, plan in enumerate(evaluation.report.plans):
        lines = [
            f"{_encoded(query)} Q0 {_encoded(document)} {rank} {score!r} {plan.plan}\n"
            for query, document, rank, score in evaluation.run_of(index, number)
        ]
        path = folder / f"{plan.plan.replace(':', '-').replace(',', '_')}.run"
        write_target(path, "".join(lines).encode("utf-8", "replace"), "runs")


def _encoded(id_: str) -> str:
    """An id without white space, which separates columns."""
    return re.sub(r"\s", lambda match: quote(match[0]), id_)


def _difference(value: "MetricValue") -> str:
    if value.difference_ci is None:
        return "–"
    return f"{_signed(value.difference)} ({' to '.join(map(_signed, value.difference_ci))})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"
