"""`rsearch eval`: what each way to search finds of what people judged relevant."""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import build, completion
from resizable_search.cli.arguments import takes
from resizable_search.cli.bench import numbers_of
from resizable_search.cli.build_arguments import BuildArguments
from resizable_search.cli.options import (
    EngineOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    home_of,
    index_name,
)
from resizable_search.errors import StorageError, UsageError
from resizable_search.store.layout import expanded

if TYPE_CHECKING:
    from resizable_search.corpora.base import Corpus
    from resizable_search.corpora.beir import BeirFolder
    from resizable_search.progress import Progress

CHARS = 0
"""Texts are embedded whole by default, as in BEIR."""

_USUAL = BuildArguments(chars=CHARS)


@takes(BuildArguments, without=("dims",), chars=CHARS)
def evaluate(
    options: BuildArguments,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.", metavar="FOLDER"
        ),
    ] = None,
    index: IndexOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Which judgements of FOLDER.", show_default="test")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help="Without FOLDER: queries, as JSON lines with _id and text or as TSV."),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option("--qrels", help="Without FOLDER: judgements, as BEIR's TSV or TREC's qrels."),
    ] = None,
    measures: Annotated[
        str, typer.Option("--measures", help="Measures as ir-measures names them, e.g. nDCG@10,R@100,P@5,AP.")
    ] = "nDCG@10,R@10,R@100,RR@10",
    dims: Annotated[
        str | None,
        typer.Option(
            "--dims",
            autocompletion=completion.dims,
            help="Dimensions to evaluate, e.g. 768,256,64.",
            show_default="the stored ones",
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option("--rerank", help="Evaluate each dimension with these reranks too, e.g. 10 or 5,10."),
    ] = None,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            "--plan", help="Evaluate this plan too, e.g. 768:bits:400,768:int8:30,768; may be repeated."
        ),
    ] = None,
    k: KOption = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the queries of the intervals.")] = 0,
    per_query: Annotated[
        Path | None,
        typer.Option("--per-query", help="Write each measure of each query under each plan, as TSV."),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Write what each plan found into this folder, as runs in TREC's form."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw relevance and overlap by dimension: .svg or .png (extra `plot`)."),
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure relevance by dimension and plan, on queries whose answers people have judged.

    FOLDER's corpus is built as an index of its name, once (with --index, that index is asked instead).
    Texts are not cut unless --chars says so.

    rsearch eval scifact --dims 768,256,64 --rerank 10
    """
    from resizable_search.cli import output, render_eval
    from resizable_search.cli.progress import shown_progress
    from resizable_search.engine.kernel_cache import Chooser
    from resizable_search.evaluate import plots as plotting
    from resizable_search.evaluate.qrels import read_qrels_folder
    from resizable_search.evaluate.relevance import EvaluationOptions
    from resizable_search.evaluate.relevance import evaluate as judge
    from resizable_search.search.index import open_index

    found = _files(folder, split, queries, qrels)
    asked = EvaluationOptions(
        dims=numbers_of(dims, "--dims"),
        reranks=numbers_of(rerank, "--rerank") or (),
        plans=tuple(plan or ()),
        k=k,
        measures=measures,
        seed=seed,
    ).check()
    Chooser(engine, threads)  # a wrong one is told before anything is built
    if folder is None or index is not None:
        _refuse_building(options)
    if plot is not None:
        plotting.check_target(plot)
    _check_targets(per_query, runs)
    if isinstance(found, tuple):
        judgements = read_qrels_folder(*found)
    else:
        judgements = read_qrels_folder(found.queries, found.qrels)
    places = home_of(options.home)
    if isinstance(found, tuple) or index is not None:
        name = index_name(index, places)
    else:
        name = _built(options, found)
    with open_index(name, home=places.path, threads=threads, engine=engine) as opened:
        asked.chosen_plans(opened)  # a wrong dimension or plan is told before anything is embedded
        with shown_progress() as progress:
            judged = judge(opened, judgements, asked, progress)
        if runs is not None:
            render_eval.write_runs(judged, opened, runs)
    if json:
        output.json_object(judged.report)
    else:
        render_eval.evaluation(judged.report)
    if per_query is not None:
        render_eval.write_per_query(judged, per_query)
    if plot is not None:
        from resizable_search.evaluate import plot_relevance as plot_evaluation

        plot_evaluation.plot_relevance(judged.report, plot)


def _files(
    folder: Path | None, split: str | None, queries: Path | None, qrels: Path | None
) -> "BeirFolder | tuple[Path, Path]":
    """The files that are meant: a collection's, or queries and judgements. Raises UsageError."""
    from resizable_search.corpora.beir import USUAL_SPLIT, BeirFolder

    if folder is not None:
        if queries is not None or qrels is not None:
            raise UsageError(
                "a FOLDER has queries and judgements: leave --queries and --qrels out, or FOLDER"
            )
        return BeirFolder.find(expanded(folder), USUAL_SPLIT if split is None else split)
    if queries is None or qrels is None:
        raise UsageError(
            "nothing is judged: name a FOLDER in BEIR's layout, or an index's --queries FILE and --qrels FILE"
        )
    if split is not None:
        raise UsageError("--split chooses among a FOLDER's judgements: name its file with --qrels")
    return expanded(queries), expanded(qrels)


def _refuse_building(options: BuildArguments) -> None:
    """Refuse what says how an index is built where none is."""
    for field in fields(options):
        if field.name != "home" and getattr(options, field.name) != getattr(_USUAL, field.name):
            option = "--" + field.name.replace("_", "-")
            raise UsageError(
                f"{option} is for building an index of a FOLDER, and --index names one: leave one out"
            )


def _check_targets(per_query: Path | None, runs: Path | None) -> None:
    """See that files can be written, before anything is measured. Raises UsageError and StorageError."""
    for option, path, into in (("--per-query", per_query, False), ("--runs", runs, True)):
        if path is None:
            continue
        parent = path.absolute().parent
        if not parent.is_dir():
            raise UsageError(f"{option}: there is no folder {parent}: make it, or name another")
        if path.exists() and path.is_dir() != into:
            raise UsageError(f"{option}: {path} is {'no' if into else 'a'} folder: name another")
        there = path if into and path.exists() else parent
        if not os.access(there, os.W_OK):
            raise StorageError(f"cannot write to {there}: name another place with {option}")


def _built(options: BuildArguments, found: "BeirFolder") -> str:
    """The index of a collection's documents, built as far as it is not there yet; its name."""
    from resizable_search.cli import render_indexes
    from resizable_search.corpora.beir import BeirCorpus

    chars = build.cut(options.chars)

    def corpus(progress: "Progress") -> "Corpus":
        return BeirCorpus(found.corpus, chars=chars, progress=progress)

    usual = os.path.basename(os.path.abspath(found.corpus.parent)).lstrip(".")
    report, remark, _ = build.made(replace(options, dims=None), usual, corpus)
    if report.added or report.left_out:
        lines = render_indexes.build_lines(report, options.limit, remark)
        sys.stderr.write("".join(f"rsearch: {line}\n" for line in lines))
    return report.name
