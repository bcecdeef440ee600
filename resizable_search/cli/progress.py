"""Progress on stderr (a live bar on a terminal, plain lines elsewhere), questions, pipes, and Ctrl-C."""

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

import typer

from resizable_search.cli.help import with_flags
from resizable_search.cli.output import note
from resizable_search.errors import RsearchError, UsageError
from resizable_search.progress import Progress
from resizable_search.text import duration

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_SECONDS = 10.0  # seconds between two plain lines of a stage
BAR_FROM = 100  # columns of a terminal with room for a bar beside its words


class Lines(Progress):
    """Plain lines for logs: the beginning of a stage, and how far it is every PLAIN_SECONDS."""

    def __init__(self) -> None:
        self._begin("", None, "")

    def _begin(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total or 0, unit
        self._status = ""
        self._done = 0
        self._earlier: int | None = None  # work of an earlier run, which does not enter the speed
        self._began = self._last = time.monotonic()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Name the stage."""
        self._begin(name, total, unit)
        self._write(f"{name} {total:,} {unit}" if total else name)

    def advance(self, amount: int) -> None:
        """Count work, and print a line if it is time."""
        if self._earlier is None:
            self._earlier = amount
        self._done += amount
        self._show()

    def status(self, words: str) -> None:
        """Keep the words for the next line, and print it if it is time."""
        self._status = words
        self._show()

    def note(self, message: str) -> None:
        """Print the line."""
        self._write(with_flags(message))

    def _words(self) -> list[str]:
        """The count, the speed, the remaining time and the status, as far as known."""
        total = f"/{self._total:,}" if self._total else ""
        words = [f"{self._done:,}{total} {self._unit}".strip()]
        seconds = time.monotonic() - self._began
        rate = (self._done - (self._earlier or 0)) / seconds if seconds > 0.5 else 0.0
        if rate:
            words.append(f"{rate:,.0f}/s" if rate >= 9.5 else f"{rate:.2g}/s")
            if self._total > self._done:
                words.append(f"{duration((self._total - self._done) / rate)} left")
        return [*words, self._status] if self._status else words

    def _show(self) -> None:
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            self._write(f"{self._name}: {', '.join(self._words())}")

    def _write(self, line: str) -> None:
        note(line)


class Bar(Lines):
    """A live bar and one line of words; notes are lines above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as LiveProgress
        from rich.table import Column

        super().__init__()
        self._console = Console(stderr=True)
        line = TextColumn(
            "{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        )
        bar = [BarColumn(bar_width=24)] if self._console.width >= BAR_FROM else []
        columns = (SpinnerColumn(), TextColumn("{task.description}"), *bar, line)
        self.live = LiveProgress(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin a new bar."""
        self._begin(name, total, unit)
        if self._task is not None:
            self.live.remove_task(self._task)
        self._task = self.live.add_task(name, total=total, words="")

    def _show(self) -> None:
        if self._task is not None:
            self.live.update(self._task, completed=self._done, words=" · ".join(self._words()))

    def _write(self, line: str) -> None:
        self._console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    bar = Bar()
    with bar.live:
        yield bar


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Set the event on Ctrl-C or SIGTERM. The second signal ends the process at once, and loses nothing."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        with suppress(OSError):  # not through sys.stderr: a write may be under way there
            os.write(2, b"\nrsearch: stopping after this step; press Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command_to_go_on() -> str:
    """The command that resumes the build of this process."""
    once = {"--restart", "--refit", "--debug", "--dry-run"}
    return shlex.join(["rsearch", *(word for word in sys.argv[1:] if word not in once)])


def piped_in() -> BinaryIO:
    """The stdin of a pipe. Raises UsageError on a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("stdin is not a pipe: send JSON lines to it, or name files")
    return sys.stdin.buffer


def confirm(action: str) -> None:
    """Ask on the terminal. Raises RsearchError without a terminal, typer.Abort for a no."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise RsearchError(f"not a terminal: pass --yes to {action}")
    typer.confirm(f"{action}?", abort=True, err=True)
