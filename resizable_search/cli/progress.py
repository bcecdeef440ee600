"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_SECONDS = 10.0
"""How often a plain line tells how far a stage has come."""


class Bar:
    """A live bar for people who watch. Use it as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._began = 0.0
        self._first: int | None = None
        self._done = 0

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin a bar of its own for the stage."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, unit=unit, rate="")
        self._began, self._first, self._done = time.monotonic(), None, 0

    def advance(self, amount: int) -> None:
        """Move the bar, and tell the rate since the stage began."""
        if self._task is None:
            return
        if self._first is None:  # what an earlier run did is no speed of this one
            self._first = amount
        self._done += amount
        seconds = time.monotonic() - self._began
        made = self._done - self._first
        rate = f"{made / seconds:,.0f}/s" if made and seconds > 0.5 else ""
        self._bar.update(self._task, advance=amount, rate=rate)

    def note(self, message: str) -> None:
        """Print the line above the bar."""
        self._console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Lines:
    """Plain lines for logs: a stage's beginning, and how far it is now and then."""

    def __init__(self) -> None:
        self._name, self._unit, self._total = "", "", 0
        self._done = 0
        self._last = 0.0

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Name the stage."""
        self._name, self._unit, self._total, self._done = name, unit, total or 0, 0
        self._last = time.monotonic()
        self._write(f"{name} {total:,} {unit}" if total else name)

    def advance(self, amount: int) -> None:
        """Count, and tell when it is time."""
        self._done += amount
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            whole = f" of {self._total:,}" if self._total else ""
            self._write(f"{self._name}: {self._done:,}{whole} {self._unit}")

    def note(self, message: str) -> None:
        """Print the line."""
        self._write(message)

    def _write(self, line: str) -> None:
        with suppress(OSError):  # a log that has no room is no reason to end hours of work
            sys.stderr.write(f"rsearch: {line}\n")
            sys.stderr.flush()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to end."""


def shown_progress() -> Bar | Lines:
    """What fits where stderr goes."""
    return Bar() if sys.stderr.isatty() else Lines()
