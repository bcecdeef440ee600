"""The prompt of `rsearch query` without a text: it reads lines, a `Session` runs them.

The standard library's readline edits the lines. It loads in 2 ms and has history and completion;
prompt_toolkit would take 210 ms to import.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from resizable_search.cli.help import with_flags
from resizable_search.cli.repl_session import Session, completions, say
from resizable_search.errors import RsearchError
from resizable_search.system import exhausted
from resizable_search.text import plain

MOST_LINES = 1000  # lines of history; the file is cut once it has twice as many


def run(session: Session, history: "History") -> None:
    """Greet, and run lines until one of them, or the end of the input, ends the prompt."""
    session.greet()
    say(":help lists the commands; Ctrl-D leaves")
    editor = _editor(session, history)
    while True:
        try:
            line = input(session.prompt)
        except KeyboardInterrupt:  # readline has shown the line
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        if line.strip() and history.add(line) and editor is not None:
            editor.add_history(line)
        if not answered(session, line):
            return


def answered(session: Session, line: str) -> bool:
    """Run a line, and report an error in one line. False: leave."""
    try:
        return session.take(line)
    except KeyboardInterrupt:
        _report("stopped")
    except BrokenPipeError:
        raise
    except Exception as error:
        # A limit of this process may pass; any other foreign error is a fault of the program.
        known = exhausted(error) or error
        if not isinstance(known, RsearchError):
            raise
        _report(with_flags(str(known)))
    return True


def _report(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"rsearch: {plain(message)}\n")
    sys.stderr.flush()


def _editor(session: Session, history: "History") -> Any:
    """The readline module with our history and completion; None if this Python lacks it."""
    try:
        import readline
    except ImportError:
        return None
    choices: list[str] = []

    def complete(_: str, state: int) -> str | None:
        nonlocal choices
        if state == 0:
            choices = []
            with suppress(RsearchError):
                choices = completions(session, readline.get_line_buffer()[: readline.get_endidx()])
        return choices[state] if state < len(choices) else None

    readline.set_auto_history(False)
    readline.clear_history()
    for line in history.lines():
        readline.add_history(line)
    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    return readline


class History:
    """Typed lines in a file that only its owner may read; without a file if it cannot be written.

    Each line is appended at once, so that two prompts keep each other's lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = ""

    def lines(self) -> list[str]:
        """The earlier lines, the oldest first. Cuts a file that has grown too long."""
        try:
            lines = self._path.read_text("utf-8", "replace").split("\n")[:-1]
        except OSError:
            return []
        if len(lines) > 2 * MOST_LINES:
            with suppress(OSError):
                beside = self._path.with_suffix(f".{os.getpid()}")
                beside.unlink(missing_ok=True)
                _append(beside, lines[-MOST_LINES:])
                beside.replace(self._path)
        return [plain(line) for line in lines[-MOST_LINES:]]

    def add(self, line: str) -> bool:
        """Add a line, unless it repeats the last one. Returns whether it was added."""
        line = plain(line)
        if line == self._last:
            return False
        self._last = line
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _append(self._path, [line])
        return True


def _append(path: Path, lines: list[str]) -> None:
    """Append lines to a file that nobody else may read. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "a", encoding="utf-8", errors="replace") as file:
        os.fchmod(file.fileno(), 0o600)  # also if the file existed
        file.write("".join(f"{line}\n" for line in lines))
