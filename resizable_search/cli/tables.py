"""Tables on stdout: their columns, their widths, and what gives way on a narrow terminal.

Text of documents is shown as plain text: no markup, no escape codes.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resizable_search.text import plain

PIPED_WIDTH = 10_000
"""Columns of a table in a pipe: enough to cut nothing off."""

GAPS = (2, 1)
"""Spaces between two columns; one where two make the table too wide."""

PLAN_WIDTH = 16
"""The least width of a column whose plans are broken into lines: two stages, mostly."""


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


def one_line(words: str) -> Text:
    """A cell on one line in a column that may be wrapped: rich narrows such columns first."""
    return Text(words, no_wrap=True, overflow="ellipsis")


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


def fitted(columns: Sequence[Column], width: int, least_needed: Sequence[str]) -> tuple[list[Column], int]:
    """The columns that fit into this width, and the gap between them.

    A long plan is broken at its commas first. Then the columns `least_needed` go, in their order.
    """
    for left_out in range(len(least_needed) + 1):
        rest = [column for column in columns if column.name not in least_needed[:left_out]]
        for gap in GAPS:
            room = width - sum(column.width + gap for column in rest[1:])
            if rest[0].width <= room:
                return rest, gap
            if rest[0].name == "plan" and room >= PLAN_WIDTH:
                broken = Column("plan", [_broken(plan, room) for plan in rest[0].cells], rest[0].left)
                if broken.width <= room:
                    return [broken, *rest[1:]], gap
    return rest, GAPS[-1]


def side_by_side(columns: Sequence[Column], gap: int) -> Table:
    """The columns as a table."""
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
