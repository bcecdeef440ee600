"""`rsearch tune`: the fastest plan that is proven to reach a wanted overlap, measured on this index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    home_of,
    index_name,
)
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.engine.plan import Plan
    from resizable_search.search.index import Index


def tune(
    index: IndexOption = None,
    recall: Annotated[
        float, typer.Option("--recall", help="Overlap@k to reach, above 0 and at most 1.")
    ] = 0.99,
    k: KOption = 10,
    queries: Annotated[
        Path | None, typer.Option("--queries", help="File of real queries, one a line; they are harder.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            help="Without --queries: so many of the index's own rows are the queries.",
            show_default="as many as the recall takes to prove, 1,680 for 0.99",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Which rows are drawn, and which of them choose.")
    ] = 0,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    show: Annotated[bool, typer.Option("--show", help="Only list the plans that the index keeps.")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Measure plans on this index and keep the fastest that is proven to reach a recall.

    Half of the queries choose a plan, the other half must confirm it: the lower
    end of the 95 % interval of its overlap has to reach the recall. The plan is
    kept in the index for this k and recall, with its evidence.
    """
    from resizable_search.cli import output, render_tune
    from resizable_search.cli.bench import embed_lines, read_queries
    from resizable_search.cli.progress import shown_progress
    from resizable_search.evaluate.tune import tune as measure
    from resizable_search.search.index import open_index
    from resizable_search.search.options import SearchOptions
    from resizable_search.store.tuned_plans import check_recall

    if queries is not None and sample is not None:
        raise UsageError("--sample draws rows where no --queries are given: choose one of them")
    check_recall(recall)
    texts = None if queries is None or show else read_queries(queries)
    places = home_of(home)
    with open_index(index_name(index, places), home=places.path, threads=threads, engine=engine) as opened:
        if show:
            plans = opened.tuned_plans()
            if json:
                output.json_object(plans)
            else:
                render_tune.plans(opened.name, plans)
            return
        SearchOptions(k)  # a wrong k is refused before anything is embedded
        with shown_progress() as progress:
            asked = None
            if texts is not None and queries is not None:
                first = {text: number for number, text in reversed(texts.items())}
                distinct = {number: text for number, text in texts.items() if first[text] == number}
                asked = embed_lines(opened, distinct, queries.name)
            report = measure(opened, recall, k, asked, sample=sample, seed=seed, progress=progress)
            if report.not_kept:
                progress.note(f"the plan is not kept: {report.not_kept}")
    if json:
        output.json_object(report)
    else:
        render_tune.report(report)


def plan_for(opened: "Index", k: int, recall: float) -> "Plan":
    """The plan that the index keeps for that recall; one that it lacks is measured now, and kept."""
    from resizable_search.engine.plan import Plan

    found = opened.tuned(k, recall)
    if found is None:
        from resizable_search.cli.progress import shown_progress
        from resizable_search.evaluate.tune import tune as measure

        with shown_progress() as progress:
            progress.note(f"{opened.name} has no plan for recall {recall:g} at k {k} yet: tuning it once")
            report = measure(opened, recall, k, progress=progress)
            if report.remark:
                progress.note(report.remark)
            if report.not_kept:
                progress.note(f"the plan is not kept: {report.not_kept}")
        found = report.tuned
    return Plan.parse(found.plan)
