"""`rsearch eval`: how relevant the hits of each dimension and plan are."""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import build
from resizable_search.cli.bench import DimListOption, PlanListOption, RerankListOption
from resizable_search.cli.options import (
    BuildArguments,
    EngineOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    index_name,
    is_given,
    parse_numbers,
    takes,
)
from resizable_search.errors import StorageError, UsageError
from resizable_search.store.layout import expanded, home_of

if TYPE_CHECKING:
    from resizable_search.corpora.base import Corpus
    from resizable_search.progress import Progress


@takes(BuildArguments, without=("dims",), chars=0)  # whole texts, as in BEIR
def evaluate(
    options: BuildArguments,
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.", metavar="FOLDER"
        ),
    ] = None,
    index: IndexOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split of FOLDER's judgements.", show_default="test")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", help="Without FOLDER: file of queries, JSON lines with _id and text, or TSV."
        ),
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option("--qrels", help="Without FOLDER: file of judgements, BEIR's TSV or TREC's qrels."),
    ] = None,
    measures: Annotated[
        str,
        typer.Option("--measures", help="Metrics by their names in ir-measures, e.g. nDCG@10,R@100,P@5,AP."),
    ] = "nDCG@10,R@10,R@100,RR@10",
    dims: DimListOption = None,
    rerank: RerankListOption = None,
    plan: PlanListOption = None,
    k: KOption = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap intervals.")] = 0,
    per_query: Annotated[
        Path | None,
        typer.Option("--per-query", help="Write each metric of each query and plan, as TSV."),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Write the hits of each plan into this folder, as TREC runs."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw relevance and overlap by dimension: .svg or .png (extra `plot`)."),
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure the relevance of hits by dimension and plan, against human judgements.

    FOLDER's corpus is built once as an index of that name; --index searches
    another one instead. Texts are not cut unless --chars is given.
    """
    from resizable_search.cli import output, render_evaluate
    from resizable_search.cli.progress import shown_progress
    from resizable_search.engine.kernel_cache import Chooser
    from resizable_search.evaluate import plots
    from resizable_search.evaluate.bench import BenchOptions
    from resizable_search.evaluate.qrels import Metrics, read_qrels_folder
    from resizable_search.evaluate.relevance import evaluate as run
    from resizable_search.search.index import open_index

    queries_file, qrels_file, corpus = _files(folder, split, queries, qrels)
    asked = BenchOptions(
        dims=parse_numbers(dims, "--dims"),
        reranks=parse_numbers(rerank, "--rerank") or (),
        plans=tuple(plan or ()),
        k=k,
    ).check()
    metrics = Metrics.parse(measures)
    Chooser(engine, threads)  # refuses a wrong one before anything is built
    if folder is None or index is not None:
        _refuse_build_options(context)
    if plot is not None:
        plots.check_target(plot)
    _check_targets(per_query, runs)
    root = home_of(options.home)
    judgements = read_qrels_folder(queries_file, qrels_file)
    name = index_name(index, root) if corpus is None or index is not None else _build(options, corpus)
    with open_index(name, home=root.path, threads=threads, engine=engine) as opened:
        asked.chosen_plans(opened.full_dim, opened.dims)  # refuses a wrong one before anything is embedded
        with shown_progress() as progress:
            evaluation = run(opened, judgements, asked, metrics, seed=seed, progress=progress)
        if runs is not None:
            render_evaluate.write_runs(evaluation, opened, runs)
    if json:
        output.json_object(evaluation.report)
    else:
        render_evaluate.evaluation(evaluation.report)
    if per_query is not None:
        render_evaluate.write_per_query(evaluation, per_query)
    if plot is not None:
        plots.save(plots.draw_relevance(evaluation.report), plot)


def _files(
    folder: Path | None, split: str | None, queries: Path | None, qrels: Path | None
) -> tuple[Path, Path, Path | None]:
    """The files of queries, of judgements, and of FOLDER's corpus. Raises UsageError."""
    from resizable_search.corpora.beir import DEFAULT_SPLIT, BeirFolder

    if folder is not None:
        if queries is not None or qrels is not None:
            raise UsageError("FOLDER has queries and judgements: leave --queries and --qrels out, or FOLDER")
        collection = BeirFolder.find(expanded(folder), DEFAULT_SPLIT if split is None else split)
        return collection.queries, collection.qrels, collection.corpus
    if queries is None or qrels is None:
        raise UsageError("no judgements: name a FOLDER in BEIR's layout, or --queries FILE and --qrels FILE")
    if split is not None:
        raise UsageError("--split needs a FOLDER: name the file of judgements with --qrels")
    return expanded(queries), expanded(qrels), None


def _refuse_build_options(context: typer.Context) -> None:
    """Refuse options of a build where nothing is built. Raises UsageError."""
    for field in fields(BuildArguments):
        if field.name not in ("home", "dims") and is_given(context, field.name):
            option = "--" + field.name.replace("_", "-")
            raise UsageError(f"{option} is for building an index of a FOLDER: leave it out, or --index")


def _check_targets(per_query: Path | None, runs: Path | None) -> None:
    """Check that files can be written, before anything is measured. Raises UsageError and StorageError."""
    for option, path, is_folder in (("--per-query", per_query, False), ("--runs", runs, True)):
        if path is None:
            continue
        parent = path.absolute().parent
        if not parent.is_dir():
            raise UsageError(f"{option}: there is no folder {parent}: make it, or name another")
        if path.exists() and path.is_dir() != is_folder:
            raise UsageError(f"{option}: {path} is {'not a' if is_folder else 'a'} folder: name another")
        target = path if is_folder and path.exists() else parent
        if not os.access(target, os.W_OK):
            raise StorageError(f"cannot write to {target}: name another place with {option}")


def _build(options: BuildArguments, documents: Path) -> str:
    """Build the index of a corpus, or what is missing of it; its name."""
    from resizable_search.cli import render_build
    from resizable_search.corpora.beir import BeirCorpus

    def corpus(progress: "Progress") -> "Corpus":
        return BeirCorpus(documents, chars=options.text_length(), progress=progress)

    usual = os.path.basename(os.path.abspath(documents.parent)).lstrip(".")
    report, remark, _ = build.built(replace(options, dims=None), usual, corpus)
    if report.added or report.left_out:
        lines = render_build.build_lines(report, options.limit, remark)
        sys.stderr.write("".join(f"rsearch: {line}\n" for line in lines))
    return report.name
