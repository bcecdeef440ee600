"""Options that several commands share, and how their values are read."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.configured import use_files
from resizable_search.errors import UsageError
from resizable_search.store.layout import Home, default_home, expanded
from resizable_search.text import quoted

if TYPE_CHECKING:
    from typing import BinaryIO

_HOME = "Folder of all indexes."
_USUAL_HOME = "$RSEARCH_HOME, else the user's data folder"

BareHomeOption = Annotated[Path | None, typer.Option("--home", help=_HOME, show_default=_USUAL_HOME)]
"""Of the commands that serve while a configuration file is wrong."""

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help=_HOME, show_default=_USUAL_HOME, is_eager=True, callback=use_files),
]
"""Read before the other options: files of the home, and of the project, are their defaults."""

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        "-i",
        help="Index by name, or by folder if it has a path separator.",
        autocompletion=completion.indexes,
        show_default="$RSEARCH_INDEX, else wiki100k, else the only one",
    ),
]
IndexArgument = Annotated[
    str | None,
    typer.Argument(
        help="Index by name or folder.", show_default="as for --index", autocompletion=completion.indexes
    ),
]
NameOption = Annotated[str | None, typer.Option(help="Name of the index.", show_default="the corpus's")]
LimitOption = Annotated[int | None, typer.Option(help="Read only the first so many documents.")]
DimsOption = Annotated[
    str | None,
    typer.Option(
        help="Dimensions to store, e.g. 64,256,768; the full one always is.",
        show_default="all usual ones",
        autocompletion=completion.usual_dims,
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
    typer.Option(
        "--engine",
        autocompletion=completion.engines,
        help="auto (compiled where it is worth loading), numpy or numba.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

TextColumnOption = Annotated[
    str | None,
    typer.Option("--text-column", help="Column of a table that holds the texts.", show_default="text"),
]
IdColumnOption = Annotated[
    str | None,
    typer.Option("--id-column", help="Column with ids.", show_default="id if there is one, else the row"),
]
TitleColumnOption = Annotated[
    str | None,
    typer.Option("--title-column", help="Column with the titles.", show_default="title if there is one"),
]
UrlColumnOption = Annotated[
    str | None,
    typer.Option("--url-column", help="Column with the addresses.", show_default="url if there is one"),
]
MetadataOption = Annotated[
    str | None,
    typer.Option("--metadata", help="Columns to keep as metadata, e.g. year,lang.", show_default="none"),
]
ChunkOption = Annotated[
    str | None,
    typer.Option(
        "--chunk",
        help="Cut texts at headings and paragraphs into documents of up to so many tokens, 400 or 400t, "
        "or characters, 1600c.",
        show_default="no chunks",
    ),
]
ChunkOverlapOption = Annotated[
    int, typer.Option("--chunk-overlap", help="What two chunks of a section may share, in the same unit.")
]

MOST_DIGITS = 9
"""Of a number in a list: more than any dimension has, and few enough to compute with."""


def is_given(context: typer.Context, *names: str) -> bool:
    """Whether the command line names one of these parameters; a default from a file does not count."""
    sources = [context.get_parameter_source(name) for name in names]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


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
    from resizable_search.store.layout import default_name

    return default_name(home)


def parse_numbers(
    text: str | None, option: str, most: int = 10**MOST_DIGITS - 1, least: int = 0
) -> tuple[int, ...] | None:
    """A list such as `768,512,256`, each number once, from `least` to `most`. Raises UsageError."""
    if text is None:
        return None
    numbers: list[int] = []
    for word in (part.strip() for part in text.split(",")):
        if not (word.isascii() and word.isdigit()):
            raise UsageError(f"{option}: {quoted(word)} is not a number: write a list such as 768,512,256")
        digits = word.lstrip("0") or "0"
        if len(digits) > MOST_DIGITS or int(digits) > most:
            raise UsageError(f"{option}: at most {most:,}, not {digits[:20]}")
        number = int(digits)
        if number < least:
            raise UsageError(f"{option}: at least {least}, not {number}")
        if number in numbers:
            raise UsageError(f"{option} names {number} more than once: name each number once")
        numbers.append(number)
    return tuple(numbers)


def parse_words(text: str | None) -> tuple[str, ...]:
    """A list of names such as `year,lang`; spaces around them are passed over."""
    return () if text is None else tuple(word.strip() for word in text.split(","))


def uncut(chars: int | None, chunk: str | None, overlap: int) -> int | None:
    """How many characters of a text are kept (None: all): by `--chars`, else 1200, or all in chunks.

    Raises UsageError.
    """
    if chunk is None and overlap:
        raise UsageError("--chunk-overlap is of chunks: give their size too, as in --chunk 400")
    if chars is not None and chars < 0:
        raise UsageError(f"--chars must be 0 (no cut) or more, not {chars}")
    return (1200 if chunk is None else None) if chars is None else chars or None


def piped_in() -> "BinaryIO":
    """What is piped into the command. Raises UsageError where nothing is."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("nothing is piped in: send JSON lines to stdin, or name files")
    return sys.stdin.buffer
