"""`rsearch query` and `similar`: the documents nearest to a text, or to a document of the index."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from resizable_search.cli import completion, remote
from resizable_search.cli.options import (
    ApiKeyEnvOption,
    BaseUrlOption,
    SearchArguments,
    index_name,
    is_given,
    takes,
)
from resizable_search.cli.output import (
    OutputOptions,
    ServedIndex,
    above_min_score,
    answer_record,
    check_fields,
    json_object,
    note,
    open_hit,
    print_answer,
)
from resizable_search.errors import QueryError, RefusedTextError, RsearchError, UsageError
from resizable_search.store.layout import NAMES, home_of, resolve_index

if TYPE_CHECKING:
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index
    from resizable_search.search.planning import SearchOptions
    from resizable_search.search.results import Answer


@takes(SearchArguments)
def query(
    options: SearchArguments,
    context: typer.Context,
    text: Annotated[
        list[str] | None, Argument(help="Text; `-`: a query a line from stdin; none opens a prompt.")
    ] = None,
    embedder: Annotated[
        str | None, Option(help="Another embedder of the index's model.", autocompletion=completion.embedders)
    ] = None,
    model: Annotated[str | None, Option(help="Model's name there.", show_default="as in the index")] = None,
    base_url: BaseUrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
) -> None:
    """Find the documents nearest to a text, or open a prompt.

    The text is embedded as the documents were, and every document is scored at
    --dim dimensions; --rerank scores the best again at the full dimension. Hits
    come best first, ties by lower row, with the cosine similarity. --mode hybrid
    also counts the words of the text, e.g. names and identifiers.
    """
    words = None if not text else " ".join(text)
    if words is None and not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("there is no text to search: give one, or `-` to read one a line from stdin")
    if words is not None and words != "-" and not words.strip():
        raise UsageError("the query is blank: give it a word or more")
    output = options.output()
    if words == "-" and (output.open is not None or output.format not in ("cards", "table", "json")):
        raise UsageError("`-` prints one JSON object a line: leave --open and --format out, or give --json")
    if words is None and output.open is not None:
        raise UsageError("--open needs a text: at the prompt, `:open 1` opens a hit")

    other = None
    if any(option is not None for option in (embedder, model, base_url, api_key_env)):
        other = _other_embedder(options, embedder, model, {"base_url": base_url, "api_key_env": api_key_env})
    elif words and words != "-" and options.ray is None and (served := remote.search(words, options)):
        _print(context, options, *served)
        return
    index = options.open_index(other)
    if words is None:
        _prompt(context, index, options, other)
        return
    with index:
        search = _checked(index, options, output)
        if words == "-":
            _answer_lines(index, output, search)
            _note_idle_rerank(context, options, index.full_dim)
        else:
            _print(context, options, index.search([words], search)[0], index)


@takes(SearchArguments, without=("group", "mode", "ray", "workers", "resources", "partial"))
def similar(
    options: SearchArguments,
    context: typer.Context,
    id: Annotated[str, Argument(help="Id of a document of the index.")],
) -> None:
    """Find the documents nearest to one of the index.

    The document itself is left out. Its own vector is the query, so this needs
    no embedder and no network.
    """
    output = options.output()
    if served := remote.search(id, options, similar=True):
        _print(context, options, *served)
        return
    with options.open_index() as index:
        _print(context, options, index.search_similar(id, _checked(index, options, output)), index)


def _note_idle_rerank(context: typer.Context, options: SearchArguments, full_dim: int) -> None:
    """Say that the --rerank of the command line does nothing; a default from a file waits for a --dim."""
    if options.rerank > 0 and is_given(context, "rerank") and options.dim in (None, full_dim):
        note(f"--rerank does nothing at the full dimension ({full_dim}): add a smaller --dim")


def _checked(index: "Index", options: SearchArguments, output: OutputOptions) -> "SearchOptions":
    """The search with its plan, checked before anything is embedded. Raises UsageError."""
    from resizable_search.cli.tune import plan_for

    check_fields(output, index)
    search = options.search()
    plan = plan_for(index, search)
    if search.recall is not None:
        search = search.with_plan(plan)
    index.check_where(search.where)
    return search


def _print(
    context: typer.Context, options: SearchArguments, answer: "Answer", index: "Index | ServedIndex"
) -> None:
    """Print an answer, and open the hit of --open. Raises UsageError and RsearchError."""
    output = options.output()
    check_fields(output, index)
    answer = above_min_score(answer, output)
    print_answer(answer, index, output)
    if output.open is not None:
        if output.open > len(answer.hits):
            raise RsearchError(f"there is no hit {output.open} to open: there are {len(answer.hits)}")
        open_hit(answer.hits[output.open - 1])
    for remark in filter(None, (answer.remark, index.remark)):
        note(remark)
    _note_idle_rerank(context, options, index.full_dim)


def _prompt(
    context: typer.Context, index: "Index", options: SearchArguments, embedder: "Embedder | None"
) -> None:
    """Open the prompt, and close the index at its end. `embedder` is only for this index."""
    from resizable_search.cli.repl import Session, run, settings_of

    home = home_of(options.home)
    name = index_name(options.index, home)

    def open_named(other: str) -> "Index":
        return options.replace(index=other).open_index(embedder if other == name else None)

    session = None
    try:
        check_fields(options.output(), index)
        index.check_where(options.where)
        session = Session(index, name, open_named, home.names, options, settings_of(context.command.params))
        run(session, home.state(NAMES.history))
    finally:
        (session.index if session else index).close()


def _answer_lines(index: "Index", output: OutputOptions, search: "SearchOptions") -> None:
    """Answer each line of stdin with one line of JSON. A line that cannot be answered has no hits."""
    from resizable_search.search.results import Answer, Timings

    if sys.stdin is None:
        raise RsearchError("stdin is closed: send one query a line to it")
    index.warm()
    output = output._replace(format="jsonl")  # of which no low score is left out
    failed = False
    for number, line in enumerate(sys.stdin, 1):
        text = line.removeprefix("\ufeff" if number == 1 else "").strip()  # the mark of UTF-8
        if not text:
            continue
        try:
            answer = above_min_score(index.search([text], search)[0], output)
        except (QueryError, RefusedTextError) as error:  # of this text alone
            failed = True
            note(f"line {number}: {error}")
            answer = Answer(
                text, index.name, search.k, str(index.plan(search)), Timings(0.0, 0.0, 0.0), [], []
            )
        json_object(answer_record(answer, index, output), indent=None)
    if index.remark:
        note(index.remark)
    if failed:
        raise typer.Exit(1)


def _other_embedder(
    arguments: SearchArguments, kind: str | None, model: str | None, options: dict[str, str | None]
) -> "Embedder":
    """The embedder of this kind, model and options, for the index of the command."""
    from resizable_search.embedders.registry import TrustedEndpoints
    from resizable_search.search.query_embedder import embedder_elsewhere
    from resizable_search.specs import EmbedderSpec
    from resizable_search.store.manifest import read_manifest

    home = home_of(arguments.home)
    name = index_name(arguments.index, home)
    spec = EmbedderSpec.from_json(read_manifest(resolve_index(name, home)).embedder)
    embedder = embedder_elsewhere(spec, kind, model, options)
    trust = TrustedEndpoints(home.trusted)
    if options["base_url"] is None and "base_url" in spec.options and kind in (None, spec.kind):
        trust.require(embedder, name)
    else:
        with suppress(OSError):  # a read-only home asks again next time
            trust.add(embedder)
    return embedder
