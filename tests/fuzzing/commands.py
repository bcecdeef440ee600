"""The command line, in this process: what it prints must be for people, or JSON that anybody reads."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from tests.fuzzing.cases import Wrong

COMMANDS = (
    ("list",),
    ("list", "--json"),
    ("info", "{}"),
    ("info", "{}", "--json"),
    ("verify", "{}"),
    ("verify", "{}", "--json"),
    ("tune", "--show", "--index", "{}"),
    ("tune", "--show", "--index", "{}", "--json"),
    ("query", "a tree of leaves", "--index", "{}"),
    ("query", "a tree of leaves", "--index", "{}", "--json", "--explain"),
    ("query", "a tree of leaves", "--index", "{}", "--recall", "0.9"),
)


def run_command(number: int, name: str, home: Path) -> None:
    """Run one of the commands on an index of a home. Raises Wrong for what no user may see."""
    words = [word.format(name) for word in COMMANDS[number % len(COMMANDS)]]
    code, out, err = _ran([*words, "--home", str(home)])
    said = f"`rsearch {' '.join(words)}`"
    if code not in (0, 1, 2):
        raise Wrong(f"{said} ends with {code}")
    for line in err.splitlines():
        if not line.startswith("rsearch: ") or not line.isprintable() or len(line) > 2500:
            raise Wrong(f"{said} says {line[:300]!r}")
    if "internal error" in err or "out of memory" in err:
        raise Wrong(f"{said} says {err[:600]!r}")
    if code and not err:
        raise Wrong(f"{said} fails without a word")
    if "--json" in words:
        if out:
            _strictly(out, said)
    elif not all(line.isprintable() for line in out.splitlines()):
        raise Wrong(f"{said} prints what a terminal obeys: {out[:300]!r}")


def _strictly(out: str, said: str) -> None:
    def refuse(constant: str) -> None:
        raise Wrong(f"{said} prints {constant}, which is no JSON")

    try:
        json.loads(out, parse_constant=refuse)
    except ValueError as error:
        raise Wrong(f"{said} prints no JSON ({error})") from None


def _ran(words: list[str]) -> tuple[int, str, str]:
    from resizable_search.cli.main import _run, guarded

    with _captured() as (out, err), mock.patch.object(sys, "stdin", io.StringIO()):
        code = guarded(lambda: _run(words))
    return code, _text(out), _text(err)


@contextmanager
def _captured() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Streams as `cli.main` has them."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    apart = {"COLUMNS": "200", "NO_COLOR": "1", "ATLAS_API_PATH": "http://127.0.0.1:9"}
    with redirect_stdout(out), redirect_stderr(err), mock.patch.dict(os.environ, apart):
        os.environ.pop("NOMIC_API_KEY", None)
        yield out, err


def _text(stream: io.TextIOWrapper) -> str:
    raw = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return str(raw, "utf-8")
