"""What a command is given besides its options: its own words, a pipe, a file of queries, a yes or no."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resizable_search.errors import RsearchError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

MOST_BYTES = 64_000_000  # the largest file of queries


def command_to_go_on() -> str:
    """The command that resumes the build of this process."""
    once = {"--restart", "--refit", "--debug", "--dry-run"}
    return shlex.join(["rsearch", *(word for word in sys.argv[1:] if word not in once)])


def piped_in() -> "BinaryIO":
    """The stdin of a pipe. Raises UsageError on a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("stdin is not a pipe: send JSON lines to it, or name files")
    return sys.stdin.buffer


def confirm(action: str) -> None:
    """Ask on the terminal. Raises RsearchError without a terminal, typer.Abort for a no."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise RsearchError(f"not a terminal: pass --yes to {action}")
    typer.confirm(f"{action}?", abort=True, err=True)


def read_queries(path: Path) -> dict[int, str]:
    """The lines of a file that are not blank, by their numbers from 1. Raises UsageError."""
    remedy = "name a file with one query a line"
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} has more than {MOST_BYTES // 10**6} MB: {remedy}")
        lines = content.decode("utf-8-sig").split("\n")  # splitlines would split at U+2028 and others too
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}): {remedy}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: {remedy}") from None
    return {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
