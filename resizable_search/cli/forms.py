"""How hits are printed, and what of them: --format, --fields, --snippet, --min-score, --open."""

import csv
import io
import math
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from resizable_search.cli import completion
from resizable_search.errors import RsearchError, UsageError
from resizable_search.text import plain, quoted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from resizable_search.cli.sheet import Sheet
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer, Hit

FORMATS = ("table", "json", "jsonl", "csv", "tsv", "plain")
HIT_FIELDS = ("rank", "row", "score", "id", "title", "url", "text")
SNIPPET = 200
"""Characters of a snippet that is among the fields without a length of its own."""

FormatOption = Annotated[
    str, typer.Option("--format", autocompletion=completion.formats, help=f"One of {', '.join(FORMATS)}.")
]
FieldsOption = Annotated[
    str | None,
    typer.Option(
        "--fields",
        autocompletion=completion.fields,
        help="What to print of a hit: rank, row, score, id, title, url, text, snippet, metadata, or keys of "
        "the metadata, with commas between.",
        show_default="what the format usually has",
    ),
]
SnippetOption = Annotated[
    int, typer.Option("--snippet", help="Characters of the passage that matches best to print; 0: none.")
]
MinScoreOption = Annotated[
    float | None, typer.Option("--min-score", help="Leave out hits below this score.", show_default="none")
]
OpenOption = Annotated[
    int | None, typer.Option("--open", help="Open the url of this hit in the browser.", show_default="none")
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        autocompletion=completion.columns,
        help="Only documents of which this SQL expression is true: of id, title, url and the keys of their "
        "metadata, such as \"title GLOB 'B*' AND year > 1990\".",
        show_default="all documents",
    ),
]


@dataclass(frozen=True, slots=True)
class Form:
    """How hits are printed. Made by `form_of`, which checks it."""

    format: str
    fields: tuple[str, ...] | None = None
    snippet: int = 0
    min_score: float | None = None
    open: int | None = None

    @property
    def is_usual(self) -> bool:
        """Whether the whole of each hit is printed as it always is."""
        return self.fields is None and not self.snippet

    def names(self) -> tuple[str, ...]:
        """The fields in order."""
        if self.fields is not None:
            return self.fields
        if self.format in ("json", "jsonl"):
            return (*HIT_FIELDS, "snippet") if self.snippet else HIT_FIELDS
        return ("rank", "score", "id", "title", "url", "snippet" if self.snippet else "text")


def form_of(
    format: str, json: bool, fields: str | None, snippet: int, min_score: float | None, open: int | None
) -> Form:
    """The form that these options mean. Raises UsageError."""
    if format not in FORMATS:
        raise UsageError(f"there is no --format {quoted(format)}: choose one of {', '.join(FORMATS)}")
    if json and format not in ("table", "json"):
        raise UsageError(f"--json is --format json: give either it or --format {format}")
    names = None
    if fields is not None:
        names = tuple(name.strip() for name in fields.split(","))
        if not all(names) or len(set(names)) < len(names):
            raise UsageError("--fields names each field once, with commas between: id,title,score")
    if snippet < 0:
        raise UsageError(f"--snippet must be 0 (none) or more characters, not {snippet}")
    if min_score is not None and math.isnan(min_score):
        raise UsageError("--min-score must be a number")
    if open is not None and open < 1:
        raise UsageError(f"--open names a hit from 1, not {open}")
    return Form("json" if json else format, names, snippet, min_score, open)


def check_fields(form: Form, index: "Index") -> None:
    """Refuse a field that there is not. Raises UsageError."""
    known = (*HIT_FIELDS, "snippet", "metadata")
    if form.fields is None or set(form.fields) <= set(known):
        return
    keys = [name for name in index.columns() if name not in known]
    for name in form.fields:
        if name not in known and name not in keys:
            raise UsageError(f"--fields: there is no {quoted(name)}: there are {', '.join((*known, *keys))}")


def kept(found: "Answer", form: Form) -> "Answer":
    """The answer without the hits below the least score."""
    least = form.min_score
    if least is None:
        return found
    return replace(found, hits=[hit for hit in found.hits if hit.score >= least])


