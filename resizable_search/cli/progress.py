"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from resizable_search.cli.app import with_flags
from resizable_search.text import duration

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_SECONDS = 10.0
"""How often a plain line tells how far a stage has come."""

BAR_FROM = 100
"""Columns of a terminal that has room for a bar beside its words."""


class Pace:
    """How far a stage is and how fast it goes, in words."""

    def __init__(self, total: int | None = None, unit: str = "") -> None:
        self._total = total or 0
        self._unit = unit
        self._done = 0
        self._began = time.monotonic()
        self._earlier: int | None = None
        """What the first advance tells, which an earlier run did: it is no speed of this one."""

    def advance(self, amount: int) -> None:
        """Count what was done."""
        if self._earlier is None:
            self._earlier = amount
        self._done += amount

    def words(self) -> list[str]:
        """How far, how fast, and how long it will take: what is known of these."""
        whole = f"/{self._total:,}" if self._total else ""
        words = [f"{self._done:,}{whole} {self._unit}".strip()]
        seconds = time.monotonic() - self._began
        rate = (self._done - (self._earlier or 0)) / seconds if seconds > 0.5 else 0.0
        if rate:
            words.append(f"{rate:,.0f}/s" if rate >= 9.5 else f"{rate:.2g}/s")
            if self._total > self._done:
                words.append(f"{duration((self._total - self._done) / rate)} left")
        return words


class Bar:
    """A live bar for people who watch, and one line of words. Use it as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        self._console = Console(stderr=True)
        line = TextColumn(
            "{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        )
        # On a narrow terminal the words say it all.
        bar = [BarColumn(bar_width=24)] if self._console.width >= BAR_FROM else []
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *bar,
            line,
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._pace = Pace()
        self._status = ""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin a bar of its own for the stage."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, words="")
        self._pace, self._status = Pace(total, unit), ""

    def advance(self, amount: int) -> None:
        """Move the bar, and tell how far it is."""
        self._pace.advance(amount)
        self._show(amount)

    def status(self, words: str) -> None:
        """Show the words behind the others."""
        self._status = words
        self._show()

    def note(self, message: str) -> None:
        """Print the line above the bar."""
        self._console.print(
            with_flags(message), style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def _show(self, amount: int = 0) -> None:
        if self._task is not None:
            words = [*self._pace.words(), *([self._status] if self._status else [])]
            self._bar.update(self._task, advance=amount, words=" · ".join(words))

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
        self._name = ""
        self._pace = Pace()
        self._last = 0.0
        self._status = ""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Name the stage."""
        self._name, self._pace, self._status = name, Pace(total, unit), ""
        self._last = time.monotonic()
        self._write(f"{name} {total:,} {unit}" if total else name)

    def advance(self, amount: int) -> None:
        """Count, and tell when it is time."""
        self._pace.advance(amount)
        self._tell()

    def status(self, words: str) -> None:
        """Keep the words for the next line, which may be due although nothing advances."""
        self._status = words
        self._tell()

    def note(self, message: str) -> None:
        """Print the line."""
        self._write(with_flags(message))

    def _tell(self) -> None:
        if time.monotonic() - self._last < PLAIN_SECONDS:
            return
        self._last = time.monotonic()
        words = [*self._pace.words(), *([self._status] if self._status else [])]
        self._write(f"{self._name}: {', '.join(words)}")

    def _write(self, line: str) -> None:
        # Whoever read stderr may have gone (`2>&1 | head`), or its disk is full: the work goes on.
        with suppress(OSError):
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
