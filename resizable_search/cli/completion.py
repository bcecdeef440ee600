"""What a shell offers for the word at the cursor: names of indexes, their dimensions, and embedders."""

import io
import os
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, suppress

import typer

from resizable_search.store.layout import default_name, home_of, resolve_index

VARIABLE = "_RSEARCH_COMPLETE"  # set by the script that `rsearch --show-completion` prints
PLAIN = re.compile(r"[\w@%+=:,./#-]+")  # a word that no shell takes for a command


def answer(run: Callable[[], object]) -> int:
    """Print the words that `run` offers, and no error. Returns the exit code."""
    with suppress(Exception), redirect_stderr(io.StringIO()):
        try:
            run()
        except SystemExit as end:  # fish asks by the exit code whether there are words
            return end.code if isinstance(end.code, int) else 0
    return 0


def source(offer: Callable[[typer.Context, str], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """Make a source safe: no error, and no word that a shell could run."""

    def safe(context: typer.Context, incomplete: str) -> list[str]:
        """Words for the one at the cursor."""
        words: list[str] = []
        with suppress(Exception):  # of a damaged index
            words += dict.fromkeys(offer(context, incomplete))
        return [word for word in words if PLAIN.fullmatch(word)]

    return safe


@source
def indexes(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The indexes of the home; the shell completes folders."""
    return [] if os.sep in incomplete else home_of(context.params.get("home")).names()


@source
def dims(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The stored dimensions, the full one first, that a list with commas does not have yet."""
    from resizable_search.store.manifest import read_manifest

    home = home_of(context.params.get("home"))
    manifest = read_manifest(resolve_index(context.params.get("index") or default_name(home), home))
    before, comma, _ = incomplete.rpartition(",")
    rest = (str(dim) for dim in reversed(manifest.dims) if str(dim) not in before.split(","))
    return [f"{before}{comma}{dim}" for dim in rest]


@source
def embedders(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The installed embedders."""
    from resizable_search.embedders.registry import names

    return names()
