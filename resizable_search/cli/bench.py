"""`rsearch bench`: what each dimension costs and loses on this index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli.options import (
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    home_of,
    index_name,
    parse_numbers,
)
from resizable_search.errors import QueryError, UsageError

if TYPE_CHECKING:
    from resizable_search.bench import Queries
    from resizable_search.search import Index

MOST_BYTES = 64_000_000
"""Of a file of queries: more than anybody measures with."""


def bench(
    index: IndexOption = None,
    dims: Annotated[
        str | None,
        typer.Option(help="Dimensions to measure, e.g. 768,512,256.", show_default="the stored ones"),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option("--rerank", help="Measure each dimension with these reranks too, e.g. 10 or 5,10."),
    ] = None,
    k: KOption = 10,
    queries: Annotated[Path | None, typer.Option("--queries", help="File of queries, one a line.")] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", help="Without --queries: so many of the index's own rows are the queries."),
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which rows are drawn.")] = 0,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    home: HomeOption = None,
) -> None:
    """Measure throughput and overlap by dimension, as timeit does.

    rsearch bench --dims 768,512,256 --rerank 10
    """
    numbers = parse_numbers(dims, "--dims")
    reranks = parse_numbers(rerank, "--rerank") or ()
    if json and csv:
        raise UsageError("choose one of --json and --csv")
    texts = None if queries is None else read_queries(queries)

    from resizable_search import bench as measuring
    from resizable_search.cli import render, render_bench
    from resizable_search.cli.progress import shown_progress
    from resizable_search.search import open_index

    places = home_of(home)
    with open_index(index_name(index, places), home=places.path) as opened:
        for dim in numbers or ():
            opened.plan(k, dim)  # a wrong dimension is told before anything is embedded
        if texts is None:
            asked = measuring.sample_queries(opened, sample, seed)
        else:
            asked = embed_lines(opened, texts, str(queries))
        with shown_progress() as progress:
            report = measuring.run_bench(opened, asked, numbers, reranks, k, progress)
    if json:
        render.json_object(report)
    elif csv:
        render_bench.bench_csv(report)
    else:
        render_bench.bench(report)


def embed_lines(index: "Index", lines: dict[int, str], source: str) -> "Queries":
    """Texts as queries. Raises UsageError if there is none, QueryError with the line that cannot be one."""
    from resizable_search.bench import text_queries

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
