"""Lines, tables and cards on stdout. Text of documents is plain: no markup, no escape codes.

They are not drawn by rich, which takes 30 ms to import, but as it would draw them.
"""

import os
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

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
CODES = {"bold": "1", "bold cyan": "1;36", "bold red": "1;31", "dim": "2", "green": "32", MARK: "1;33"}
_FENCE = re.compile(r"\s*(?:(?:```|~~~).*|[-=*_~|:+ ]*)")
_NARROW = re.compile(r"[ -~\xa0-\xac\xae-\u02ff\u2010-\u2027\u2190-\u21ff]*")  # a column each


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is, by rich's rules and variables; None: it is none."""
    forced = os.environ.get("FORCE_COLOR")
    is_terminal = sys.stdout.isatty() if forced is None else forced != ""
    if not {"0": False, "1": True}.get(os.environ.get("TTY_COMPATIBLE", ""), is_terminal):
        return None
    if not _is_dumb() and (columns := os.environ.get("COLUMNS", "")).isdigit():
        return int(columns) or 80
    for stream in () if _is_dumb() else (0, 1, 2):
        with suppress(OSError):
            return os.get_terminal_size(stream).columns or 80
    return 80


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def styled(text: str, style: str, url: str = "") -> str:
    """The text with a style and a link on a terminal."""
    if not (text and style) or terminal_width() is None or _is_dumb() or os.environ.get("NO_COLOR"):
        return text
    text = f"\x1b[{CODES[style]}m{text}\x1b[0m"
    return f"\x1b]8;;{url}\x1b\\{text}\x1b]8;;\x1b\\" if url else text


def show(text: str, style: str = "", *, soft: bool = False) -> None:
    """Print a line, broken at the width of a terminal unless it is `soft`."""
    for line in wrapped(text, sys.maxsize if soft else terminal_width() or sys.maxsize):
        sys.stdout.write(styled(line, style) + "\n")


