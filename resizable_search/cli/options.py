"""Options that several commands share, and how their values are read."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from resizable_search.errors import UsageError
from resizable_search.index.layout import Home, default_home, expanded
from resizable_search.wording import quoted

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of all indexes.",
        show_default="$RSEARCH_HOME, else the user's data folder",
    ),
]
IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        "-i",
        help="Index by name, or by folder if it has a path separator.",
        show_default="$RSEARCH_INDEX, else wiki100k, else the only one",
    ),
]
IndexArgument = Annotated[
    str | None, typer.Argument(help="Index by name or folder.", show_default="as for --index")
]
NameOption = Annotated[str | None, typer.Option(help="Name of the index.", show_default="the corpus's")]
LimitOption = Annotated[int | None, typer.Option(help="Read only the first so many documents.")]
DimsOption = Annotated[
    str | None,
    typer.Option(
        help="Dimensions to store, e.g. 64,256,768; the full one always is.", show_default="all usual ones"
    ),
]
RestartOption = Annotated[
    bool,
    typer.Option(
        "--restart", "--refit", help="Begin anew; an index that exists is replaced, lsa is fitted again."
    ),
]
KOption = Annotated[int, typer.Option("-k", help="Hits wanted.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads of a scan.", show_default="$RSEARCH_THREADS, else all cores"),
]
EngineOption = Annotated[
    str,
    typer.Option("--engine", help="auto (compiled where it is worth loading), numpy or numba."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

MOST_DIGITS = 9
"""Of a number in a list: more than any dimension has, and few enough to compute with."""


def home_of(home: Path | None) -> Home:
    """The home that a command means."""
    return Home(expanded(home) if home is not None else default_home())


def command_to_go_on() -> str:
    """What a person types to go on with the build that this command began."""
    once = {"--restart", "--refit", "--debug", "--dry-run"}
    return shlex.join(["rsearch", *(word for word in sys.argv[1:] if word not in once)])


def index_name(index: str | None, home: Home) -> str:
    """The index that a command means."""
    if index is not None:
        return index
    from resizable_search.index.locate import default_name

    return default_name(home)


def parse_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """A list such as `768,512,256`; spaces are passed over. Raises UsageError for anything else."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise UsageError(
                f"{option}: {quoted(word)} is no number; write numbers with commas between: 768,512,256"
            )
        if len(word) > MOST_DIGITS:
            raise UsageError(
                f"{option}: {quoted(word)} is too large: write numbers of up to {MOST_DIGITS} digits"
            )
    numbers = tuple(map(int, words))
    for number in numbers:
        if numbers.count(number) > 1:
            raise UsageError(f"{option} names {number} more than once: name each once")
    return numbers
