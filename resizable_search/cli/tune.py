"""`rsearch tune`: the fastest plan for a recall, and whether words count by default."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from resizable_search.cli.evaluate import embed_lines, read_queries
from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    IndexArgument,
    JsonOption,
    KOption,
    ThreadsOption,
    open_index,
)
from resizable_search.cli.output import json_object
from resizable_search.cli.progress import shown_progress
from resizable_search.engine.plan import Plan
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.evaluate.tune import TuneReport
    from resizable_search.progress import Progress
    from resizable_search.search.index import Index
    from resizable_search.search.planning import SearchOptions


def tune(
    index: IndexArgument = None,
    recall: Annotated[float, Option(help="Overlap@k to reach, above 0 and at most 1.")] = 0.99,
    k: KOption = 10,
    queries: Annotated[
        Path | None, Option(help="Real queries, one a line; with --qrels as for eval.")
    ] = None,
    sample: Annotated[
        int | None, Option(help="Without --queries: take this many from the index.", show_default="as needed")
    ] = None,
    titles: Annotated[
        bool | None,
        Option("--titles/--no-titles", help="Take titles as half of these, if they can be embedded here."),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed that draws and splits the queries.")] = 0,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    show: Annotated[bool, Option("--show", help="Only list the tuned plans of the index.")] = False,
    mode: Annotated[bool, Option("--mode", help="Choose instead whether words count by default.")] = False,
    qrels: Annotated[Path | None, Option(help="With --mode: judgements, BEIR's TSV or TREC's qrels.")] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Find and keep the fastest plan that is proven to reach a recall.

    Some of the queries choose a plan, the others must confirm it: the lower end
    of the 95 % interval of its overlap must reach the recall.

    --mode compares search by meaning, by words and by both. The index keeps the
    best only if half of the queries proves it better than meaning alone. Without
    --queries and --qrels it asks with titles.
    """
    from resizable_search.cli import render_evaluate
    from resizable_search.search.planning import SearchOptions

    for option, value in (("--sample", sample), ("--titles", titles)):
        if queries is not None and value is not None:
            raise UsageError(f"{option} and --queries exclude each other: choose one of them")
    if (qrels is not None or mode) and (not mode or (qrels is None) != (queries is None)):
        raise UsageError("judged queries are for --mode: give --mode, --queries and --qrels together")
    if mode:
        _tune_mode(index, home, queries, qrels, seed, json)
        return
    SearchOptions(k, recall=recall)  # refuses wrong ones before anything is embedded
    texts = None if queries is None or show else read_queries(queries)
    with open_index(index, home, threads, engine) as opened:
        if show:
            plans = opened.plans.all()
            if json:
                json_object(plans)
            else:
                render_evaluate.tuned_plans(opened.name, plans)
            return
        with shown_progress() as progress:
            asked = None
            if texts is not None and queries is not None:
                first = {text: number for number, text in reversed(texts.items())}
                distinct = {number: text for number, text in texts.items() if first[text] == number}
                asked = embed_lines(opened, distinct, queries.name)
            report = _measure(
                opened, recall, k, progress, queries=asked, sample=sample, titles=titles, seed=seed
            )
    (json_object if json else render_evaluate.tuning)(report)


def _tune_mode(
    index: str | None, home: Path | None, queries: Path | None, qrels: Path | None, seed: int, json: bool
) -> None:
    from resizable_search.build.build import build_index, own_embedder
    from resizable_search.cli import render_evaluate
    from resizable_search.evaluate.qrels import read_qrels_folder
    from resizable_search.evaluate.tune_mode import titles_as_queries, tune_mode

    judged = None if queries is None or qrels is None else read_qrels_folder(queries, qrels)
    with open_index(index, home) as opened, shown_progress() as progress, ExitStack() as stack:
        sample = None
        if judged is None:
            if not opened.embeds_for_free:
                problem = f"{opened.name} has no embedder that works on this machine"
                raise UsageError(f"{problem}, and titles embed again: give --queries and --qrels")
            documents, judged = titles_as_queries(opened, seed)
            own = own_embedder(opened.folder.resolve())
            folder = stack.enter_context(TemporaryDirectory())
            made = build_index(
                "sample",
                documents,
                embedder=own.kind if own.needs_fit else own,
                home=folder,
                progress=progress,
            )
            sample = stack.enter_context(made)
        report = tune_mode(opened, judged, seed=seed, progress=progress, sample=sample)
    (json_object if json else render_evaluate.tuned_mode)(report)


def plan_for(index: "Index", options: "SearchOptions") -> Plan:
    """The plan that the options mean. A recall without a tuned plan is tuned now. Raises UsageError."""
    k, recall = options.k, options.recall
    if recall is None or index.plans.get(k, recall) is not None:
        return index.plan(options)
    with shown_progress() as progress:
        progress.note(f"{index.name} has no plan for recall {recall:g} at k {k} yet: tuning it once")
        report = _measure(index, recall, k, progress)
        if report.remark:
            progress.note(report.remark)
    return Plan.parse(report.tuned.plan).in_mode(options.mode or "dense")


def _measure(index: "Index", recall: float, k: int, progress: "Progress", **options: Any) -> "TuneReport":
    from resizable_search.evaluate.tune import tune as measure

    report = measure(index, recall, k, progress=progress, **options)
    if report.not_kept:
        progress.note(f"the plan is not kept: {report.not_kept}")
    return report