def cells(text: str) -> int:
    """The columns of a terminal that a text takes."""
    if _NARROW.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cropped(text: str, room: int, mark: str = "") -> str:
    """The text, or its beginning and a mark if it takes more columns."""
    if cells(text) <= room:
        return text
    if _NARROW.fullmatch(text):
        return text[: room - len(mark)] + mark
    from rich.cells import set_cell_size

    return set_cell_size(text, room - len(mark)) + mark


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, broken at spaces. A word that is longer than a line is cut."""
    if cells(text) <= width:
        return [text]
    lines = [""]
    for word in re.findall(r"\s*\S+\s*", text):
        needed = cells(word.rstrip())
        if needed <= width - cells(lines[-1]):
            lines[-1] += word
        elif needed <= width:
            lines.append(word)
        else:
            from rich.cells import chop_cells

            lines += chop_cells(word, width)
    return [line if cells(line) <= width else line.rstrip() for line in lines[not lines[0] :]]


def _cut(text: str, width: int) -> list[str]:
    return [cropped(line, width, "…") for line in text.split("\n")]


class Column(NamedTuple):
    """A column of a table: its heading, its cells, and whether they align left.

    On a narrow terminal the columns that `give` become narrower first, within `least` and `most`. `fit` makes
    lines of a cell for a width; `style` gives a line of a row its styles.
    """

    name: str
    cells: Sequence[str]
    left: bool = False
    give: bool = False
    fit: Callable[[str, int], list[str]] = _cut
    style: Callable[[int, str], str] = lambda row, line: line
    least: int = 0
    most: int = PIPED_WIDTH
    usual: int = 0

    @property
    def width(self) -> int:
        """The columns of a terminal that it takes where there is room."""
        return self.usual or max(
            cells(line) for cell in (self.name, *self.cells) for line in cell.split("\n")
        )


def columns_of(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = (), **more: Any
) -> list[Column]:
    """The columns of these rows. Those named in `right` align right; `more`: attributes of each."""
    return [Column(one, [row[at] for row in rows], one not in right, **more) for at, one in enumerate(names)]


def show_details(lines: Iterable[tuple[str, str]]) -> None:
    """Print a table without headings: each line has a bold name and its words."""
    names, words = columns_of(("", ""), [(name, plain(words)) for name, words in lines])
    names = names._replace(style=lambda _, line: styled(line, "bold"))
    show_table([names, words._replace(give=True, fit=wrapped)])


def show_table(columns: Sequence[Column]) -> None:
    """Print a table without borders. In a pipe nothing is cut, and no line has trailing spaces."""
    total = terminal_width()
    gaps = [*[GAP] * (len(columns) - 1), 0]
    widths = _fitting(columns, gaps, total or sys.maxsize)
    rooms = [max(0, width - gap) for width, gap in zip(widths, gaps, strict=True)]
    first = -1 if any(one.name for one in columns) else 0
    for row in range(first, len(columns[0].cells)):
        blocks = [
            () if not room else one.fit(one.cells[row], room) if row >= 0 else _cut(plain(one.name), room)
            for one, room in zip(columns, rooms, strict=True)
        ]
        for lines in zip_longest(*blocks, fillvalue=""):
            shown, left = "", total or sys.maxsize
            for one, line, room, width in zip(columns, lines, rooms, widths, strict=True):
                width, room = min(width, left), min(room, left)
                line, left = cropped(line, room), left - width
                space = " " * (room - cells(line))
                line = one.style(row, line) if row >= 0 else styled(line, "bold")
                shown += (line + space if one.left else space + line) + " " * (width - room)
            sys.stdout.write((shown if total else shown.rstrip()) + "\n")


def _fitting(columns: Sequence[Column], gaps: Sequence[int], total: int) -> list[int]:
    """The widths of columns with their gaps, as rich has them."""

    def measured(limits: Iterable[int]) -> list[int]:
        each = zip(columns, gaps, limits, strict=True)
        most = ((one, gap, min(one.width + gap, one.most + gap, limit)) for one, gap, limit in each)
        return [max(one.least and one.least + gap, width) for one, gap, width in most]

    widths = [width or 1 for width in measured([total] * len(columns))]
    if sum(widths) <= total:
        return widths
    while (excess := sum(widths) - total) > 0:
        giving = [width if one.give else 0 for one, width in zip(columns, widths, strict=True)]
        widest, narrower, *_ = *sorted(set(giving), reverse=True), 0
        sharing = [at for at, width in enumerate(giving if widest else widths) if width >= (widest or 1)]
        for count, at in enumerate(sharing):
            share = min(widest - narrower or widths[at], round(excess / (len(sharing) - count)))
            widths[at] -= share
            excess -= share
    return measured(widths)


def fitted(columns: Sequence[Column], least_needed: Sequence[str]) -> list[Column]:
    """What the terminal has room for: long plans are broken, then columns go in the order `least_needed`."""
    width = terminal_width() or PIPED_WIDTH
    for left_out in range(len(least_needed) + 1):
        rest = [column for column in columns if column.name not in least_needed[:left_out]]
        first, room = rest[0], width - sum(column.width + GAP for column in rest[1:])
        if first.name == "plan" and room >= PLAN_WIDTH:
            rest[0] = Column("plan", [_broken(plan, room) for plan in first.cells], left=True)
        if rest[0].width <= room:
            break
    return rest


def _broken(plan: str, room: int) -> str:
    """A plan on several lines, each as full as the room allows."""
    lines = textwrap.wrap(plan.replace(",", ", "), room, subsequent_indent=" ")
    return "\n".join(lines).replace(", ", ",")


def explain_table(stages: Sequence[dict[str, Any]]) -> list[Column]:
    """A line for each stage. `rescored`: rows with an exact score computed."""
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
    return fitted(columns, ("engine", "read", "bytes"))


def card(hit: "Hit", hits: int, weights: Mapping[str, int], width: int, length: int = 0) -> list[str]:
    """The lines of one of so many hits; `length`: characters of the passage, 0 for two lines of it."""
    indent = len(str(hits)) + 2
    score, name, where = f"{hit.score:.3f}", heading_path(hit), address(hit)
    if where.rpartition("/")[2].startswith(name) and not _is_web(hit.url):  # a file without a title
        name, where = where, ""
    room = width - indent - len(score) - 2
    where = _cut_at_start(where, max(room - 2 - cells(name), room // 3))
    name = _cut_path(name, room - 2 - cells(where) if where else room)
    gap, link = " " * (room - cells(name) - cells(where)), _link(hit)
    rank = styled(f"{hit.rank:>{indent - 2}}  ", "dim")
    head = f"{rank}{styled(name, 'bold cyan', link)}{gap}{styled(where, 'dim', link)}  {score}"
    room = width - indent
    passage = plain(snippet(body(hit), weights, length or max(2 * room - RAGGED, 1)))
    lines = [line.rstrip() for line in wrapped(passage, room)]
    if not length and len(lines) > 2:
        second = cropped(lines[1], room - 1).rstrip()
        lines[1:] = [second if second.endswith("…") else f"{second}…"]
    lines = [marked(line, weights) for line in lines if line]
    remarks = [f"{way} {rank}" for way, rank in (hit.ranks or {}).items() if rank]
    if hit.copies:
        remarks.append(f"{hit.copies} or more others with the same text")
    if remarks:
        lines.append(styled(_cut_path(" · ".join(remarks), room), "dim"))
    return [head, *(" " * indent + line for line in lines)]


def hits_table(
    hits: Sequence["Hit"], weights: Mapping[str, int], records: Sequence[Mapping[str, str]] = ()
) -> list[Column]:
    """The columns of hits: the fields in `records` or the usual ones; in a pipe nothing is cut.

    On a terminal numbers stay whole, and a snippet or text has most of the rest.
    """
    width = terminal_width()
    columns = _usual_columns(hits, weights, width)
    if records:
        cells_of = {name: [plain(each[name][:CHARS_SHOWN]) for each in records] for name in records[0]}
        columns = [Column(name, values, left=True, give=True) for name, values in cells_of.items()]
    others = len({one.name for one in columns} - {*NUMBERS, *PASSAGES})
    most = PIPED_WIDTH if width is None else max(1, (width - NUMBERS_WIDTH) // 3 // max(others, 1))
    for at, one in enumerate(columns):
        if one.name in NUMBERS:
            columns[at] = one._replace(left=False, give=False)
        elif one.name not in PASSAGES:
            columns[at] = one._replace(most=most)
        else:
            style = (lambda _, line: marked(line, weights)) if one.name == "snippet" else one.style
            columns[at] = one._replace(fit=one.fit if one.usual else wrapped, style=style)
    return columns


def _usual_columns(hits: Sequence["Hit"], weights: Mapping[str, int], width: int | None) -> list[Column]:
    """The columns of a table without records."""
    room = max(1, ((width or PIPED_WIDTH) - NUMBERS_WIDTH) // 6)
    places = [location(hit.metadata) if not _is_web(hit.url) else "" for hit in hits]
    bodies, titles = [body(hit) for hit in hits], [_title(hit) for hit in hits]

    def passage(text: str, room: int) -> list[str]:
        return [cropped(plain(snippet(text, weights, max(1, room - MARKS))), room)]

    def linked(row: int, line: str) -> str:
        copies = line.index(" ") + 1 if hits[row].copies and " " in line else 0
        return line[:copies] + styled(line[copies:], "bold cyan", _link(hits[row]))

    columns = {
        "#": Column("#", [str(hit.rank) for hit in hits], style=lambda _, line: styled(line, "dim")),
        "score": Column("score", [f"{hit.score:.4f}" for hit in hits]),
        "where": Column("where", [_cut_at_start(place, room) for place in places], left=True, give=True),
        "title": Column("title", titles, left=True, give=True, style=linked),
    }
    if not any(places):
        del columns["where"]
    if width is None:
        snippets = [plain(snippet(text, weights, PIPED_SNIPPET)) for text in bodies]
        rest = columns_of(("snippet", "url"), [*zip(snippets, [plain(hit.url) for hit in hits], strict=True)])
    else:
        rest = [Column("snippet", bodies, left=True, give=True, fit=passage, usual=PIPED_WIDTH)]
    return [*columns.values(), *rest]


def _title(hit: "Hit") -> str:
    heading = str(hit.metadata.get("heading", "")).rpartition(" › ")[2]
    text = plain((heading or hit.title)[:CHARS_SHOWN]) or plain(hit.id)
    return f"+{hit.copies} {text}" if hit.copies else text


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


def marked(line: str, weights: Mapping[str, int]) -> str:
    """A line with the words of the query marked on a terminal."""
    for start, stop, _ in reversed(matches(line, weights)):
        line = line[:start] + styled(line[start:stop], MARK) + line[stop:]
    return line


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _link(hit: "Hit") -> str:
    """The address of a document, if a terminal can open it."""
    is_address = _is_web(hit.url) or hit.url.startswith("file:///")
    return plain(hit.url).replace(" ", "%20") if is_address else ""


def _cut_path(text: str, room: int) -> str:
    """The beginning of a text; of a path of headings the first and the last one, if there is room."""
    if cells(text) <= room:
        return text
    first, _, rest = text.partition(" › ")
    short = f"{first} › … › {rest.rpartition(' › ')[2]}"
    if " › " in rest and cells(short) <= room:
        return short
    return f"{cropped(text, max(0, room - 1)).rstrip()}…"


def _cut_at_start(path: str, room: int) -> str:
    """The end of a path, which says most."""
    return path if cells(path) <= room else f"…{cropped(path[::-1], room - 1)[::-1]}"
