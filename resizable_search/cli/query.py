"""`rsearch query`: the documents nearest to a text."""

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.arguments import ApiKeyEnvOption, BaseUrlOption
from resizable_search.cli.forms import (
    FieldsOption,
    FormatOption,
    MinScoreOption,
    OpenOption,
    SnippetOption,
    WhereOption,
    check_fields,
    form_of,
    kept,
    open_hit,
    records,
    show,
)
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
from resizable_search.index.layout import Home
from resizable_search.wording import plain

if TYPE_CHECKING:
    from resizable_search.embedders.base import Embedder
    from resizable_search.plan import Plan
    from resizable_search.search import Index

BOM = "\ufeff"
"""What some programs put before UTF-8."""

DimOption = Annotated[
    int | None,
    typer.Option(
        "--dim",
        autocompletion=completion.dim,
        help="Scan the first so many dimensions.",
        show_default="the full dimension",
    ),
]
RerankOption = Annotated[
    int, typer.Option("--rerank", help="Score RERANK x K candidates again at the full dimension; 0: none.")
]
PlanOption = Annotated[
    str | None,
    typer.Option(
        "--plan",
        autocompletion=completion.plan,
        help="The search as stages dim:precision:keep; precisions: exact (the default, left out), "
        "float32, int8, bits; such as 256:100,768 or 768:bits:400,768:int8:30,768.",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        help="The fastest plan proven to reach this overlap@k, as `rsearch tune` measured it; "
        "tunes first if it has not.",
    ),
]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Tell what each stage read, kept and took.")]


def query(
    text: Annotated[
        list[str], typer.Argument(help="What to look for; `-` reads one query a line from stdin.")
    ],
    index: IndexOption = None,
    k: KOption = 10,
    dim: DimOption = None,
    rerank: RerankOption = 0,
    plan: PlanOption = None,
    recall: RecallOption = None,
    where: WhereOption = None,
    format: FormatOption = "table",
    json: JsonOption = False,
    fields: FieldsOption = None,
    snippet: SnippetOption = 0,
    min_score: MinScoreOption = None,
    open: OpenOption = None,
    explain: ExplainOption = False,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            autocompletion=completion.embedders,
            help="What embeds the query: the index's model at another place, e.g. openai.",
            show_default="the index's",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="What the model is called there.", show_default="as in the index"),
    ] = None,
    base_url: BaseUrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
    group: Annotated[
        bool, typer.Option("--group", help="Of each document that was cut into chunks, the best one alone.")
    ] = False,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    home: HomeOption = None,
) -> None:
    """Find the documents nearest to a text.

    The text is embedded as the index's documents were, and every document is
    scored at --dim dimensions; --rerank scores the best again at the full one.
    Hits come best first, ties by lower row, with the cosine similarity.
    """
    words = " ".join(text)
    if words != "-" and not words.strip():
        raise UsageError("the query is blank: give it a word or more")
    form = form_of(format, json, fields, snippet, min_score, open)
    if words == "-" and (form.open is not None or form.format not in ("table", "json")):
        raise UsageError("`-` prints one JSON object a line: leave --open and --format out")

    from resizable_search.answers import Answer, Timings
    from resizable_search.cli import render
    from resizable_search.search import open_index

    places = home_of(home)
    name = index_name(index, places)
    other = None
    if any(word is not None for word in (embedder, model, base_url, api_key_env)):
        other = _another_embedder(name, places, embedder, model, base_url, api_key_env)
    with open_index(name, home=places.path, embedder=other, threads=threads, engine=engine) as opened:
        # A wrong option is told before stdin is read.
        check_fields(form, opened)
        chosen = chosen_plan(opened, k, dim, rerank, plan, recall)
        opened.check_where(where)
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
                    answer = kept(opened.answer(asked, k, plan=chosen, where=where, group=group), form)
                except (QueryError, RefusedTextError) as error:  # of this text alone: the others have answers
                    failed = True
                    sys.stderr.write(f"rsearch: line {number}: {plain(str(error))}\n")
                    answer = Answer(asked, opened.name, k, str(chosen), Timings(0.0, 0.0, 0.0), [], [])
                told = render.answer_fields(answer, opened, explain=explain)
                render.json_line(
                    told if form.is_usual else {**told, "hits": records(answer, replace(form, format="json"))}
                )
            tell_remark(opened.remark)
            if failed:
                raise typer.Exit(1)
            return
        answer = kept(opened.answer(words, k, plan=chosen, where=where, group=group), form)
        show(answer, opened, form, explain=explain)
        open_hit(answer, form)
        tell_remark(opened.remark)


def _another_embedder(
    name: str, places: Home, kind: str | None, model: str | None, base_url: str | None, variable: str | None
) -> "Embedder":
    """The embedder that these options describe, for the index of that name."""
    from resizable_search.embedders.base import EmbedderSpec
    from resizable_search.embedders.trust import Trust
    from resizable_search.index.locate import find_index
    from resizable_search.index.manifest import read_manifest
    from resizable_search.questions import embedder_elsewhere

    spec = EmbedderSpec.from_json(read_manifest(find_index(name, places)).embedder)
    made = embedder_elsewhere(spec, kind, model, {"base_url": base_url, "api_key_env": variable})
    trust = Trust(places.trusted)
    if base_url is None and "base_url" in spec.options and kind in (None, spec.kind):
        trust.ask(made, name)
    else:
        with suppress(OSError):  # of a home that cannot be written: it is asked again next time
            trust.give(made)
    return made


def chosen_plan(
    index: "Index", k: int, dim: int | None, rerank: int, plan: str | None, recall: float | None
) -> "Plan":
    """The plan that these options mean; for a recall without one it is tuned. Raises UsageError."""
    from resizable_search.cli.tune import plan_for

    if recall is None or plan is not None or dim is not None or rerank:
        return index.plan(k, dim, rerank, plan, recall)
    return plan_for(index, k, recall)


def tell_remark(remark: str) -> None:
    """Say on stderr why the search was slower than it could be."""
    if remark:
        sys.stderr.write(f"rsearch: {remark}\n")
