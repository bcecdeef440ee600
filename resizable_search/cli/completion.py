"""What a shell offers for a word that is begun: names of indexes, their dimensions, ids, and so on.

Each function is an `autocompletion` of typer's: it gets the context, in which the words before are read
already, and the word so far. It reads what is there, in bounds, and offers nothing where that is damaged.
Nothing heavy is imported, not even numpy: a person waits for each of these.

How a shell is answered: words as bash splits them, nothing on stderr, nothing that a shell would run.
"""

import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, ParamSpec

import typer

from resizable_search.store.layout import NAMES, Home, default_home, expanded

VARIABLE = "_RSEARCH_COMPLETE"
"""Set by the script that `rsearch --show-completion` prints."""

_SPECIAL = re.compile(r"([^\w@%+=:,./-])")
_PLAIN = re.compile(r"[\w@%+=:,./#-]+")


def is_asked() -> bool:
    """Whether a shell asks for words."""
    return os.environ.get(VARIABLE, "").startswith("complete_")


def answer(run: Callable[[], object]) -> int:
    """Print the words that `run` offers as this shell takes them, and nothing else. Returns the exit code."""
    in_bash = os.environ[VARIABLE] == "complete_bash"
    if in_bash:
        word = _join_words()
    said, code = io.StringIO(), 0
    with suppress(Exception), redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            run()
        except SystemExit as end:  # fish asks by the exit code whether there are words
            code = end.code if isinstance(end.code, int) else 0
    text = said.getvalue()
    if in_bash:
        lines = [_for_bash(line, word) for line in text.splitlines() if line and line.isprintable()]
        text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(text)
    return code


def _join_words() -> str:
    """Undo that bash parts words at `:` and `=`, in the variables that typer reads. Returns the last word."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    with suppress(ValueError):
        words = words[: int(os.environ.get("COMP_CWORD", "")) + 1]
    joined: list[str] = []
    glue = False
    for word in words:
        is_break = re.fullmatch("[:=]+", word) is not None
        if joined[1:] and (glue or (is_break and joined[-1] != "")):
            joined[-1] += word
        else:
            joined.append(word)
        glue = is_break
    os.environ["COMP_WORDS"] = "\n".join(joined)
    os.environ["COMP_CWORD"] = str(len(joined) - 1)
    return joined[-1]


def _for_bash(line: str, word: str) -> str:
    """A word as bash puts it in: behind the last `:` or `=` that is there, what is special escaped."""
    value = word.partition("=")[2] if word.startswith("-") and "=" in word else word
    kept = max(value.rfind(":"), value.rfind("=")) + 1
    rest = line[kept:]
    return rest if word[:1] in ("'", '"') else _SPECIAL.sub(r"\\\1", rest)


def harmless(words: list[str]) -> list[str]:
    """The words that may be put into a line: all in bash, where they are escaped, else plain ones."""
    if os.environ.get(VARIABLE) in (None, "complete_bash"):
        return words
    return [word for word in words if _PLAIN.fullmatch(word)]


P = ParamSpec("P")

MOST = 100
"""Words that are offered at once."""

MOST_BYTES = 16_000_000
MOST_ROWS = 50
"""Documents whose metadata is looked at for its keys."""


def _safely(offer: Callable[P, Iterable[str]]) -> Callable[P, list[str]]:
    """Nothing that goes wrong is told in the middle of a person's line."""

    @functools.wraps(offer)
    def safe(*args: P.args, **kwargs: P.kwargs) -> list[str]:
        try:
            found = list(dict.fromkeys(offer(*args, **kwargs)))
        except Exception:  # of whatever lies in an index's place
            return []
        return harmless([word for word in found if word.isprintable()][:MOST])

    return safe


def _home(context: typer.Context) -> Home:
    given = context.params.get("home")
    return Home(expanded(given) if given is not None else default_home())


def _folder(context: typer.Context) -> Path:
    """The index that is named, or meant where none is."""
    from resizable_search.store.layout import default_name, resolve_index

    home = _home(context)
    return resolve_index(context.params.get("index") or default_name(home), home)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / NAMES.manifest
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return {}
    found = json.loads(path.read_bytes())
    return found if isinstance(found, dict) else {}


def _dims(context: typer.Context) -> list[str]:
    """The stored dimensions, the full one first."""
    return [str(int(dim)) for dim in reversed(_manifest(_folder(context))["dims"])]


def _listed(words: Iterable[str], incomplete: str) -> list[str]:
    """The words behind those that a list has already, each once."""
    begun, comma, _ = incomplete.rpartition(",")
    taken = {word.strip() for word in begun.split(",")}
    return [f"{begun}{comma}{word}" for word in words if word not in taken]