def records(found: "Answer", form: Form) -> list[dict[str, Any]]:
    """Each hit as the fields that the form has; as JSON it usually has its metadata, if there are any."""
    always = form.fields is None and form.format in ("json", "jsonl")
    return [
        {
            name: _field(hit, name, found.query, form)
            for name in (*form.names(), *(["metadata"] if always and hit.metadata else []))
        }
        for hit in found.hits
    ]


def _field(hit: "Hit", name: str, query: str, form: Form) -> Any:
    if name == "snippet":
        from resizable_search.text import snippet

        return snippet(hit.text, query, form.snippet or SNIPPET)
    if name == "metadata":
        return dict(hit.metadata)
    return getattr(hit, name) if name in HIT_FIELDS else hit.metadata.get(name)


def show(found: "Answer", index: "Index", form: Form, *, explain: bool, sheet: "Sheet | None" = None) -> None:
    """Print an answer's hits in that form, on stdout or a sheet that stands for another process's."""
    from resizable_search.cli import render

    out = sheet or sys.stdout
    if form.format == "table" and form.is_usual:
        render.answer(found, index, render.stdout_console(sheet), explain=explain)
    elif form.format == "table":
        _show_table(found, index, form, render.stdout_console(sheet), explain=explain)
    elif form.format == "json":
        fields = render.answer_fields(found, index, explain=explain)
        render.json_object({**fields, "hits": records(found, form)}, sheet)
    elif form.format == "jsonl":
        for record in records(found, form):
            render.json_line(record, sheet)
    elif form.format == "plain":
        for record in records(found, form):
            lines = [f"{name}: {plain(_cell(value))}".rstrip() for name, value in record.items()]
            out.write("\n".join(lines) + "\n\n")
    else:
        out.write(_separated(records(found, form), form, on_terminal=out.isatty()))


def _separated(hits: list[dict[str, Any]], form: Form, *, on_terminal: bool) -> str:
    """The hits with a line of names above: CSV as RFC 4180 but for its line ends, TSV without quotes."""
    out = io.StringIO()
    rows = [[_cell(value) for value in hit.values()] for hit in hits]
    if form.format == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(form.names())
        writer.writerows(map(plain, row) if on_terminal else row for row in rows)
    else:
        for row in ([*form.names()], *rows):
            out.write("\t".join(map(plain, row)) + "\n")
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list | bool):
        import json

        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _show_table(found: "Answer", index: "Index", form: Form, console: "Console", *, explain: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from resizable_search.cli import render

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in form.names():
        wraps = name in ("snippet", "text") and console.is_terminal
        justify: Any = "right" if name in ("rank", "row", "score") else "left"
        table.add_column(
            Text(plain(name)),
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
            justify=justify,
        )
    for record in records(found, form):
        table.add_row(*(_table_cell(name, value, found.query) for name, value in record.items()))
    if found.hits:
        render.show_table(table, console)
    else:
        console.print("no documents")
    console.print(Text(render.answer_footer(found, index), style="dim"))
    if explain:
        console.print(render.explain_table(render.answer_fields(found, index, explain=True)["explain"]))


def _table_cell(name: str, value: Any, query: str) -> "Text":
    from rich.text import Text

    from resizable_search.cli.render import CHARS_SHOWN
    from resizable_search.text import words_of

    if name == "score":
        return Text(f"{value:.4f}")
    cell = Text(plain(_cell(value)[:CHARS_SHOWN]))
    if name == "snippet" and (words := words_of(query)):
        cell.highlight_regex(words, "bold yellow")
    return cell


def open_hit(found: "Answer", form: Form) -> None:
    """Open the url of the hit that --open names. Raises RsearchError where that cannot be done."""
    if form.open is None:
        return
    if form.open > len(found.hits):
        raise RsearchError(f"there is no hit {form.open} to open: there are {len(found.hits)}")
    url = found.hits[form.open - 1].url
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https", "file") or not url.isprintable() or " " in url:
        raise RsearchError(f"hit {form.open} has the url {quoted(url)}: only http, https and file are opened")
    import webbrowser

    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        raise RsearchError(f"there is no browser to open {url} with: set $BROWSER")
