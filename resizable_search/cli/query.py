"""`rsearch query` and `similar`: the documents nearest to a text, or to a document of the index."""

import math
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer
from typer import Argument, Option

from resizable_search.cli import completion, remote
from resizable_search.cli.help import with_flags
from resizable_search.cli.options import (
    ApiKeyEnvOption,
    BaseUrlOption,
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    index_name,
    parse_words,
    takes,
)
from resizable_search.cli.output import (
    FORMATS,
    HIT_FIELDS,
    OutputOptions,
    above_min_score,
    answer_record,
    check_fields,
    json_object,
    open_hit,
    print_answer,
)
from resizable_search.errors import QueryError, RefusedTextError, RsearchError, UsageError
from resizable_search.store.layout import NAMES, home_of
from resizable_search.text import plain

if TYPE_CHECKING:
    from resizable_search.cli.remote import ServedIndex
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, SearchOptions


@completion.source
def _field_names(context: typer.Context, incomplete: str) -> list[str]:
    """A list of fields and keys of the metadata."""
    names = (*HIT_FIELDS, "snippet", "metadata", *completion.metadata_keys(context))
    return completion.listed(names, incomplete)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchArguments:
    """The options that `query` and `similar` share."""

    index: IndexOption = None
    k: KOption = 10
    dim: Annotated[
        int | None,
        Option(
            autocompletion=completion.dim,
            help="Scan only the first DIM dimensions.",
            show_default="the full dimension",
        ),
    ] = None
    rerank: Annotated[
        int, Option(help="Score RERANK x K candidates again at the full dimension; 0: none.")
    ] = 0
    plan: Annotated[
        str | None,
        Option(
            autocompletion=completion.plan,
            help="Search by stages dim:precision:keep; precisions: exact (the default, left out), float32, "
            "int8, bits; e.g. 256:100,768 or 768:bits:400,768:int8:30,768.",
        ),
    ] = None
    recall: Annotated[
        float | None,
        Option(
            help="Use the plan that `rsearch tune` measured for this overlap@k; tune first if there is none."
        ),
    ] = None
    where: Annotated[
        str | None,
        Option(
            autocompletion=completion.columns,
            help="Search only documents that match this SQL expression over id, title, url and metadata "
            "keys, e.g. \"title GLOB 'B*' AND year > 1990\".",
            show_default="all documents",
        ),
    ] = None
    format: Annotated[
        Literal["table", "json", "jsonl", "csv", "tsv", "plain"],
        Option(metavar="FORMAT", help=f"{', '.join(FORMATS)}."),
    ] = "table"
    json: JsonOption = False
    fields: Annotated[
        str | None,
        Option(
            autocompletion=_field_names,
            help="Fields of a hit to print: rank, row, score, id, title, url, text, snippet, metadata, or "
            "keys of the metadata; separate with commas.",
            show_default="depends on the format",
        ),
    ] = None
    snippet: Annotated[
        int, Option(min=0, help="Print the best matching N characters; 0: none.", metavar="N")
    ] = 0
    min_score: Annotated[
        float | None, Option(help="Leave out hits below this score.", show_default="none")
    ] = None
    open: Annotated[
        int | None, Option(min=1, help="Open the url of this hit in the browser.", show_default="none")
    ] = None
    explain: Annotated[bool, Option("--explain", help="Tell what each stage read, kept and took.")] = False
    threads: ThreadsOption = None
    engine: EngineOption = "auto"
    home: HomeOption = None

    def output(self) -> OutputOptions:
        """How hits are printed. Raises UsageError."""
        format = "json" if self.json else self.format
        if self.json and self.format not in ("table", "json"):
            raise UsageError(f"--json means --format json: leave it or --format {self.format} out")
        names = None if self.fields is None else parse_words(self.fields)
        if names is not None and (not all(names) or len(set(names)) < len(names)):
            raise UsageError("--fields takes each field once, separated by commas: id,title,score")
        if self.min_score is not None and math.isnan(self.min_score):
            raise UsageError("--min-score must be a number")
        return OutputOptions(format, names, self.snippet, self.min_score, self.open)

    def search(self, *, group: bool = False) -> "SearchOptions":
        """How to search. Raises UsageError."""
        from resizable_search.search.results import SearchOptions

        return SearchOptions(self.k, self.dim, self.rerank, self.plan, self.recall, self.where, group)

    def open_index(self, embedder: "Embedder | None" = None) -> "Index":
        """Open the index of the command."""
        from resizable_search.search.index import open_index

        home = home_of(self.home)
        name = index_name(self.index, home)
        return open_index(name, home=home.path, embedder=embedder, threads=self.threads, engine=self.engine)


