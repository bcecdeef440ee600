"""Progress of long work, and the log of a build.

The library never prints. A caller that wants progress passes a `Progress` of its own; the default, `SILENT`,
ignores it. The log, a file beside the index, has the same and more. A build never fails because of it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command that logs nothing imports nothing for it
    import logging


class Progress:
    """Follows a build or a measurement. A caller overrides the methods; these do nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A new stage begins: its name, its size (None if unknown) and its unit."""

    def advance(self, amount: int) -> None:
        """`amount` more units of the current stage are done."""

    def status(self, words: str) -> None:
        """What the current stage waits for, in a few words; '' if nothing."""

    def note(self, message: str) -> None:
        """A line that the user should read."""


SILENT = Progress()

MOST_BYTES = 2_000_000  # of a log; then it replaces `build.log.1`


class LoggedProgress(Progress):
    """Passes progress on, and logs its stages and notes; `handler` writes the log."""

    def __init__(self, inner: Progress, handler: "logging.Handler | None" = None) -> None:
        import logging

        self._inner = inner
        self._logger = logging.Logger("resizable_search.build.build", logging.INFO)  # not of the process
        self._logger.addHandler(handler or logging.NullHandler())

    def log(self, message: str) -> None:
        """Write a line to the log alone."""
        self._logger.info("%s", " ".join(message.split()))

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Pass the stage on, and log it."""
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


@contextmanager
def logged(progress: Progress, path: Path) -> Iterator[LoggedProgress]:
    """Append to the log at `path` while this is entered."""
    import logging
    from logging.handlers import RotatingFileHandler

    try:
        handler = RotatingFileHandler(
            path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8", errors="replace"
        )
    except OSError:
        yield LoggedProgress(progress)
        return
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk is ignored
    form = logging.Formatter("%(asctime)sZ %(process)d %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    try:
        yield LoggedProgress(progress, handler)
    finally:
        with suppress(OSError):  # what it could not write before, it cannot write now
            handler.close()
