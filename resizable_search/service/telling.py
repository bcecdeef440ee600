"""What libraries log, told in a line each."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told(name: str, trouble: Callable[[str], None], level: int = logging.WARNING) -> Iterator[None]:
    """Have `trouble` called with a line about each record that a logger takes, and nobody else."""
    log = logging.getLogger(name)
    handler = _Telling(trouble, level)
    log.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)


class _Telling(logging.Handler):
    """Tells records in a line each."""

    def __init__(self, trouble: Callable[[str], None], level: int) -> None:
        super().__init__(level)
        self._trouble = trouble

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a record, with the kind of the exception that it has."""
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage().strip().partition("\n")[0]
        self._trouble(f"{said} ({type(error).__name__}: {error})" if error is not None else said)
