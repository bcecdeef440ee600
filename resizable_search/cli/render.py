"""Results as tables and JSON on stdout. Text of documents is shown as text: no markup, no escapes."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from resizable_search.text import plain, size

if TYPE_CHECKING:
    from resizable_search.cli.sheet import Sheet
    from resizable_search.search.index import Index
    from resizable_search.search.results import Answer

PIPED_WIDTH = 10_000
"""Columns of a table that does not go to a terminal: enough that nothing is cut off for their sake."""

CHARS_SHOWN = 2_000
"""Characters of a text that are looked at for a cell of a table: a text may have millions."""


def stdout_console(sheet: "Sheet | None" = None) -> Console:
    """The console of results: as wide as the terminal ($COLUMNS rules it), or without an end in a pipe.

    With $NO_COLOR it has no escape codes at all, bold and links included. A sheet stands for the stdout
    of another process.
    """
    environ = os.environ if sheet is None else sheet.environ
    colours: Any = None if environ.get("NO_COLOR") else "auto"
    console = Console(
        color_system=colours, highlight=False, markup=False, emoji=False, file=sheet, _environ=environ
    )
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def one_line(words: str) -> Text:
    """A cell that stays on one line in a column that gives way on a narrow terminal: one that may be wrapped.

    rich narrows such columns first, and the others only when nothing is left of these.
    """
    return Text(words, no_wrap=True, overflow="ellipsis")


def show_table(table: Table, console: Console) -> None:
    """Print a table; in a pipe, without the spaces that fill its lines up to the last column's width."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def json_object(value: Any, sheet: "Sheet | None" = None) -> None:
    """A dataclass, or its fields, as one indented JSON object."""
    out = sheet or sys.stdout
    out.write(_dumps(_fields(value), out, indent=2))


def json_line(value: Any, sheet: "Sheet | None" = None) -> None:
    """A dataclass, or its fields, as one line of JSON, written at once."""
    out = sheet or sys.stdout
    out.write(_dumps(_fields(value), out))
    out.flush()


def json_list(values: Sequence[Any]) -> None:
    """Dataclasses as one indented JSON list."""
    sys.stdout.write(_dumps([asdict(value) for value in values], sys.stdout, indent=2))


def _fields(value: Any) -> Any:
    return value if isinstance(value, dict) else asdict(value)


def _dumps(value: Any, out: TextIO, indent: int | None = None) -> str:
    # UTF-8 lacks lone surrogates alone, and what `main` has stdout write for one is JSON's own escape.
    unicode = out.encoding.lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not unicode, indent=indent) + "\n"


def first_words(title: str, text: str) -> str:
    """The text on one line, without leading lines that only repeat the title, as headings do."""
    said = _letters(title)
    lines = text[:CHARS_SHOWN].split("\n")
    own = next((i for i, line in enumerate(lines) if _letters(line) not in said), 0)
    return plain("\n".join(lines[own:]))


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def answer_fields(found: "Answer", index: "Index", *, explain: bool) -> dict[str, Any]:
    """An answer as the object that is printed as JSON; with `explain`, how each stage went."""
    from resizable_search.search.results import fields

    return fields(found, threads=index.threads if explain else None)


def answer(found: "Answer", index: "Index", console: Console | None = None, *, explain: bool = False) -> None:
    """The hits of a query as a table, and below it what was searched and how long it took."""
    console = console or stdout_console()
    if found.hits:
        show_table(results_table(found, links=console.is_terminal), console)
    else:
        console.print("no documents")
    console.print(Text(answer_footer(found, index), style="dim"))
    if explain:
        console.print(explain_table(answer_fields(found, index, explain=True)["explain"]))


def results_table(found: "Answer", *, links: bool) -> Table:
    """Rank, score, title and first words; with `links` the title leads to the url, else it is a column.

    What lies in a file and has no address says where, and a chunk is titled by the heading that it
    begins under.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=links)
    # On a narrow terminal title and text give way, and these two stay.
    ranks, scores = [str(hit.rank) for hit in found.hits], [f"{hit.score:.4f}" for hit in found.hits]
    table.add_column("#", justify="right", no_wrap=True, min_width=max(map(len, ranks)))
    table.add_column("score", justify="right", no_wrap=True, min_width=max(map(len, scores)))
    places = [place_of(hit.metadata) if not _is_web(hit.url) else "" for hit in found.hits]
    if links:
        if any(places):
            table.add_column("where", no_wrap=True, ratio=3, max_width=max(map(len, places)))
        table.add_column("title", no_wrap=True, overflow="ellipsis", ratio=3, max_width=48)
        table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=4)
    else:
        for name in ("where", "title", "text", "url")[not any(places) :]:
            table.add_column(name, no_wrap=True)
    for hit, rank, score, place in zip(found.hits, ranks, scores, places, strict=True):
        style = "bold cyan"
        if links and (_is_web(hit.url) or hit.url.startswith("file:///")):
            style += f" link {plain(hit.url).replace(' ', '%20')}"
        heading = str(hit.metadata.get("heading", "")).rpartition(" › ")[2]
        words = first_words(f"{hit.title} {heading}", hit.text)
        cells: list[RenderableType] = [
            Text(rank, style="dim"),
            Text(score),
            *([_Tail(place)] if any(places) else []),
            Text(plain((heading or hit.title)[:CHARS_SHOWN]) or plain(hit.id), style=style),
            Text(words if links or len(words) <= 60 else f"{words[:59]}…"),
        ]
        table.add_row(*cells, *([] if links else [Text(plain(hit.url))]))
    return table


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def place_of(metadata: "Mapping[str, Any]") -> str:
    """Where in its file a document is, as compilers write it; '' for what lies in none."""
    name = metadata.get("path") or metadata.get("document")
    if not isinstance(name, str):
        return ""
    for key, form in (("line", ":{}"), ("row", ":{}"), ("page", " p. {}"), ("chunk", " #{}")):
        if key in metadata:
            return plain(name + form.format(metadata[key]))
    return plain(name)


class _Tail:
    """A cell that keeps its end where there is no room for all of it: the end of a path says most."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> "Iterator[Text]":
        room = options.max_width
        long = cell_len(self._text) > room
        yield Text(
            f"…{set_cell_size(self._text[::-1], room - 1)[::-1]}" if long else self._text, no_wrap=True
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(8, cell_len(self._text)), cell_len(self._text))


def answer_footer(found: "Answer", index: "Index") -> str:
    """One line: what was searched, by which plan, and how long embed, scan and rerank took."""
    times = found.timings_ms
    words = [
        found.index,
        f"{index.rows:,} × {index.full_dim}",
        f"plan {found.plan}",
        f"embed {times.embed:.1f}",
        f"scan {times.scan:.1f}",
    ]
    if times.rerank:
        words.append(f"rerank {times.rerank:.1f}")
    return " · ".join(words) + " ms"


def explain_table(stages: Sequence[dict[str, Any]]) -> Table:
    """A line for each stage: rows in and out, what was read, milliseconds, and what ran it.

    `looked at` counts the rows whose score by the definition was computed, after the fast look or
    in place of it.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("stage", overflow="fold")
    for name in ("rows in", "rows out", "looked at", "bytes", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("read", no_wrap=True)
    table.add_column("by", no_wrap=True)
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
