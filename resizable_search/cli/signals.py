"""Ctrl-C in long work: the step under way is ended, and no more."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Set the event on Ctrl-C or SIGTERM; the second one leaves at once, which loses nothing either."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        # Not through sys.stderr, which may be in the middle of a write: that would raise here.
        with suppress(OSError):
            os.write(2, b"\nrsearch: stopping after this step; once more leaves at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
