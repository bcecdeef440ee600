"""How hits are printed (--format, --fields, --snippet, --min-score, --open), and JSON on stdout."""

import csv
import io
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TextIO
from urllib.parse import urlsplit

import typer

from resizable_search.cli import completion
from resizable_search.errors import RsearchError, UsageError
from resizable_search.text import plain, quoted, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from resizable_search.cli.remote import ServedIndex
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, Hit

FORMATS = ("table", "json", "jsonl", "csv", "tsv", "plain")
HIT_FIELDS = ("rank", "row", "score", "id", "title", "url", "text")
SNIPPET = 200
"""Characters of a snippet if --fields names one and --snippet gives no length."""

CHARS_SHOWN = 2_000
"""Characters of a text that a cell of a table may show: a text may have millions."""

FormatOption = Annotated[
    str, typer.Option("--format", autocompletion=completion.formats, help=f"One of {', '.join(FORMATS)}.")
]
FieldsOption = Annotated[
    str | None,
    typer.Option(
        "--fields",
        autocompletion=completion.fields,
        help="Fields of a hit to print: rank, row, score, id, title, url, text, snippet, metadata, or keys "
        "of the metadata; separate with commas.",
        show_default="depends on the format",
    ),
]
SnippetOption = Annotated[
    int, typer.Option("--snippet", help="Print the best matching passage of this many characters; 0: none.")
]
MinScoreOption = Annotated[
    float | None, typer.Option("--min-score", help="Leave out hits below this score.", show_default="none")
]
OpenOption = Annotated[
    int | None, typer.Option("--open", help="Open the url of this hit in the browser.", show_default="none")
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How hits are printed. Made by `output_options`, which checks it."""

    format: str
    fields: tuple[str, ...] | None = None
    snippet: int = 0
    min_score: float | None = None
    open: int | None = None

    @property
    def has_default_fields(self) -> bool:
        """Whether each hit is printed with the fields that its format has by default."""
        return self.fields is None and not self.snippet

    def names(self) -> tuple[str, ...]:
        """The fields in order."""
        if self.fields is not None:
            return self.fields
        if self.format in ("json", "jsonl"):
            return (*HIT_FIELDS, "snippet") if self.snippet else HIT_FIELDS
        return ("rank", "score", "id", "title", "url", "snippet" if self.snippet else "text")


def output_options(
    format: str, json: bool, fields: str | None, snippet: int, min_score: float | None, open: int | None
) -> OutputOptions:
    """Check these options. Raises UsageError."""
    if format not in FORMATS:
        raise UsageError(f"--format {quoted(format)} is unknown: choose one of {', '.join(FORMATS)}")
    if json and format not in ("table", "json"):
        raise UsageError(f"--json means --format json: leave it or --format {format} out")
    names = None
    if fields is not None:
        names = tuple(name.strip() for name in fields.split(","))
        if not all(names) or len(set(names)) < len(names):
            raise UsageError("--fields takes each field once, separated by commas: id,title,score")
    if snippet < 0:
        raise UsageError(f"--snippet must be 0 (none) or more characters, not {snippet}")
    if min_score is not None and math.isnan(min_score):
        raise UsageError("--min-score must be a number")
    if open is not None and open < 1:
        raise UsageError(f"--open takes the number of a hit, from 1, not {open}")
    return OutputOptions("json" if json else format, names, snippet, min_score, open)


def check_fields(options: OutputOptions, index: "Index | ServedIndex") -> None:
    """Refuse an unknown field. Raises UsageError."""
    known = (*HIT_FIELDS, "snippet", "metadata")
    unknown = [name for name in options.fields or () if name not in known]
    keys = [name for name in index.columns() if name not in known] if unknown else []
    for name in unknown:
        if name not in keys:
            raise UsageError(
                f"--fields: unknown field {quoted(name)}: choose among {', '.join((*known, *keys))}"
            )


def above_min_score(answer: "Answer", options: OutputOptions) -> "Answer":
    """The answer without the hits below the least score."""
    least = options.min_score
    return answer if least is None else replace(answer, hits=[h for h in answer.hits if h.score >= least])


def hit_records(answer: "Answer", options: OutputOptions) -> list[dict[str, Any]]:
    """Each hit as a dict of its fields. JSON has the metadata, too, unless fields are named."""
    in_json = options.fields is None and options.format in ("json", "jsonl")
    return [
        {
            name: _field(hit, name, answer.query, options)
            for name in (*options.names(), *(["metadata"] if in_json and hit.metadata else []))
        }
        for hit in answer.hits
    ]


def _field(hit: "Hit", name: str, query: str, options: OutputOptions) -> Any:
    if name == "snippet":
        from resizable_search.text import snippet

        return snippet(hit.text, query, options.snippet or SNIPPET)
    if name == "metadata":
        return dict(hit.metadata)
    return getattr(hit, name) if name in HIT_FIELDS else hit.metadata.get(name)


def print_answer(
    answer: "Answer", index: "Index | ServedIndex", options: OutputOptions, *, explain: bool
) -> None:
    """Print the hits of an answer on stdout."""
    if options.format == "table":
        from resizable_search.cli.tables import stdout_console

        print_hits_table(answer, index, options, stdout_console(), explain=explain)
    elif options.format == "json":
        json_object({**answer_fields(answer, index, explain=explain), "hits": hit_records(answer, options)})
    elif options.format == "jsonl":
        for record in hit_records(answer, options):
            json_line(record)
    elif options.format == "plain":
        for record in hit_records(answer, options):
            lines = [f"{name}: {plain(_cell(value))}".rstrip() for name, value in record.items()]
            sys.stdout.write("\n".join(lines) + "\n\n")
    else:
        sys.stdout.write(_separated(answer, options, on_terminal=sys.stdout.isatty()))


def _separated(answer: "Answer", options: OutputOptions, *, on_terminal: bool) -> str:
    """The hits under a line of names: CSV as RFC 4180 but with bare line feeds, or TSV without quotes."""
    out = io.StringIO()
    rows = [[_cell(value) for value in hit.values()] for hit in hit_records(answer, options)]
    if options.format == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(options.names())
        writer.writerows(map(plain, row) if on_terminal else row for row in rows)
    else:
        for row in ([*options.names()], *rows):
            out.write("\t".join(map(plain, row)) + "\n")
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)


def print_hits_table(
    answer: "Answer",
    index: "Index | ServedIndex",
    options: OutputOptions,
    console: "Console",
    *,
    explain: bool,
) -> None:
    """Print the hits as a table, and below it what was searched, how, and how long it took."""
    from rich.text import Text

    from resizable_search.cli.tables import show_table

    if not answer.hits:
        console.print("no documents")
    elif options.has_default_fields:
        show_table(hits_table(answer, links=console.is_terminal), console)
    else:
        show_table(_fields_table(answer, options, wraps=console.is_terminal), console)
    console.print(Text(answer_footer(answer, index), style="dim"))
    if explain:
        show_table(explain_table(answer_fields(answer, index, explain=True)["explain"]), console)


def _fields_table(answer: "Answer", options: OutputOptions, *, wraps: bool) -> "Table":
    """The fields that were asked for, a column each."""
    from resizable_search.cli.tables import borderless

    fold = ("snippet", "text") if wraps else ()
    table = borderless(*options.names(), right=("rank", "row", "score"), fold=fold)
    for record in hit_records(answer, options):
        table.add_row(*(_table_cell(name, value, answer.query) for name, value in record.items()))
    return table


def _table_cell(name: str, value: Any, query: str) -> "Text":
    from rich.text import Text

    from resizable_search.text import words_of

    if name == "score":
        return Text(f"{value:.4f}")
    cell = Text(plain(_cell(value)[:CHARS_SHOWN]))
    if name == "snippet" and (words := words_of(query)):
        cell.highlight_regex(words, "bold yellow")
    return cell


def hits_table(answer: "Answer", *, links: bool) -> "Table":
    """Rank, score, title and first words of each hit.

    With `links` the title is a link; else the url has a column. A document of a file shows its location
    in it, and a chunk has its heading as title.
    """
    from rich.text import Text

    from resizable_search.cli.tables import borderless

    table = borderless()
    table.expand = links
    # On a narrow terminal title and text give way, and these two stay.
    ranks, scores = [str(hit.rank) for hit in answer.hits], [f"{hit.score:.4f}" for hit in answer.hits]
    table.add_column("#", justify="right", no_wrap=True, min_width=max(map(len, ranks)))
    table.add_column("score", justify="right", no_wrap=True, min_width=max(map(len, scores)))
    locations = [location(hit.metadata) if not _is_web(hit.url) else "" for hit in answer.hits]
    if any(locations):
        width = max(map(len, locations)) if links else None
        table.add_column("where", no_wrap=True, ratio=3 if links else None, max_width=width)
    table.add_column("title", no_wrap=True, ratio=3 if links else None, max_width=48 if links else None)
    table.add_column("text", no_wrap=True, ratio=4 if links else None)
    if not links:
        table.add_column("url", no_wrap=True)
    for hit, rank, score, where in zip(answer.hits, ranks, scores, locations, strict=True):
        style = "bold cyan"
        if links and (_is_web(hit.url) or hit.url.startswith("file:///")):
            style += f" link {plain(hit.url).replace(' ', '%20')}"
        heading = str(hit.metadata.get("heading", "")).rpartition(" › ")[2]
        words = first_words(f"{hit.title} {heading}", hit.text)
        table.add_row(
            Text(rank, style="dim"),
            score,
            *([_CutAtStart(where)] if any(locations) else []),
            Text(plain((heading or hit.title)[:CHARS_SHOWN]) or plain(hit.id), style=style),
            Text(words if links or len(words) <= 60 else f"{words[:59]}…"),
            *([] if links else [Text(plain(hit.url))]),
        )
    return table


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def first_words(title: str, text: str) -> str:
    """The text on one line, without leading lines that only repeat the title, as headings do."""
    letters = _letters(title)
    lines = text[:CHARS_SHOWN].split("\n")
    own = next((i for i, line in enumerate(lines) if _letters(line) not in letters), 0)
    return plain("\n".join(lines[own:]))


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def location(metadata: "Mapping[str, Any]") -> str:
    """The location of a document in its file, as compilers write it; '' for one without a file."""
    name = metadata.get("path") or metadata.get("document")
    if not isinstance(name, str):
        return ""
    for key, suffix in (("line", ":{}"), ("row", ":{}"), ("page", " p. {}"), ("chunk", " #{}")):
        if key in metadata:
            return plain(name + suffix.format(metadata[key]))
    return plain(name)


class _CutAtStart:
    """A cell that is cut at its start: the end of a path says most."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        room = options.max_width
        if cell_len(self._text) > room:
            yield Text(f"…{set_cell_size(self._text[::-1], room - 1)[::-1]}", no_wrap=True)
        else:
            yield Text(self._text, no_wrap=True)

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        from rich.cells import cell_len
        from rich.measure import Measurement

        return Measurement(min(8, cell_len(self._text)), cell_len(self._text))


def answer_footer(answer: "Answer", index: "Index | ServedIndex") -> str:
    """One line: what was searched, by which plan, and the time to embed, scan and rerank."""
    times = answer.timings_ms
    rerank = f" · rerank {times.rerank:.1f}" if times.rerank else ""
    return (
        f"{answer.index} · {index.rows:,} × {index.full_dim} · plan {answer.plan} · "
        f"embed {times.embed:.1f} · scan {times.scan:.1f}{rerank} ms"
    )


def explain_table(stages: "Sequence[dict[str, Any]]") -> "Table":
    """A line for each stage. `rescored` counts the rows whose exact score was computed."""
    from resizable_search.cli.tables import borderless

    numbers = ("rows in", "rows out", "rescored", "bytes", "ms")
    table = borderless("stage", *numbers, "read", "engine", right=numbers, fold=("stage",))
    for stage in stages:
        table.add_row(
            str(stage["stage"]),
            *(f"{stage[name]:,}" for name in ("rows_in", "rows_out", "looked")),
            size(stage["bytes"]),
            f"{stage['ms']:.2f}",
            str(stage["read"]),
            f"{stage['engine']} ×{stage['threads']}",
        )
    return table


def answer_fields(answer: "Answer", index: "Index | ServedIndex", *, explain: bool) -> dict[str, Any]:
    """An answer as the object that is printed as JSON; with `explain`, how each stage went."""
    from resizable_search.search.results import fields

    return fields(answer, threads=index.threads if explain else None)


def json_object(value: Any) -> None:
    """Print a dataclass or a dict as an indented JSON object, dataclasses as a list of them."""
    sys.stdout.write(_dumps(value, sys.stdout, indent=2))


def json_line(value: Any) -> None:
    """Print a dataclass or a dict as one line of JSON, and flush it."""
    sys.stdout.write(_dumps(value, sys.stdout))
    sys.stdout.flush()


def _dumps(value: Any, out: TextIO, indent: int | None = None) -> str:
    # UTF-8 lacks lone surrogates alone, and what `main` has stdout write for one is JSON's own escape.
    unicode = out.encoding.lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not unicode, indent=indent, default=asdict) + "\n"


def open_hit(answer: "Answer", options: OutputOptions) -> None:
    """Open the url of the hit that --open names. Raises RsearchError."""
    if options.open is None:
        return
    if options.open > len(answer.hits):
        raise RsearchError(f"there is no hit {options.open} to open: there are {len(answer.hits)}")
    url = answer.hits[options.open - 1].url
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https", "file") or not url.isprintable() or " " in url:
        raise RsearchError(
            f"hit {options.open} has the url {quoted(url)}: only http, https and file are opened"
        )
    import webbrowser

    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        raise RsearchError(f"there is no browser to open {url}: set $BROWSER")
