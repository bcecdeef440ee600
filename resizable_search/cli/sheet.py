"""What results are printed on where that is another process's stdout: a text, and how that stdout is made."""

import io
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

VARIABLES = (
    "COLUMNS",
    "LINES",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)
"""What of the environment decides how rich prints."""

_DUMB = ("dumb", "unknown")


class Surface(NamedTuple):
    """A stdout as far as it decides what is printed: a terminal or not, its encoding, what else rich asks."""

    is_terminal: bool
    encoding: str
    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Surface":
        """That of this process, its terminal's size told by $COLUMNS and $LINES, as rich would find it."""
        found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        if found.get("TERM", "").lower() not in _DUMB:  # which has 80 columns whatever the system says
            for name, count in zip(("COLUMNS", "LINES"), _size(), strict=True):
                if not found.get(name, "").isdigit():
                    found[name] = str(count)
        return cls(sys.stdout.isatty(), sys.stdout.encoding, found)

    def to_json(self) -> dict[str, Any]:
        """As it is sent to a service."""
        return self._asdict()


def _size() -> tuple[int, int]:
    """Columns and lines of the first of our streams that is a terminal."""
    for stream in (0, 1, 2):
        try:
            columns, lines = os.get_terminal_size(stream)
        except OSError:  # it is none
            continue
        return columns or 80, lines or 25
    return 80, 25


class Sheet(io.StringIO):
    """A text that is written as if to such a stdout."""

    def __init__(self, surface: Surface) -> None:
        super().__init__(newline="")
        self.environ = surface.environ
        self._surface = surface

    @property
    def encoding(self) -> str:  # type: ignore[override]  # StringIO has none
        """That of the stdout."""
        return self._surface.encoding

    def isatty(self) -> bool:
        """Whether the stdout is a terminal."""
        return self._surface.is_terminal
