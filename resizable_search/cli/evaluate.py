"""`rsearch bench`, `tune` and `eval`: what each dimension or plan costs, and how relevant its hits are."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

import typer
from typer import Argument, Option

from resizable_search.cli import completion
from resizable_search.cli.options import (
    BuildArguments,
    EngineOption,
    HomeOption,
    IndexArgument,
    IndexOption,
    JsonOption,
    KOption,
    RayArguments,
    ThreadsOption,
    is_given,
    open_index,
    parse_numbers,
    parse_words,
    takes,
)
from resizable_search.cli.output import json_object, note
from resizable_search.cli.progress import shown_progress
from resizable_search.engine.plan import MODES, PRECISIONS, Plan
from resizable_search.errors import QueryError, RsearchError, UsageError
from resizable_search.store.layout import expanded
from resizable_search.system import MOST

if TYPE_CHECKING:
    from resizable_search.evaluate.bench import BenchOptions, BenchReport, Queries
    from resizable_search.search.index import Index

DimListOption = Annotated[
    str | None,
    Option(help="Dimensions, e.g. 768,256.", show_default="all stored", autocompletion=completion.dims),
]
RerankListOption = Annotated[str | None, Option(help="Also measure with these reranks, e.g. 5,10.")]
ModesOption = Annotated[
    Literal["dense", "lexical", "hybrid", "all"],
    Option(metavar="MODE", help="Rank by meaning (dense), words (lexical), both (hybrid), or all."),
]
PlanListOption = Annotated[
    list[str] | None,
    Option(help="Also measure this plan, e.g. 768:1bit:400,768; repeatable.", autocompletion=completion.dims),
]


@takes(RayArguments)
def bench(
    ray: RayArguments,
    index: IndexArgument = None,
    dims: DimListOption = None,
    rerank: RerankListOption = None,
    precisions: Annotated[
        str,
        Option(help="Measure each dimension in these: exact,float32,int8,1bit; the last two with a rerank."),
    ] = "exact",
    plan: PlanListOption = None,
    mode: ModesOption = "dense",
    k: KOption = 10,
    batch: Annotated[str, Option(help="Queries per call, e.g. 1,32,1000.")] = "1",
    threads: Annotated[str | None, Option(help="Threads, e.g. 1,2.", show_default="$RSEARCH_THREADS")] = None,
    cold: Annotated[bool, Option("--cold", help="Drop the index from memory before each run.")] = False,
    queries: Annotated[Path | None, Option(help="File of queries, one a line.")] = None,
    sample: Annotated[int, Option(help="Without --queries: use this many rows as queries.")] = 200,
    seed: Annotated[int, Option(min=0, help="Seed that draws these rows.")] = 0,
    min_recall: Annotated[float | None, Option(help="Exit with 1 if a plan's overlap is below this.")] = None,
    plot: Annotated[Path | None, Option(help="Draw overlap by speed: .svg or .png (extra `plot`).")] = None,
    json: JsonOption = False,
    csv: Annotated[bool, Option("--csv", help="Print CSV.")] = False,
    home: HomeOption = None,
) -> None:
    """Measure throughput and overlap of dimensions or plans.

    Calls are timed as timeit does. The full dimension is always measured too.
    Overlap is the share of its top k that the cheaper search also returns, over
    all queries.
    """
    from resizable_search.cli import render_evaluate
    from resizable_search.evaluate import bench as measuring
    from resizable_search.evaluate import plots, timing

    cluster = ray.engines()
    if cluster is not None and (threads or cold):
        raise UsageError("--threads and --cold are of this machine: leave them or --ray out")
    if json and csv:
        raise UsageError("choose one of --json and --csv")
    if min_recall is not None and not 0 <= min_recall <= 1:
        raise UsageError(f"--min-recall must be 0 to 1, not {min_recall:g}")
    words = parse_words(precisions)
    if unknown := set(words).difference(PRECISIONS):
        known = ",".join(PRECISIONS)
        raise UsageError(f"--precisions: unknown precision {min(unknown)!r}: choose among {known}")
    options = measuring.BenchOptions(
        dims=parse_numbers(dims, "--dims"),
        reranks=parse_numbers(rerank, "--rerank") or (),
        precisions=tuple(precision for precision in PRECISIONS if precision in words),
        modes=MODES if mode == "all" else (mode,),
        plans=tuple(plan or ()),
        k=k,
        batches=parse_numbers(batch, "--batch", most=measuring.MOST_BATCH, least=1) or (1,),
        threads=parse_numbers(threads, "--threads", most=MOST, least=1) or (),
        cold=cold,
    ).check()
    texts = None if queries is None else read_queries(queries)
    if plot is not None:
        plots.check_picture(plot)
    if cold:
        timing.check()
    with open_index(index, home, engine=cluster or "auto") as opened:
        _note_idle_rerank(options, opened)  # refuses a wrong plan before texts are embedded
        if texts is None:
            asked = measuring.sample_queries(opened, sample, seed)
        else:
            asked = embed_lines(opened, texts, str(queries))
        with shown_progress() as progress:
            report = measuring.run_bench(opened, asked, options, progress)
        _keep_curve(opened, report)
    show = render_evaluate.bench_csv if csv else render_evaluate.bench
    (json_object if json else show)(report)
    if plot is not None:
        plots.save(plots.draw(report), plot)
    if min_recall is not None and (missed := report.missing(min_recall)):
        named = ", ".join(f"{m.plan} ({m.overlap:.3f})" for m in missed)
        raise RsearchError(f"below --min-recall {min_recall:g}: {named}; raise --rerank or --dims")


def _keep_curve(index: "Index", report: "BenchReport") -> None:
    """Keep the overlap by dimension and rerank beside the index, for the search page."""
    from resizable_search.store.tuned_plans import Curve, CurvePoint, store_curve

    points = [
        CurvePoint(m.dim, m.rerank, m.overlap, m.overlap_ci, m.p50_ms, report.queries.count)
        for m in report.measurements
        if m.rerank is not None and m.overlap_ci is not None and report.full(m) is report.measurements[0]
        if m.batch == 1 and m.plan == str(Plan.of(m.dim, m.rerank, report.k, report.full_dim))
    ]
    if points:
        curve = Curve(report.k, report.queries.source, datetime.now(UTC).isoformat(), tuple(points))
        with suppress(OSError):  # where it cannot be written, the page shows none
            store_curve(index.folder, index.manifest, curve)


def _note_idle_rerank(options: "BenchOptions", index: "Index") -> None:
    """Say that the reranks change nothing, since only the full dimension is measured. Raises UsageError."""
    plans = options.chosen_plans(index.full_dim, index.dims)
    if any(options.reranks) and all(len(plan.stages) == 1 for plan in plans):
        note(f"--rerank does nothing at the full dimension ({index.full_dim}): add a smaller one to --dims")


def read_queries(path: Path) -> dict[int, str]:
    """The lines of a file that are not blank, by their numbers from 1. Raises UsageError, CorpusError."""
    from resizable_search.evaluate.qrels import text_lines

    lines = text_lines(path, "", "name a file with one query a line")
    return {number: line.strip() for number, line in lines}


def embed_lines(index: "Index", lines: dict[int, str], source: str) -> "Queries":
    """Embed the lines of a file as queries. Raises UsageError for none, QueryError with the line."""
    from resizable_search.evaluate.bench import text_queries

    try:
        return text_queries(index, list(lines.values()), source)
    except QueryError as error:
        raise QueryError(f"{source}, line {list(lines)[error.at]}: {error}") from None


@takes(BuildArguments, without=("dims", "shard"), chars=0)  # whole texts, as in BEIR
def evaluate(
    options: BuildArguments,
    context: typer.Context,
    folder: Annotated[
        Path | None, Argument(help="Folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv.")
    ] = None,
    index: IndexOption = None,
    split: Annotated[str | None, Option(help="Split of FOLDER's judgements.", show_default="test")] = None,
    queries: Annotated[
        Path | None, Option(help="Without FOLDER: JSON lines with _id and text, or TSV.")
    ] = None,
    qrels: Annotated[Path | None, Option(help="Without FOLDER: BEIR's TSV or TREC's qrels.")] = None,
    encoding: Annotated[
        str | None, Option(help="Encoding of files that are not UTF-8.", show_default="guessed")
    ] = None,
    measures: Annotated[str, Option(help="Metrics of ir-measures.")] = "nDCG@10,R@10,R@100,RR@10",
    dims: DimListOption = None,
    rerank: RerankListOption = None,
    plan: PlanListOption = None,
    mode: ModesOption = "dense",
    k: KOption = 10,
    seed: Annotated[int, Option(min=0, help="Seed of the bootstrap intervals.")] = 0,
    per_query: Annotated[Path | None, Option(help="Write each metric of each query and plan as TSV.")] = None,
    runs: Annotated[Path | None, Option(help="Write each plan's hits as TREC runs into this folder.")] = None,
    plot: Annotated[
        Path | None, Option(help="Draw relevance by dimension: .svg or .png (extra `plot`).")
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure the relevance of hits, against human judgements.

    FOLDER's corpus is built once as an index of that name; --index searches
    another one instead. Texts are not cut unless --chars is given.
    """
    from resizable_search.cli import render_evaluate
    from resizable_search.engine.kernel_cache import Chooser
    from resizable_search.evaluate import plots
    from resizable_search.evaluate.bench import BenchOptions
    from resizable_search.evaluate.qrels import Metrics, read_qrels_folder
    from resizable_search.evaluate.relevance import evaluate as run

    queries_file, qrels_file, corpus = _files(folder, split, queries, qrels)
    asked = BenchOptions(
        dims=parse_numbers(dims, "--dims"),
        reranks=parse_numbers(rerank, "--rerank") or (),
        modes=MODES if mode == "all" else (mode,),
        plans=tuple(plan or ()),
        k=k,
    ).check()
    metrics = Metrics.parse(measures)
    Chooser(engine, threads)  # refuses a wrong one before anything is built
    if folder is None or index is not None:
        for name in get_type_hints(BuildArguments):
            if name not in ("home", "dims") and is_given(context, name):
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is for building an index of a FOLDER: leave it out, or --index")
    if plot is not None:
        plots.check_picture(plot)
    for option, path, is_folder in (("per_query", per_query, False), ("runs", runs, True)):
        if path is not None:
            plots.check_target(path, option, is_folder=is_folder)
    judgements = read_qrels_folder(queries_file, qrels_file, encoding)
    if corpus is not None and index is None:
        index = _build(context, options, corpus, encoding)
    with open_index(index, options.home, threads, engine) as opened:
        _note_idle_rerank(asked, opened)
        with shown_progress() as progress:
            evaluation = run(opened, judgements, asked, metrics, seed=seed, progress=progress)
        if runs is not None:
            render_evaluate.write_runs(evaluation, opened, runs)
    (json_object if json else render_evaluate.evaluation)(evaluation.report)
    if per_query is not None:
        render_evaluate.write_per_query(evaluation, per_query)
    if plot is not None:
        plots.save(plots.draw_relevance(evaluation.report), plot)


