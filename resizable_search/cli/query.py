"""`rsearch query`: the documents nearest to a text."""

import sys
from typing import Annotated

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
from resizable_search.errors import QueryError, RefusedTextError, RsearchError, UsageError

BOM = "\ufeff"
"""What some programs put before UTF-8."""

DimOption = Annotated[
    int | None,
    typer.Option("--dim", help="Scan the first so many dimensions.", show_default="the full dimension"),
]
RerankOption = Annotated[
    int, typer.Option("--rerank", help="Score RERANK x K candidates again at the full dimension; 0: none.")
]


def query(
    text: Annotated[
        list[str], typer.Argument(help="What to look for; `-` reads one query a line from stdin.")
    ],
    index: IndexOption = None,
    k: KOption = 10,
    dim: DimOption = None,
    rerank: RerankOption = 0,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            help="The search as stages dim:precision:keep; precisions: exact (the default, left out), "
            "float32, int8, bits; such as 256:100,768 or 768:bits:400,768:int8:30,768.",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            help="The fastest plan proven to reach this overlap@k, as `rsearch tune` measured it; "
            "tunes first if it has not.",
        ),
    ] = None,
    group: Annotated[
        bool, typer.Option("--group", help="Of each document that was cut into chunks, the best one alone.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what each stage read, kept and took.")
    ] = False,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Find the documents nearest to a text.

    rsearch query "tree data structures" --dim 256 --rerank 10
    """
    words = " ".join(text)
    if words != "-" and not words.strip():
        raise UsageError("the query is blank: give it a word or more")

    from resizable_search.cli import render
    from resizable_search.cli.tune import plan_for
    from resizable_search.search import Answer, Timings, open_index

    places = home_of(home)
    with open_index(index_name(index, places), home=places.path, threads=threads, engine=engine) as opened:
        # A wrong option is told before stdin is read.
        if recall is None or plan is not None or dim is not None or rerank:
            chosen = opened.plan(k, dim, rerank, plan, recall)
        else:
            chosen = plan_for(opened, k, recall)
        if words == "-":
            if sys.stdin is None:
                raise RsearchError("stdin is closed: send one query a line to it")
            opened.warm()
            failed = False
            for number, line in enumerate(sys.stdin, 1):
                asked = line.removeprefix(BOM if number == 1 else "").strip()
                if not asked:
                    continue
                try:
                    answer = opened.answer(asked, k, plan=chosen, group=group)
                except (QueryError, RefusedTextError) as error:  # of this text alone: the others have answers
                    failed = True
                    sys.stderr.write(f"rsearch: line {number}: {error}\n")
                    answer = Answer(asked, opened.name, k, str(chosen), Timings(0.0, 0.0, 0.0), [], [])
                render.json_line(render.answer_fields(answer, opened, explain=explain))
            _tell_remark(opened.remark)
            if failed:
                raise typer.Exit(1)
            return
        answer = opened.answer(words, k, plan=chosen, group=group)
        if json:
            render.json_object(render.answer_fields(answer, opened, explain=explain))
        else:
            render.answer(answer, opened, explain=explain)
        _tell_remark(opened.remark)


def _tell_remark(remark: str) -> None:
    """Say on stderr why the search was slower than it could be."""
    if remark:
        sys.stderr.write(f"rsearch: {remark}\n")
