"""How the library reports long work: through a small protocol that the caller fills.

The library never prints. A caller that wants to see progress passes an object with these
methods; the default, `SILENT`, ignores them.
"""

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