@takes(SearchArguments)
def query(
    options: SearchArguments,
    text: Annotated[
        list[str] | None,
        Argument(help="Text to search; `-` reads one query a line from stdin; none opens a prompt."),
    ] = None,
    group: Annotated[bool, Option("--group", help="Show only the best chunk of each document.")] = False,
    embedder: Annotated[
        str | None,
        Option(
            autocompletion=completion.embedders,
            help="Embed the query by this embedder, which serves the index's model, e.g. openai.",
            show_default="the index's",
        ),
    ] = None,
    model: Annotated[
        str | None, Option(help="Name of the model there.", show_default="as in the index")
    ] = None,
    base_url: BaseUrlOption = None,
    api_key_env: ApiKeyEnvOption = None,
) -> None:
    """Find the documents nearest to a text; without a text, open a prompt.

    The text is embedded as the documents were, and every document is scored at
    --dim dimensions; --rerank scores the best again at the full dimension. Hits
    come best first, ties by lower row, with the cosine similarity.
    """
    words = None if not text else " ".join(text)
    if words is None and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise UsageError("there is no text to search: give one, or `-` to read one a line from stdin")
    if words is not None and words != "-" and not words.strip():
        raise UsageError("the query is blank: give it a word or more")
    output = options.output()
    if words == "-" and (output.open is not None or output.format not in ("table", "json")):
        raise UsageError("`-` prints one JSON object a line: leave --open and --format out")
    if words is None and output.open is not None:
        raise UsageError("--open needs a text: at the prompt, `:open 1` opens a hit")

    other = None
    if any(option is not None for option in (embedder, model, base_url, api_key_env)):
        other = _other_embedder(options, embedder, model, {"base_url": base_url, "api_key_env": api_key_env})
    elif words is not None and words != "-":
        served = remote.search(words, options, group=group)
        if served is not None:
            _print(*served, options, output)
            return
    index = options.open_index(other)
    if words is None:
        _prompt(index, options, output, group=group, embedder=other)
        return
    with index:
        search = _checked(index, options, output, group=group)
        if words == "-":
            _answer_lines(index, options, output, search)
        else:
            _print(index.search([words], search)[0], index, options, output)


@takes(SearchArguments)
def similar(
    options: SearchArguments,
    id: Annotated[str, Argument(help="Id of a document of the index.", autocompletion=completion.ids)],
) -> None:
    """Find the documents nearest to one of the index, without itself.

    It needs no embedder and no network: the document's own vector is the query.
    """
    output = options.output()
    served = remote.search(id, options, similar=True)
    if served is not None:
        _print(*served, options, output)
        return
    with options.open_index() as index:
        answer = index.search_similar(id, _checked(index, options, output))
        _print(answer, index, options, output)


def _checked(
    index: "Index", options: SearchArguments, output: OutputOptions, *, group: bool = False
) -> "SearchOptions":
    """The search with its plan, checked before anything is embedded. Raises UsageError."""
    from resizable_search.cli.tune import plan_for

    check_fields(output, index)
    search = options.search(group=group)
    search = search.with_plan(plan_for(index, search))
    index.check_where(search.where)
    return search


def _print(
    answer: "Answer", index: "Index | ServedIndex", options: SearchArguments, output: OutputOptions
) -> None:
    """Print an answer, and open the hit of --open. Raises UsageError and RsearchError."""
    check_fields(output, index)
    answer = above_min_score(answer, output)
    print_answer(answer, index, output, explain=options.explain)
    if output.open is not None:
        if output.open > len(answer.hits):
            raise RsearchError(f"there is no hit {output.open} to open: there are {len(answer.hits)}")
        open_hit(answer.hits[output.open - 1])
    _warn(index.remark)


def _warn(remark: str) -> None:
    """Say on stderr why the search was slower than it could be."""
    if remark:
        sys.stderr.write(f"rsearch: {with_flags(remark)}\n")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _prompt(
    index: "Index",
    options: SearchArguments,
    output: OutputOptions,
    *,
    group: bool,
    embedder: "Embedder | None",
) -> None:
    """Open the prompt, and close the index at its end. `embedder` is only for this index."""
    from resizable_search.cli.repl import History, run
    from resizable_search.cli.repl_session import Session, Settings

    home = home_of(options.home)
    name = index_name(options.index, home)

    def open_named(other: str) -> "Index":
        return replace(options, index=other).open_index(embedder if other == name else None)

    session = None
    try:
        check_fields(output, index)
        index.check_where(options.where)
        settings = Settings(options.search(group=group), output.snippet, options.explain)
        session = Session(index, name, open_named, home.names, settings, output)
        run(session, History(home.state(NAMES.history)))
    finally:
        (session.index if session else index).close()


def _answer_lines(
    index: "Index", options: SearchArguments, output: OutputOptions, search: "SearchOptions"
) -> None:
    """Answer each line of stdin with one line of JSON. A line that cannot be answered has no hits."""
    from resizable_search.search.results import Answer, Timings

    if sys.stdin is None:
        raise RsearchError("stdin is closed: send one query a line to it")
    index.warm()
    failed = False
    for number, line in enumerate(sys.stdin, 1):
        text = line.removeprefix("\ufeff" if number == 1 else "").strip()  # the mark of UTF-8
        if not text:
            continue
        try:
            answer = above_min_score(index.search([text], search)[0], output)
        except (QueryError, RefusedTextError) as error:  # of this text alone
            failed = True
            sys.stderr.write(f"rsearch: line {number}: {plain(with_flags(str(error)))}\n")
            answer = Answer(text, index.name, options.k, str(search.plan), Timings(0.0, 0.0, 0.0), [], [])
        json_object(answer_record(answer, index, output, explain=options.explain), indent=None)
    _warn(index.remark)
    if failed:
        raise typer.Exit(1)


def _other_embedder(
    arguments: SearchArguments, kind: str | None, model: str | None, options: dict[str, str | None]
) -> "Embedder":
    """The embedder of this kind, model and options, for the index of the command."""
    from resizable_search.embedders.registry import TrustedEndpoints
    from resizable_search.search.query_embedder import embedder_elsewhere
    from resizable_search.specs import EmbedderSpec
    from resizable_search.store.layout import resolve_index
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