def _files(
    folder: Path | None, split: str | None, queries: Path | None, qrels: Path | None
) -> tuple[Path, Path, Path | None]:
    """The files of queries, of judgements, and of FOLDER's corpus. Raises UsageError."""
    from resizable_search.corpora.beir import DEFAULT_SPLIT, collection_files

    if folder is not None:
        if queries is not None or qrels is not None:
            raise UsageError("FOLDER has queries and judgements: leave --queries and --qrels out, or FOLDER")
        return collection_files(expanded(folder), DEFAULT_SPLIT if split is None else split)
    if queries is None or qrels is None:
        raise UsageError("no judgements: name a FOLDER in BEIR's layout, or --queries FILE and --qrels FILE")
    if split is not None:
        raise UsageError("--split needs a FOLDER: name the file of judgements with --qrels")
    return expanded(queries), expanded(qrels), None


def _build(context: typer.Context, options: BuildArguments, documents: Path, encoding: str | None) -> str:
    """Build the index of a corpus, or what is missing of it; its name."""
    from resizable_search.cli import build
    from resizable_search.corpora.beir import BeirCorpus

    usual = os.path.basename(os.path.abspath(documents.parent)).lstrip(".")
    asked = {"chars": options.text_length(), "encoding": encoding}
    corpus = partial(BeirCorpus, documents)
    return build.run(context, options, usual, corpus, {"kind": "beir"}, asked, quiet=True).name
