"""What a command has of its terminal: its own words, a pipe, a yes or no."""

import shlex
import sys
from typing import TYPE_CHECKING

import typer

from resizable_search.errors import RsearchError, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO


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
