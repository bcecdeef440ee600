"""A folder that is held, so that it can be told from whatever lies at its path later."""

import os
import weakref
from pathlib import Path

from resizable_search.index.storage import unreadable
from resizable_search.open_files import too_many_files


class Place:
    """The folder that a path leads to now, or that there is none.

    It is held open: the number of a folder that was deleted (its inode) may be another's at once, and two
    quick replacements would look like none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        try:
            # O_PATH needs no right to list the folder; where there is none, O_RDONLY has to do.
            self._handle = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        except OSError as error:
            if too_many_files(error) is not None:
                raise unreadable(path, error) from None
        else:
            self._release = weakref.finalize(self, os.close, self._handle)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to that very folder."""
        if self._handle is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Hold it no longer."""
        if self._handle is not None:
            self._handle = None
            self._release()
