"""`rsearch query`: the documents nearest to a text."""

import sys
from typing import Annotated

import typer

from resizable_search.cli.options import HomeOption, IndexOption, JsonOption, KOption, home_of, index_name
from resizable_search.errors import UsageError

DimOption = Annotated[
    int | None,
    typer.Option("--dim", help="Scan the first so many dimensions.  [default: the full dimension]"),
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
        str | None, typer.Option("--plan", help="The search as stages dim:keep,…: 64:1000,256:100,768.")
    ] = None,
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
    from resizable_search.search import open_index

    places = home_of(home)
    with open_index(index_name(index, places), home=places.path) as opened:
        opened.plan(k, dim, rerank, plan)  # a wrong option is told before stdin is read
        if words == "-":
            for line in sys.stdin:
                if line.strip():
                    render.json_line(opened.answer(line.strip(), k, dim, rerank, plan))
            return
        answer = opened.answer(words, k, dim, rerank, plan)
        if json:
            render.json_object(answer)
        else:
            render.answer(answer, opened)
