"""What a shell offers for the word at the cursor: names of indexes, their dimensions, ids, and so on.

typer asks a source with the context, whose earlier words are parsed, and with the word so far. A source reads
little, loads numpy only for deleted rows, and offers nothing from a damaged index.
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import closing, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resizable_search.engine.plan import PRECISIONS
from resizable_search.store.layout import NAMES, default_name, home_of, resolve_index

if TYPE_CHECKING:
    from resizable_search.store.manifest import Manifest

VARIABLE = "_RSEARCH_COMPLETE"  # set by the script that `rsearch --show-completion` prints

MOST = 100  # words that are offered at once
MOST_ROWS = 50  # documents whose metadata is read for its keys

_PLAIN = re.compile(r"[\w@%+=:,./#-]+")  # words that no shell takes for a command


def answer(run: Callable[[], object]) -> int:
    """Print the words that `run` offers, and no error. Returns the exit code."""
    with suppress(Exception), redirect_stderr(io.StringIO()):
        try:
            run()
        except SystemExit as end:  # fish asks by the exit code whether there are words
            return end.code if isinstance(end.code, int) else 0
    return 0


def source(offer: Callable[[typer.Context, str], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """Make a source safe: no error, few words, and none that a shell could run."""

    def safe(context: typer.Context, incomplete: str) -> list[str]:
        """Words for the one at the cursor."""
        words: list[str] = []
        with suppress(Exception):  # of a damaged index
            words += dict.fromkeys(offer(context, incomplete))
        return [word for word in words if _PLAIN.fullmatch(word)][:MOST]

    return safe


def _folder(context: typer.Context) -> Path:
    """The index of the command."""
    home = home_of(context.params.get("home"))
    return resolve_index(context.params.get("index") or default_name(home), home)


def _manifest(context: typer.Context) -> "Manifest":
    from resizable_search.store.manifest import read_manifest

    return read_manifest(_folder(context))


def _dims(context: typer.Context) -> list[str]:
    """The stored dimensions, the full one first."""
    return [str(dim) for dim in reversed(_manifest(context).dims)]


def listed(words: Iterable[str], incomplete: str) -> list[str]:
    """A list with commas, and each further word that it does not have yet."""
    before, comma, _ = incomplete.rpartition(",")
    taken = {word.strip() for word in before.split(",")}
    return [f"{before}{comma}{word}" for word in words if word not in taken]


def _names(context: typer.Context, incomplete: str, *, unfinished: bool = False) -> list[str]:
    """The indexes of the home, and its unfinished builds; the shell completes folders."""
    home = home_of(context.params.get("home"))
    builds = home.unfinished() if unfinished else []
    return [] if os.sep in incomplete else sorted({*home.names(), *builds})


indexes = source(_names)
indexes_and_builds = source(lambda context, word: _names(context, word, unfinished=True))
dim = source(lambda context, word: _dims(context))
dims = source(lambda context, word: listed(_dims(context), word))
precisions = source(lambda context, word: listed(PRECISIONS, word))
columns = source(lambda context, word: ["id", "title", "url", *metadata_keys(context)])


@source
def embedders(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The installed embedders."""
    from resizable_search.embedders.registry import names

    return names()


@source
def ids(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Ids of documents that are not deleted."""
    from resizable_search.store.documents import allowed_rows, connect

    folder, matches = _folder(context), []
    for part in _manifest(context).parts:
        allowed = allowed_rows(folder / part.path, part)
        with closing(connect(folder / part.path / NAMES.documents, part.rows)) as documents:
            for row, id_ in documents.execute(
                "SELECT row, id FROM documents WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (incomplete, f"{incomplete}\U0010ffff", MOST),
            ):
                if allowed is None or allowed[row]:
                    matches.append(str(id_))
    return sorted(matches)


def metadata_keys(context: typer.Context) -> list[str]:
    """Keys of the first documents' metadata; none from a damaged index."""
    from resizable_search.store.documents import connect

    with suppress(Exception):
        folder, first = _folder(context), _manifest(context).parts[0]
        with closing(connect(folder / first.path / NAMES.documents, first.rows)) as documents:
            rows = documents.execute("SELECT metadata FROM documents LIMIT ?", (MOST_ROWS,)).fetchall()
        return sorted({key for (metadata,) in rows for key in json.loads(metadata)})
    return []
