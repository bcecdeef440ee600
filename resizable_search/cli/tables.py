"""Tables and cards of hits on stdout. Text of documents is plain: no markup, no escape codes."""

import os
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from resizable_search.text import MOST_READ, matches, plain, size, snippet

if TYPE_CHECKING:
    from resizable_search.search.results import Hit

PIPED_WIDTH = 10_000  # columns of a table in a pipe: enough to cut nothing off
GAP = 2  # spaces between two columns
NUMBERS = ("#", "rank", "row", "score")
NUMBERS_WIDTH = 12  # columns that rank and score take
PASSAGES = ("snippet", "text")
PLAN_WIDTH = 16  # the least width of a column whose plans are broken into lines: two stages, mostly
CHARS_SHOWN = 2_000  # characters of a text that a cell may show: a text may have millions
WIDEST_CARD = 110  # columns: longer lines are hard to read
PIPED_SNIPPET = 80  # characters of a table's snippet in a pipe
MARKS = 2  # the … before and after a passage
RAGGED = 10  # columns that two lines mostly lose to words that do not fit
MARK = "bold yellow"  # words of the query
_FENCE = re.compile(r"\s*(?:(?:```|~~~).*|[-=*_~|:+ ]*)")


def stdout_console() -> Console:
    """The console of results, without a limit in a pipe; with $NO_COLOR without any escape codes."""
    colours: Any = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(color_system=colours, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def borderless(*headings: str, right: Collection[str] = (), fold: Collection[str] = ()) -> Table:
    """An empty table with bold headings. The columns `right` align right; only `fold` may be wrapped."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(
            Text(plain(heading), no_wrap=True, overflow="ellipsis"),
            justify="right" if heading in right else "left",
            no_wrap=heading not in fold,
            overflow="fold" if heading in fold else "ellipsis",
        )
    return table


def details(lines: Iterable[tuple[str, str]]) -> Table:
    """A table without headings: each line has a bold name and its words."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in lines:
        table.add_row(Text(name), Text(plain(words)))
    return table


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a table. In a pipe its lines have no trailing spaces."""
    console = console or stdout_console()
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    console.file.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of measured values: its heading, its cells, and whether they align left."""

    name: str
    cells: Sequence[str]
    left: bool = False

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return max(len(line) for cell in (self.name, *self.cells) for line in cell.split("\n"))


def fitted(columns: Sequence[Column], width: int, least_needed: Sequence[str]) -> Table:
    """A table of this width: long plans are broken, then the columns `least_needed` go in their order."""
    for left_out in range(len(least_needed) + 1):
        rest = [column for column in columns if column.name not in least_needed[:left_out]]
        first, room = rest[0], width - sum(column.width + GAP for column in rest[1:])
        if first.name == "plan" and room >= PLAN_WIDTH:
            rest[0] = Column("plan", [_broken(plan, room) for plan in first.cells], left=True)
        if rest[0].width <= room:
            break
    table = borderless(*(column.name for column in rest), right=[one.name for one in rest if not one.left])
    for cells in zip(*(column.cells for column in rest), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _broken(plan: str, room: int) -> str:
    """A plan on several lines, each as full as the room allows."""
    lines = textwrap.wrap(plan.replace(",", ", "), room, subsequent_indent=" ")
    return "\n".join(lines).replace(", ", ",")


def explain_table(stages: Sequence[dict[str, Any]], width: int) -> Table:
    """A line for each stage, on a terminal of this width. `rescored`: rows with an exact score computed."""
    columns = [
        Column("stage", [str(stage["stage"]) for stage in stages], left=True),
        Column("rows in", [f"{stage['rows_in']:,}" for stage in stages]),
        Column("rows out", [f"{stage['rows_out']:,}" for stage in stages]),
        Column("rescored", [f"{stage['looked']:,}" for stage in stages]),
        Column("bytes", [size(stage["bytes"]) for stage in stages]),
        Column("ms", [f"{stage['ms']:.2f}" for stage in stages]),
        Column("read", [str(stage["read"]) for stage in stages], left=True),
        Column("engine", [f"{stage['engine']} ×{stage['threads']}" for stage in stages], left=True),
    ]
    return fitted(columns, width, ("engine", "read", "bytes"))


def card(hit: "Hit", hits: int, weights: Mapping[str, int], width: int, length: int = 0) -> list[Text]:
    """The lines of one of so many hits; `length`: characters of the passage, 0 for two lines of it."""
    indent = len(str(hits)) + 2
    score, name, where = f"{hit.score:.3f}", heading_path(hit), address(hit)
    if where.rpartition("/")[2].startswith(name) and not _is_web(hit.url):  # a file without a title
        name, where = where, ""
    room = width - indent - len(score) - 2
    where = _cut_at_start(where, max(room - 2 - cell_len(name), room // 3))
    name = _cut(name, room - 2 - cell_len(where) if where else room)
    head = Text().append(f"{hit.rank:>{indent - 2}}  ", "dim").append(name, _link("bold cyan", hit))
    head.append(" " * (room - cell_len(name) - cell_len(where))).append(where, _link("dim", hit))
    head.append(f"  {score}")
    room = width - indent
    passage = snippet(body(hit), weights, length or max(2 * room - RAGGED, 1))
    text = _marked(passage, weights)
    lines = list(text.wrap(Console(width=room), room, tab_size=1))
    if not length and len(lines) > 2:
        lines[1].rstrip()
        lines[1].truncate(room - 1)
        lines[1].rstrip()
        lines[1].append("" if lines[1].plain.endswith("…") else "…")
        del lines[2:]
    remarks = [f"{way} {rank}" for way, rank in (hit.ranks or {}).items() if rank]
    if hit.copies:
        remarks.append(f"{hit.copies} or more others with the same text")
    if remarks:
        lines.append(Text(_cut(" · ".join(remarks), room), style="dim"))
    for line in lines:
        line.rstrip()
    return [head, *(Text(" " * indent).append_text(line) for line in lines if line)]


def hits_table(
    hits: Sequence["Hit"],
    weights: Mapping[str, int],
    console: Console,
    records: Sequence[Mapping[str, str]] = (),
) -> Table:
    """A line for each hit, of the fields in `records` or of the usual ones; in a pipe nothing is cut.

    On a terminal numbers stay whole, and a snippet or text has most of the rest.
    """
    columns: Mapping[str, Sequence[RenderableType]] = _usual_columns(hits, weights, console)
    if records:
        columns = {name: [_field(name, each[name], weights) for each in records] for name in records[0]}
    table = borderless(*columns, right=NUMBERS, fold=PASSAGES)
    others = len(columns.keys() - {*NUMBERS, *PASSAGES})
    for column, name in zip(table.columns, columns, strict=True):
        column.no_wrap = name in NUMBERS  # rich narrows the others
        if console.is_terminal and not column.no_wrap and name not in PASSAGES:
            column.max_width = max(1, (console.width - NUMBERS_WIDTH) // 3 // others)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _field(name: str, value: str, weights: Mapping[str, int]) -> Text:
    if name == "snippet":
        return _marked(value, weights)
    return Text(plain(value[:CHARS_SHOWN]), no_wrap=name not in PASSAGES)


def _usual_columns(
    hits: Sequence["Hit"], weights: Mapping[str, int], console: Console
) -> dict[str, list[RenderableType]]:
    """The columns of a table without records."""
    is_piped, room = not console.is_terminal, max(1, (console.width - NUMBERS_WIDTH) // 6)
    places = [location(hit.metadata) if not _is_web(hit.url) else "" for hit in hits]
    columns: dict[str, list[RenderableType]] = {
        "#": [Text(str(hit.rank), style="dim") for hit in hits],
        "score": [Text(f"{hit.score:.4f}") for hit in hits],
        "where": [Text(_cut_at_start(place, room), no_wrap=True) for place in places],
        "title": [_title_cell(hit, is_link=not is_piped) for hit in hits],
        "snippet": [Passage(body(hit), weights) for hit in hits],
    }
    if not any(places):
        del columns["where"]
    if is_piped:
        columns["snippet"] = [_marked(snippet(body(hit), weights, PIPED_SNIPPET), weights) for hit in hits]
        columns["url"] = [Text(plain(hit.url)) for hit in hits]
    return columns


@dataclass(frozen=True, slots=True)
class Passage:
    """The best passage of a text that its column has room for, on one line."""

    text: str
    weights: Mapping[str, int]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The passage."""
        length = max(1, options.max_width - MARKS)
        passage = _marked(snippet(self.text, self.weights, length), self.weights)
        passage.no_wrap = True
        yield passage

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """The room that it takes."""
        return Measurement(1, options.max_width)


def _title_cell(hit: "Hit", *, is_link: bool) -> Text:
    heading = str(hit.metadata.get("heading", "")).rpartition(" › ")[2]
    text = plain((heading or hit.title)[:CHARS_SHOWN]) or plain(hit.id)
    copies = f"+{hit.copies} " if hit.copies else ""
    return Text.assemble(copies, (text, _link("bold cyan", hit) if is_link else ""), no_wrap=True)


def heading_path(hit: "Hit") -> str:
    """The title and the headings above the hit: `Builds › Resume`; its id if it has neither."""
    own, heading = (plain(str(text)[:CHARS_SHOWN]) for text in (hit.title, hit.metadata.get("heading", "")))
    if own and heading and heading != own and not heading.startswith(f"{own} › "):
        return f"{own} › {heading}"
    return heading or own or plain(hit.id)


def address(hit: "Hit") -> str:
    """Where the hit is: its file and line, else its address, else its id."""
    where = "" if _is_web(hit.url) else location(hit.metadata)
    return where or plain(hit.url).partition("://")[2] or plain(hit.url) or plain(hit.id)


def location(metadata: Mapping[str, Any]) -> str:
    """The location of a document in its file, as compilers write it; '' for one without a file."""
    name = metadata.get("path") or metadata.get("document")
    if not isinstance(name, str):
        return ""
    suffixes = {"line": ":", "row": ":", "page": " p. ", "chunk": " #"}
    return plain(name + next((f"{suffixes[key]}{metadata[key]}" for key in suffixes if key in metadata), ""))


def body(hit: "Hit") -> str:
    """The text without lines of marks, and without first lines that only repeat the title."""

    def letters(text: str) -> str:
        return re.sub(r"[\W_]+", "", text.casefold())

    repeated = letters(f"{hit.title} {hit.metadata.get('heading', '')}"[:CHARS_SHOWN])
    lines = [line for line in hit.text[:MOST_READ].split("\n") if not _FENCE.fullmatch(line)]
    own = next((i for i, line in enumerate(lines) if letters(line[:CHARS_SHOWN]) not in repeated), 0)
    return "\n".join(line[1:].replace("|", "·") if line.startswith("|") else line for line in lines[own:])


def _marked(text: str, weights: Mapping[str, int]) -> Text:
    """The text on one line, with the words of the query marked."""
    marked = Text(plain(text))
    for start, stop, _ in matches(marked.plain, weights):
        marked.stylize(MARK, start, stop)
    return marked


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _link(style: str, hit: "Hit") -> str:
    """The style, with a link to the document if it has an address."""
    is_address = _is_web(hit.url) or hit.url.startswith("file:///")
    return f"{style} link {plain(hit.url).replace(' ', '%20')}" if is_address else style


def _cut(text: str, room: int) -> str:
    """The beginning of a text; of a path of headings the first and the last one, if there is room."""
    if cell_len(text) <= room:
        return text
    first, _, rest = text.partition(" › ")
    short = f"{first} › … › {rest.rpartition(' › ')[2]}"
    if " › " in rest and cell_len(short) <= room:
        return short
    return f"{set_cell_size(text, max(0, room - 1)).rstrip()}…"


def _cut_at_start(path: str, room: int) -> str:
    """The end of a path, which says most."""
    return path if cell_len(path) <= room else f"…{set_cell_size(path[::-1], room - 1)[::-1]}"
