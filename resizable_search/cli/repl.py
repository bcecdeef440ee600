"""The prompt of `rsearch query` without a text: a line is read, a `Session` does what it says.

Lines are edited by the standard library's readline, over prompt_toolkit: history, search and completion
are there in 2 ms, prompt_toolkit takes 210 ms to import before the first key and brings menus that
nobody needs here.
"""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.cli.app import with_flags
from resizable_search.cli.options import home_of, index_name
from resizable_search.cli.output import OutputOptions, check_fields
from resizable_search.cli.repl_commands import completions
from resizable_search.cli.repl_session import Session, Settings, say
from resizable_search.cli.searching import SearchArguments
from resizable_search.errors import RsearchError
from resizable_search.system import exhausted
from resizable_search.text import plain

if TYPE_CHECKING:
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index

MOST_LINES = 1000
"""Of the history that are kept; the file may have twice as many before it is cut."""


def ask(
    index: "Index", options: SearchArguments, form: OutputOptions, *, group: bool, embedder: "Embedder | None"
) -> None:
    """Answer what is typed, until Ctrl-D. Closes the index. Raises UsageError for options that make no sense.

    `embedder`, if given, is that of `index`; other indexes have their own.
    """
    home = home_of(options.home)
    named = index_name(options.index, home)

    def open_named(name: str) -> "Index":
        return replace(options, index=name).opened(embedder if name == named else None)

    settings = Settings(
        options.k, options.dim, options.rerank, options.plan, options.recall, options.where, group,
        form.snippet, options.explain,
    )  # fmt: skip
    try:
        check_fields(form, index)
        index.check_where(options.where)
        session = Session(index, named, open_named, home.names, settings, form)
    except BaseException:
        index.close()
        raise
    try:
        session.greet()
        say(":help tells what can be set; Ctrl-D leaves")
        converse(session, History(home.history))
    finally:
        session.close()


def converse(session: Session, history: "History") -> None:
    """Read lines and have the session take them, until it or the end of the input says to leave."""
    editor = _editor(session, history)
    while True:
        try:
            line = input(session.prompt)
        except KeyboardInterrupt:  # readline shows the line that is given up
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        if line.strip():
            is_new = history.add(line)
            if is_new and editor is not None:
                editor.add_history(line)
        if not answered(session, line):
            return


def answered(session: Session, line: str) -> bool:
    """Have the session take a line, and tell what goes wrong in one line; False: it says to leave."""
    try:
        return session.take(line)
    except KeyboardInterrupt:
        _tell("stopped")
    except BrokenPipeError:
        raise
    except Exception as error:
        # A limit of this process may pass; any other error that is not ours is a fault of the program.
        told = exhausted(error) or error
        if not isinstance(told, RsearchError):
            raise
        _tell(with_flags(str(told)))
    return True


def _tell(message: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"rsearch: {plain(message)}\n")
    sys.stderr.flush()


def _editor(session: Session, history: "History") -> Any:
    """The readline module, with our history and completion; None where Python was built without it."""
    try:
        import readline
    except ImportError:
        return None
    found: list[str] = []

    def complete(_: str, state: int) -> str | None:
        nonlocal found
        if state == 0:
            found = []
            with suppress(RsearchError):  # which has no place in the middle of a line
                found = completions(session, readline.get_line_buffer()[: readline.get_endidx()])
        return found[state] if state < len(found) else None

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
    """What was typed, in a file for its owner alone, a line each; one that cannot be written is none.

    A line is appended when it is typed, so that two prompts at once lose nothing of each other's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = ""

    def lines(self) -> list[str]:
        """The lines of before, the oldest first; a file that has grown long is cut."""
        try:
            found = self._path.read_text("utf-8", "replace").split("\n")[:-1]
        except OSError:
            return []
        if len(found) > 2 * MOST_LINES:
            with suppress(OSError):
                beside = self._path.with_suffix(f".{os.getpid()}")
                beside.unlink(missing_ok=True)
                _append(beside, found[-MOST_LINES:])
                beside.replace(self._path)
        return [plain(line) for line in found[-MOST_LINES:]]

    def add(self, line: str) -> bool:
        """Keep a line, unless it repeats the one before it, which is told."""
        line = plain(line)
        if line == self._last:
            return False
        self._last = line
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _append(self._path, [line])
        return True


def _append(path: Path, lines: list[str]) -> None:
    """Write lines at the end of a file that nobody else may read. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(handle, "a", encoding="utf-8", errors="replace") as file:
        os.fchmod(file.fileno(), 0o600)  # also of one that was made by other hands
        file.write("".join(f"{line}\n" for line in lines))
