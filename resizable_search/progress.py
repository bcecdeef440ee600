"""How the library reports long work: through a small protocol that the caller fills.

The library never prints. A caller that wants to see progress passes an object with these
methods; the default, `SILENT`, ignores them.

A build's log: a file beside the index that says what was done, what was retried, and why.

It is told what the user is told, and what would only clutter a screen. It holds no secret, as no message
does, and a build never fails for it.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """What a caller implements to follow a build or a measurement."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A new stage of work begins: its name, its size (None if unknown) and what it counts."""

    def advance(self, amount: int) -> None:
        """`amount` more units of the current stage are done."""

    def status(self, words: str) -> None:
        """What the current stage has met with or waits for, in a few words; '' if nothing."""

    def note(self, message: str) -> None:
        """Something that the user should read: one line."""


class Silent:
    """A progress that reports nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Ignore the stage."""

    def advance(self, amount: int) -> None:
        """Ignore the amount."""

    def status(self, words: str) -> None:
        """Ignore the words."""

    def note(self, message: str) -> None:
        """Ignore the message."""


SILENT = Silent()


MOST_BYTES = 2_000_000
"""Of one log; then it becomes `build.log.1`, and the one that was called so goes."""


class LoggedProgress:
    """Passes progress on, and writes its stages and notes into the log."""

    def __init__(self, inner: Progress, logger: logging.Logger) -> None:
        self._inner = inner
        self._logger = logger

    def log(self, message: str) -> None:
        """Write a line that nobody need see now."""
        self._logger.info("%s", " ".join(message.split()))

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Pass the stage on, and log its beginning."""
        self.log(f"{name} {total:,} {unit}" if total else name)
        self._inner.stage(name, total, unit)

    def advance(self, amount: int) -> None:
        """Pass it on."""
        self._inner.advance(amount)

    def status(self, words: str) -> None:
        """Pass it on."""
        self._inner.status(words)

    def note(self, message: str) -> None:
        """Pass the message on, and log it."""
        self.log(message)
        self._inner.note(message)


def unlogged(progress: Progress) -> LoggedProgress:
    """The progress alone, without a log."""
    return LoggedProgress(progress, logging.Logger("resizable_search.build.build", logging.CRITICAL))


class _Handler(RotatingFileHandler):
    """A disk that is full ends no build for its log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        return


@contextmanager
def logged(progress: Progress, path: Path) -> Iterator[LoggedProgress]:
    """Log to `path`, behind what is there, for as long as this is entered."""
    logger = logging.Logger("resizable_search.build.build", logging.INFO)  # not among those of the process
    try:
        handler = _Handler(path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8", errors="replace")
    except OSError:
        yield LoggedProgress(progress, logger)
        return
    form = logging.Formatter("%(asctime)sZ %(process)d %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    logger.addHandler(handler)
    try:
        yield LoggedProgress(progress, logger)
    finally:
        with suppress(OSError):  # what it could not write before, it cannot write now
            handler.close()
