"""`rsearch query`: the documents nearest to a text."""

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion, remote
from resizable_search.cli.app import with_flags
from resizable_search.cli.arguments import ApiKeyEnvOption, BaseUrlOption, takes
from resizable_search.cli.options import home_of, index_name
from resizable_search.cli.output import OutputOptions, above_min_score, hit_records
from resizable_search.cli.searching import SearchArguments, tell_remark
from resizable_search.errors import QueryError, RefusedTextError, RsearchError, UsageError
from resizable_search.store.layout import Home
from resizable_search.text import plain

if TYPE_CHECKING:
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index
    from resizable_search.search.options import SearchOptions

BOM = "\ufeff"
"""What some programs put before UTF-8."""


@takes(SearchArguments)
def query(
    options: SearchArguments,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to look for; `-` reads one query a line from stdin; without it, a prompt opens."
        ),
    ] = None,
    group: Annotated[
        bool, typer.Option("--group", help="Of each document that was cut into chunks, the best one alone.")
    ] = False,
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
) -> int:
    """Find the documents nearest to a text; without one, on a terminal, ask for texts.

    The text is embedded as the index's documents were, and every document is
    scored at --dim dimensions; --rerank scores the best again at the full one.
    Hits come best first, ties by lower row, with the cosine similarity.
    """
    words = None if not text else " ".join(text)
    if words is None and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise UsageError("there is no text to look for: give one, or `-` to read one a line from stdin")
    if words is not None and words != "-" and not words.strip():
        raise UsageError("the query is blank: give it a word or more")
    form = options.form()
    if words == "-" and (form.open is not None or form.format not in ("table", "json")):
        raise UsageError("`-` prints one JSON object a line: leave --open and --format out")
    if words is None and form.open is not None:
        raise UsageError("--open is of one query: at the prompt, `:open 1` opens a hit")

    other = None
    if any(word is not None for word in (embedder, model, base_url, api_key_env)):
        places = home_of(options.home)
        name = index_name(options.index, places)
        other = _another_embedder(name, places, embedder, model, base_url, api_key_env)
    elif words is not None and words != "-":
        served = remote.search(words, options, group=group)
        if served is not None:
            options.present(*served, form)
            return 0
    index = options.opened(other)
    if words is None:
        from resizable_search.cli.repl import ask

        ask(index, options, form, group=group, embedder=other)
        return 0
    with index:
        # A wrong option is told before stdin is read.
        search = options.checked(index, form, group=group)
        if words == "-":
            _answer_lines(index, options, form, search)
        else:
            options.present(index.search([words], search)[0], index, form)
    return 0


def _is_terminal(stream: object) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", bool)())


def _answer_lines(
    index: "Index", options: SearchArguments, form: OutputOptions, search: "SearchOptions"
) -> None:
    """Answer each line of stdin with one JSON object; one that has no answer is told, and has no hits."""
    from resizable_search.cli import output
    from resizable_search.search.results import Answer, Timings

    if sys.stdin is None:
        raise RsearchError("stdin is closed: send one query a line to it")
    index.warm()
    failed = False
    for number, line in enumerate(sys.stdin, 1):
        asked = line.removeprefix(BOM if number == 1 else "").strip()
        if not asked:
            continue
        try:
            answer = above_min_score(index.search([asked], search)[0], form)
        except (QueryError, RefusedTextError) as error:  # of this text alone: the others have answers
            failed = True
            sys.stderr.write(f"rsearch: line {number}: {plain(with_flags(str(error)))}\n")
            answer = Answer(asked, index.name, search.k, str(search.plan), Timings(0.0, 0.0, 0.0), [], [])
        told = output.answer_fields(answer, index, explain=options.explain)
        output.json_line(
            told
            if form.has_default_fields
            else {**told, "hits": hit_records(answer, replace(form, format="json"))}
        )
    tell_remark(index.remark)
    if failed:
        raise typer.Exit(1)


def _another_embedder(
    name: str, places: Home, kind: str | None, model: str | None, base_url: str | None, variable: str | None
) -> "Embedder":
    """The embedder that these options describe, for the index of that name."""
    from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
    from resizable_search.search.query_embedder import embedder_elsewhere
    from resizable_search.specs import EmbedderSpec
    from resizable_search.store.layout import resolve_index
    from resizable_search.store.manifest import read_manifest

    spec = EmbedderSpec.from_json(read_manifest(resolve_index(name, places)).embedder)
    made = embedder_elsewhere(spec, kind, model, {"base_url": base_url, "api_key_env": variable})
    trust = TrustedEndpoints(places.trusted)
    if base_url is None and "base_url" in spec.options and kind in (None, spec.kind):
        trust.require(made, name)
    else:
        with suppress(OSError):  # of a home that cannot be written: it is asked again next time
            trust.add(made)
    return made
