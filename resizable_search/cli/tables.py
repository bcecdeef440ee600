"""Tables on stdout: their columns, their widths, and what gives way on a narrow terminal.

Text of documents is shown as plain text: no markup, no escape codes.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resizable_search.text import plain, size

if TYPE_CHECKING:
    from resizable_search.search.results import Answer

CHARS_SHOWN = 2_000  # characters of a text that a cell may show: a text may have millions
PIPED_WIDTH = 10_000  # columns of a table in a pipe: enough to cut nothing off
GAPS = (2, 1)  # spaces between two columns; one where two make the table too wide
PLAN_WIDTH = 16  # the least width of a column whose plans are broken into lines: two stages, mostly


def stdout_console() -> Console:
    """The console of results: as wide as the terminal (or $COLUMNS), without a limit in a pipe.

    With $NO_COLOR there are no escape codes at all, not even for bold text and links.
    """
    colours: Any = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(color_system=colours, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def borderless(
    *headings: str, right: Collection[str] = (), fold: Collection[str] = (), gap: int = 2
) -> Table:
    """An empty table with bold headings. The columns `right` align right; only `fold` may be wrapped."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(
            Text(plain(heading)),
            justify="right" if heading in right else "left",
            no_wrap=heading not in fold,
            overflow="fold" if heading in fold else "ellipsis",
        )
    return table


def details(lines: Iterable[tuple[str, str]]) -> Table:
    """A table without headings: each line has a bold name and its words."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
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
    """A table of the columns that fit into this width.

    A long plan is broken at its commas first. Then the columns `least_needed` go, in their order.
    """
    for left_out in range(len(least_needed) + 1):
        rest = [column for column in columns if column.name not in least_needed[:left_out]]
        for gap in GAPS:
            room = width - sum(column.width + gap for column in rest[1:])
            if rest[0].width <= room:
                return _side_by_side(rest, gap)
            if rest[0].name == "plan" and room >= PLAN_WIDTH:
                broken = Column("plan", [_broken(plan, room) for plan in rest[0].cells], rest[0].left)
                if broken.width <= room:
                    return _side_by_side([broken, *rest[1:]], gap)
    return _side_by_side(rest, GAPS[-1])


def _side_by_side(columns: Sequence[Column], gap: int) -> Table:
    right = [column.name for column in columns if not column.left]
    table = borderless(*(column.name for column in columns), right=right, gap=gap)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _broken(plan: str, room: int) -> str:
    """A plan on several lines, each as full as the room allows."""
    lines = [""]
    for stage in plan.replace(",", ",\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(stage) > room:
            lines.append(" ")
        lines[-1] += stage
    return "\n".join(lines)


def hits_table(answer: "Answer", width: int | None) -> Table:
    """Rank, score, title and first words of each hit, on a terminal of this width (None: in a pipe).

    On a terminal the title is a link; else the url has a column. A document of a file shows its location
    in it, and a chunk has its heading as title.
    """
    links = width is not None
    table = borderless()
    table.expand = links
    # On a narrow terminal title and text give way, and these two stay.
    ranks, scores = [str(hit.rank) for hit in answer.hits], [f"{hit.score:.4f}" for hit in answer.hits]
    table.add_column("#", justify="right", no_wrap=True, min_width=max(map(len, ranks)))
    table.add_column("score", justify="right", no_wrap=True, min_width=max(map(len, scores)))
    locations = [location(hit.metadata) if not _is_web(hit.url) else "" for hit in answer.hits]
    if any(locations):
        table.add_column("where", no_wrap=True)
    if width is not None:
        locations = [_cut_at_start(where, max(width // 4, 8)) for where in locations]
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
            *([Text(where)] if any(locations) else []),
            Text(plain((heading or hit.title)[:CHARS_SHOWN]) or plain(hit.id), style=style),
            Text(words if links or len(words) <= 60 else f"{words[:59]}…"),
            *([] if links else [Text(plain(hit.url))]),
        )
    return table


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def first_words(title: str, text: str) -> str:
    """The text on one line, without leading lines that only repeat the title, as headings do."""

    def letters(text: str) -> str:
        return "".join(c for c in text.casefold() if c.isalnum())

    lines, repeated = text[:CHARS_SHOWN].split("\n"), letters(title)
    own = next((i for i, line in enumerate(lines) if letters(line) not in repeated), 0)
    return plain("\n".join(lines[own:]))


def location(metadata: Mapping[str, Any]) -> str:
    """The location of a document in its file, as compilers write it; '' for one without a file."""
    name = metadata.get("path") or metadata.get("document")
    if not isinstance(name, str):
        return ""
    suffixes = {"line": ":", "row": ":", "page": " p. ", "chunk": " #"}
    return plain(name + next((f"{suffixes[key]}{metadata[key]}" for key in suffixes if key in metadata), ""))


def _cut_at_start(path: str, room: int) -> str:
    """The end of a path, which says most."""
    return path if cell_len(path) <= room else f"…{set_cell_size(path[::-1], room - 1)[::-1]}"


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