@_safely
def indexes(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The indexes of the home; a value with a separator is a folder, which the shell completes."""
    return [] if os.sep in incomplete else _home(context).names()


@_safely
def indexes_and_builds(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The indexes of the home, and the builds that are not finished."""
    home = _home(context)
    return [] if os.sep in incomplete else sorted({*home.names(), *home.unfinished()})


@_safely
def dim(context: typer.Context, incomplete: str) -> Iterable[str]:
    """A stored dimension."""
    return _dims(context)


@_safely
def dims(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Stored dimensions, with commas between."""
    return _listed(_dims(context), incomplete)


@_safely
def usual_dims(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Dimensions that a build may store, with commas between."""
    return _listed(map(str, (64, 128, 256, 512, 768, 1024)), incomplete)


@_safely
def plan(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The last stage of a plan: a stored dimension, or a precision behind it."""
    from resizable_search.engine.plan import PRECISIONS

    begun, comma, stage = incomplete.rpartition(",")
    parts = stage.split(":")
    if len(parts) == 1:
        return [f"{begun}{comma}{word}" for word in _dims(context)]
    return [f"{begun}{comma}{parts[0]}:{word}" for word in PRECISIONS] if len(parts) == 2 else []


@_safely
def precisions(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Precisions, with commas between."""
    from resizable_search.engine.plan import PRECISIONS

    return _listed(PRECISIONS, incomplete)


@_safely
def engines(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The engines."""
    from resizable_search.cli.settings import ENGINES

    return ENGINES


@_safely
def formats(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The forms that hits are printed in."""
    from resizable_search.cli.output import FORMATS

    return FORMATS


@_safely
def export_formats(context: typer.Context, incomplete: str) -> Iterable[str]:
    """What `export` writes."""
    from resizable_search.cli.export import FORMATS

    return FORMATS


@_safely
def embedders(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The embedders that are installed."""
    from resizable_search.embedders.registry import names

    return names()


@_safely
def variables(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Environment variables that may hold a key, by their names."""
    return [name for name in os.environ if name.endswith(("KEY", "TOKEN"))]


@_safely
def fields(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Fields of a hit and keys of the metadata, with commas between."""
    from resizable_search.cli.output import HIT_FIELDS

    words = [*HIT_FIELDS, "snippet", "metadata"]
    try:
        words += _keys(_folder(context))
    except Exception:  # the fields that every hit has are there without an index
        return _listed(words, incomplete)
    return _listed(words, incomplete)


@_safely
def columns(context: typer.Context, incomplete: str) -> Iterable[str]:
    """The first word of an expression: what a document has."""
    return ["id", "title", "url", *_keys(_folder(context))]


@_safely
def ids(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Ids of documents that begin so, and are not deleted."""
    from resizable_search.store.documents import connect

    folder, found = _folder(context), []
    for part in _manifest(folder)["parts"]:
        place = folder / str(part["path"])
        deleted = _bitmap(place / str(part["bitmap"])) if part["bitmap"] else b""
        with closing(connect(place / NAMES.documents, int(part["rows"]))) as documents:
            for row, id_ in documents.execute(
                "SELECT row, id FROM documents WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
                (incomplete, f"{incomplete}\U0010ffff", MOST),
            ):
                if not (row // 8 < len(deleted) and deleted[row // 8] >> (7 - row % 8) & 1):
                    found.append(str(id_))
    return sorted(found)


def _bitmap(path: Path) -> bytes:
    """The bits of deleted rows: a .npy of uint8 without numpy, its header's length at bytes 8 and 9."""
    content = path.read_bytes()
    return content[10 + int.from_bytes(content[8:10], "little") :]


def _keys(folder: Path) -> list[str]:
    """Keys of the first documents' metadata."""
    from resizable_search.store.documents import connect

    first = _manifest(folder)["parts"][0]
    with closing(connect(folder / str(first["path"]) / NAMES.documents, int(first["rows"]))) as documents:
        found = documents.execute("SELECT metadata FROM documents LIMIT ?", (MOST_ROWS,)).fetchall()
    return sorted({key for (metadata,) in found for key in json.loads(metadata)})


@_safely
def settings_keys(context: typer.Context, incomplete: str) -> Iterable[str]:
    """Names of settings."""
    from resizable_search.cli.settings import Schema

    names = Schema(context.find_root().command).names()
    depth = incomplete.count(".")
    # As many words as the next dot shows: all of them are some hundred.
    return [
        ".".join(name.split(".")[: depth + 1]) + ("." if name.count(".") > depth else "") for name in names
    ]


@_safely
def setting_values(context: typer.Context, incomplete: str) -> Iterable[str]:
    """What a setting may be, where that is one of a few words."""
    from resizable_search.cli.settings import Schema

    setting = Schema(context.find_root().command).find(context.params["key"])
    offers: dict[str, Callable[[typer.Context, str], list[str]]] = {
        "embedder": embedders,
        "index": indexes,
        "dim": dim,
        "dims": dims,
        "plan": plan,
        "fields": fields,
        "api-key-env": variables,
    }
    if setting.choices:
        return _listed(setting.choices, incomplete) if setting.many else setting.choices
    return offers[setting.key](context, incomplete) if setting.key in offers else []
