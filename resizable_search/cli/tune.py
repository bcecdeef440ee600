"""`rsearch tune`: find the fastest plan that reaches a recall on this index."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    index_name,
)
from resizable_search.errors import UsageError
from resizable_search.store.layout import home_of
from resizable_search.text import counted

if TYPE_CHECKING:
    from resizable_search.engine.plan import Plan
    from resizable_search.evaluate.tune import TuneReport
    from resizable_search.progress import Progress
    from resizable_search.search.index import Index
    from resizable_search.search.results import SearchOptions
    from resizable_search.store.tuned_plans import TunedPlan


def tune(
    index: IndexOption = None,
    recall: Annotated[float, Option(help="Overlap@k to reach, above 0 and at most 1.")] = 0.99,
    k: KOption = 10,
    queries: Annotated[Path | None, Option(help="File of real queries, one a line; they are harder.")] = None,
    sample: Annotated[
        int | None,
        Option(
            help="Without --queries: use this many rows of the index as queries.",
            show_default="as many as prove the recall, 1,680 for 0.99",
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed that draws the rows and splits the queries.")] = 0,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    show: Annotated[bool, Option("--show", help="Only list the tuned plans of the index.")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Measure plans on this index and keep the fastest that is proven to reach a recall.

    Half of the queries choose a plan, the other half must confirm it: the lower
    end of the 95 % interval of its overlap must reach the recall. The index keeps
    the plan for this k and recall, with its evidence.
    """
    from resizable_search.cli import output
    from resizable_search.cli.evaluate import embed_lines, read_queries
    from resizable_search.cli.progress import shown_progress
    from resizable_search.search.index import open_index
    from resizable_search.search.results import SearchOptions
    from resizable_search.store.tuned_plans import check_recall

    if queries is not None and sample is not None:
        raise UsageError("--sample and --queries exclude each other: choose one of them")
    check_recall(recall)
    texts = None if queries is None or show else read_queries(queries)
    root = home_of(home)
    with open_index(index_name(index, root), home=root.path, threads=threads, engine=engine) as opened:
        if show:
            plans = opened.plans.all()
            if json:
                output.json_object(plans)
            else:
                print_plans(opened.name, plans)
            return
        SearchOptions(k)  # refuses a wrong k before anything is embedded
        with shown_progress() as progress:
            asked = None
            if texts is not None and queries is not None:
                first = {text: number for number, text in reversed(texts.items())}
                distinct = {number: text for number, text in texts.items() if first[text] == number}
                asked = embed_lines(opened, distinct, queries.name)
            report = _measure(opened, recall, k, progress, queries=asked, sample=sample, seed=seed)
    if json:
        output.json_object(report)
    else:
        print_report(report)


def plan_for(index: "Index", options: "SearchOptions") -> "Plan":
    """The plan that the options mean. A recall without a tuned plan is tuned now. Raises UsageError."""
    from resizable_search.cli.progress import shown_progress
    from resizable_search.engine.plan import Plan

    k, recall = options.k, options.recall
    if recall is None or index.plans.get(k, recall) is not None:
        return index.plan(options)
    with shown_progress() as progress:
        progress.note(f"{index.name} has no plan for recall {recall:g} at k {k} yet: tuning it once")
        report = _measure(index, recall, k, progress)
        if report.remark:
            progress.note(report.remark)
    return Plan.parse(report.tuned.plan)


def _measure(index: "Index", recall: float, k: int, progress: "Progress", **options: Any) -> "TuneReport":
    from resizable_search.evaluate.tune import tune as measure

    report = measure(index, recall, k, progress=progress, **options)
    if report.not_kept:
        progress.note(f"the plan is not kept: {report.not_kept}")
    return report


def print_report(report: "TuneReport") -> None:
    """Print the chosen plan among its rivals, and how it was proven.

    The rivals are those plans that no other plan beats in both time and overlap; JSON has all.
    """
    from rich.text import Text

    from resizable_search.cli.tables import borderless, show_table, stdout_console

    console = stdout_console()
    tuned = report.tuned
    console.print(
        Text(f"{report.index} · {report.rows:,} × {report.full_dim} · k {tuned.k} · recall {tuned.recall:g}")
    )
    exact = next(c for c in tuned.candidates if c.plan == str(report.full_dim))
    table = borderless("", "plan", f"overlap@{tuned.k}", "ms", "× exact", right=("ms", "× exact"))
    best = 0.0
    for candidate in tuned.candidates:
        chosen = candidate.plan == tuned.plan
        if candidate.overlap > best or chosen or candidate is exact:
            best = max(best, candidate.overlap)
            figures = f"{candidate.overlap:.4f}", f"{candidate.ms:.2f}", f"{exact.ms / candidate.ms:.1f}"
            style = "bold" if chosen else ""
            table.add_row("→" if chosen else "", candidate.plan, *figures, style=style)
    show_table(table, console)
    if report.remark:
        console.print(Text(report.remark))
    if tuned.queries:
        drawn = "" if tuned.seed is None else f", seed {tuned.seed}"
        proof = (
            f"overlap {interval(tuned)}\nchosen by {tuned.chosen_on:,} queries, "
            f"confirmed by {tuned.queries:,} others ({tuned.source}{drawn})"
        )
    else:
        proof = "exact: its overlap is 1 by definition"
    engine = f"{tuned.engine}, {counted(tuned.threads, 'thread')}"
    k = "" if tuned.k == 10 else f" -k {tuned.k}"
    stored = "" if report.not_kept else " · kept in the index"
    usage = f"rsearch query … --recall {tuned.recall:g}{k}{stored}"
    console.print(Text(f"{proof} · {engine}\n{usage}", style="dim"))


def interval(tuned: "TunedPlan") -> str:
    """The overlap and its 95 % interval."""
    low, high = tuned.overlap_ci
    return f"{tuned.overlap:.4f} ({low:.4f} to {high:.4f})"


def print_plans(name: str, plans: "Sequence[TunedPlan]") -> None:
    """Print the tuned plans of an index."""
    from resizable_search.cli.tables import borderless, show_table, stdout_console

    if not plans:
        stdout_console().print(f"{name} has no tuned plan: measure one with `rsearch tune --recall 0.99`")
        return
    names = ("k", "recall", "plan", "overlap (95 %)", "ms", "queries", "on")
    table = borderless(*names, right=("k", "recall", "ms", "queries"), fold=("plan", "on"))
    for tuned in plans:
        table.add_row(
            str(tuned.k),
            f"{tuned.recall:g}",
            tuned.plan,
            interval(tuned) if tuned.queries else "exact",
            f"{tuned.ms:.2f}",
            f"{tuned.queries:,}" if tuned.queries else "–",
            f"{tuned.measured[:10]} {tuned.engine}",
        )
    show_table(table)
