"""Progress on a terminal: a live bar, notes above it, and nothing that stays of it at the end."""

import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from resizable_search.cli import progress
from resizable_search.progress import Progress


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[Progress], None]], str]:
    """What a terminal of so many columns gets on stderr while some work is done."""

    def shown(columns: int, work: Callable[[Progress], None]) -> str:
        ours, theirs = os.openpty()
        written = bytearray()

        def read() -> None:  # beside the work, as a terminal has room for some frames only
            with suppress(OSError):  # the other side is closed
                while piece := os.read(ours, 1 << 16):
                    written.extend(piece)

        terminal = threading.Thread(target=read)
        terminal.start()
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm-256color")
        with os.fdopen(theirs, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            with progress.shown_progress() as bar:
                work(bar)
        terminal.join()
        os.close(ours)
        return written.decode()

    return shown


def work(bar: Progress) -> None:
    bar.status("nothing yet")  # before the first stage there is no bar
    bar.stage("reading", None, "documents")
    bar.advance(3)
    bar.stage("embedding", 10, "documents")
    bar.note("[bold]left out[/bold] one: build again with `restart`")
    bar.status("2 requests")
    bar.advance(4)


@pytest.mark.parametrize("columns", [120, 60])
def test_a_bar_tells_how_far_the_stage_is(on_terminal, columns: int):
    written = on_terminal(columns, work)
    assert "[bold]left out[/bold] one: build again with --restart\r\n" in re.sub(
        r"\x1b\[[\d;]*m|`", "", written
    )
    last = re.sub(r"\x1b\[[\d;]*m", "", written).rpartition("embedding")[2]
    assert "4/10 documents · 2 requests" in last
    assert "reading" not in last
    assert ("━" in last) == (columns >= progress.BAR_FROM)
    assert last.rstrip("\r\n").endswith("\x1b[2K")  # its line is cleared


def test_a_note_that_is_wider_than_the_terminal_keeps_every_word(on_terminal):
    words = " ".join(f"word{number}" for number in range(40))
    assert words in on_terminal(40, lambda bar: bar.note(words))
