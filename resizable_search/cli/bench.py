"""`rsearch bench`: what each dimension or plan costs and loses on this index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.options import (
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    index_name,
    parse_numbers,
)
from resizable_search.engine.plan import PRECISIONS, Precision
from resizable_search.errors import QueryError, RsearchError, UsageError
from resizable_search.store.layout import home_of
from resizable_search.system import MOST

if TYPE_CHECKING:
    from resizable_search.evaluate.bench import Queries
    from resizable_search.search.index import Index

MOST_BYTES = 64_000_000
"""The largest file of queries."""

NAMED = 5
"""How many plans below --min-recall are named."""


DimListOption = Annotated[
    str | None,
    typer.Option(
        "--dims",
        autocompletion=completion.dims,
        help="Dimensions to measure, e.g. 768,512,256.",
        show_default="the stored ones",
    ),
]
RerankListOption = Annotated[
    str | None,
    typer.Option("--rerank", help="Measure each dimension with these reranks too, e.g. 10 or 5,10."),
]
PlanListOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plan",
        autocompletion=completion.plan,
        help="Measure this plan too, e.g. 768:bits:400,768:int8:30,768; may be repeated.",
    ),
]


def bench(
    index: IndexOption = None,
    dims: DimListOption = None,
    rerank: RerankListOption = None,
    precisions: Annotated[
        str,
        typer.Option(
            "--precisions",
            autocompletion=completion.precisions,
            help="Measure each dimension in these: exact,float32,int8,bits. int8 and bits keep RERANK x K "
            "(10 x K) candidates for an exact stage at the full dimension.",
        ),
    ] = "exact",
    plan: PlanListOption = None,
    k: KOption = 10,
    batch: Annotated[str, typer.Option("--batch", help="Queries per call, e.g. 1,32,1000.")] = "1",
    threads: Annotated[
        str | None,
        typer.Option(
            "--threads",
            help="Threads of the engine, e.g. 1,2.",
            show_default="$RSEARCH_THREADS, else all cores",
        ),
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Drop the index's files from the page cache before each run."),
    ] = False,
    queries: Annotated[Path | None, typer.Option("--queries", help="File of queries, one a line.")] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", help="Without --queries: use this many rows of the index as queries."),
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed that draws these rows.")] = 0,
    min_recall: Annotated[
        float | None,
        typer.Option(
            "--min-recall",
            help="Exit with 1 if the mean overlap of a plan is below this, e.g. 0.95.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw overlap against runs per second: .svg or .png (extra `plot`)."),
    ] = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    home: HomeOption = None,
) -> None:
    """Measure throughput and overlap of dimensions or plans, as timeit does.

    The full dimension is always measured too. Overlap is the share of its top k
    that the cheaper search also returns, over all queries.
    """
    from resizable_search.evaluate.bench import MOST_BATCH, BenchOptions

    if json and csv:
        raise UsageError("choose one of --json and --csv")
    if min_recall is not None and not 0 <= min_recall <= 1:
        raise UsageError(f"--min-recall must be 0 to 1, not {min_recall:g}")
    options = BenchOptions(
        dims=parse_numbers(dims, "--dims"),
        reranks=parse_numbers(rerank, "--rerank") or (),
        precisions=tuple(_precision(word.strip()) for word in dict.fromkeys(precisions.split(","))),
        plans=tuple(plan or ()),
        k=k,
        batches=parse_numbers(batch, "--batch", most=MOST_BATCH, least=1) or (1,),
        threads=parse_numbers(threads, "--threads", most=MOST, least=1) or (),
        cold=cold,
    ).check()
    texts = None if queries is None else read_queries(queries)

    from resizable_search.cli import output, render_evaluate
    from resizable_search.cli.progress import shown_progress
    from resizable_search.evaluate import bench as measuring
    from resizable_search.evaluate import plots, timing
    from resizable_search.search.index import open_index

    if plot is not None:
        plots.check_target(plot)
    if cold:
        timing.check()
    root = home_of(home)
    with open_index(index_name(index, root), home=root.path) as opened:
        options.chosen_plans(opened.full_dim, opened.dims)  # refuses a wrong one before texts are embedded
        if texts is None:
            asked = measuring.sample_queries(opened, sample, seed)
        else:
            asked = embed_lines(opened, texts, str(queries))
        with shown_progress() as progress:
            report = measuring.run_bench(opened, asked, options, progress)
    if json:
        output.json_object(report)
    elif csv:
        render_evaluate.bench_csv(report)
    else:
        render_evaluate.bench(report)
    if plot is not None:
        plots.save(plots.draw(report), plot)
    if min_recall is not None and (missed := report.missing(min_recall)):
        named = ", ".join(f"{m.plan} ({m.overlap:.3f})" for m in missed[:NAMED])
        more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
        raise RsearchError(
            f"below --min-recall {min_recall:g}: {named}{more}; use a larger --rerank or more dimensions"
        )


def _precision(word: str) -> Precision:
    """A precision by its name. Raises UsageError."""
    for precision in PRECISIONS:
        if precision == word:
            return precision
    raise UsageError(f"--precisions: unknown precision {word!r}: choose among {','.join(PRECISIONS)}")


def embed_lines(index: "Index", lines: dict[int, str], source: str) -> "Queries":
    """Embed the lines of a file as queries. Raises UsageError for none, QueryError with the line."""
    from resizable_search.evaluate.bench import text_queries

    try:
        return text_queries(index, list(lines.values()), source)
    except QueryError as error:
        raise QueryError(f"{source}, line {list(lines)[error.at]}: {error}") from None


def read_queries(path: Path) -> dict[int, str]:
    """The lines of a file that are not blank, by their numbers from 1. Raises UsageError."""
    remedy = "name a file with one query a line"
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} has more than {MOST_BYTES // 10**6} MB: {remedy}")
        lines = content.decode("utf-8-sig").split("\n")  # splitlines would split at U+2028 and others too
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}): {remedy}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: {remedy}") from None
    return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
