"""The indexes of a home, opened once and lent to whoever asks; one that changes on disk is opened anew."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resizable_search.errors import (
    IndexFormatError,
    IndexNotFoundError,
    OpenFilesError,
    RsearchError,
    UsageError,
)
from resizable_search.search.index import Index, open_index
from resizable_search.store.layout import FAVOURITE, INDEX_VARIABLE, NAMES, Home, none_yet, resolve_index
from resizable_search.system import thread_count
from resizable_search.text import quoted

Sign = tuple[int, int, int, int]
"""What tells one file from the next at its path: its device, inode, size, and when it was changed."""

CHARACTERS_KEPT = 1 << 24
"""Of the documents that an index's last hits were, in memory: reading ten takes as long as a scan of bits."""


@dataclass(slots=True)
class _Copy:
    """An index as it was opened, how often it is lent at this moment, and whether it is out of date."""

    index: Index
    signs: dict[str, Sign | None]
    lent: int = 0
    is_retired: bool = False


@dataclass(slots=True)
class _Slot:
    """The place of an index on the shelf. Its lock is held while it is opened, so that one thread does it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    copy: _Copy | None = None


class IndexPool:
    """The indexes of a home, or those of it (or folders elsewhere) that `only` names; safe from any thread.

    An index is opened when it is first asked for and stays open. Names that come from a request are
    looked up among those there are: none of them is ever made into a path.
    Raises IndexNotFoundError for one of `only` that is not there.
    """

    def __init__(
        self, home: Home, only: Sequence[str] = (), *, threads: int | None = None, engine: str = "auto"
    ) -> None:
        self.home = home
        self.threads = thread_count(threads)
        """Threads of a scan."""
        self._engine = engine
        self._only: dict[str, Path] = {}
        for name in only:
            folder = resolve_index(name, home)
            known = folder.resolve().name
            if self._only.setdefault(known, folder) != folder:
                raise UsageError(f"two indexes are called {quoted(known)}: serve one of them")
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The indexes there are, sorted. Raises StorageError where the home cannot be read."""
        return sorted(self._only) if self._only else self.home.names()

    def folder(self, name: str) -> Path:
        """Where an index of the shelf lies."""
        return self._only.get(name, self.home.index(name))

    @staticmethod
    def default_of(names: Sequence[str]) -> str | None:
        """The one of some indexes that is meant where none is named."""
        for favourite in (os.environ.get(INDEX_VARIABLE), FAVOURITE):
            if favourite in names:
                return favourite
        return names[0] if len(names) == 1 else None

    def chosen(self, name: str | None) -> str:
        """The index that a request means. Raises IndexNotFoundError, which tells what there is."""
        if name is not None and name in self._slots:
            return name
        there = self.names()
        if name is None:
            default = self.default_of(there)
            if default is not None:
                return default
            if there:
                raise IndexNotFoundError(f"which index? name one: there are {', '.join(there)}")
            raise none_yet(self.home)
        if name in there:
            return name
        if not there:
            raise none_yet(self.home)
        raise IndexNotFoundError(f"no index {quoted(name)}: there are {', '.join(there)}")

    def fingerprint(self, name: str) -> str | None:
        """That of the embedder of an index which is open; None for any other. Reads nothing."""
        slot = self._slots.get(name)
        copy = slot.copy if slot is not None else None
        return copy.index.fingerprint if copy is not None else None

    @contextmanager
    def lend(self, name: str) -> Iterator[Index]:
        """The index of that name as it is on disk now, open at least until it is given back.

        Raises IndexNotFoundError, IndexFormatError for a damaged one, also for one whose files are cut
        while it is lent: what was read of it is worth nothing then. And what else opening one raises.
        """
        copy = self._current(self.chosen(name))
        try:
            yield copy.index
            _refuse_cut(copy.signs)
        finally:
            self._give_back(copy)

    def close(self) -> None:
        """Close every index, as soon as nobody has it any more."""
        with self._lock:
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            with slot.lock:
                self._retire(slot)

    def _current(self, name: str) -> _Copy:
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
        while True:
            with slot.lock:
                try:
                    copy = self._fresh(name, slot)
                except OpenFilesError:
                    raise
                except RsearchError:
                    self._retire(slot)
                    if not self.folder(name).exists():
                        with self._lock:
                            self._slots.pop(name, None)
                    raise
            with self._lock:
                if not copy.is_retired:
                    copy.lent += 1
                    return copy

    def _fresh(self, name: str, slot: _Slot) -> _Copy:
        """The copy of a slot, opened anew if the index is another one by now. Its lock is held."""
        held = slot.copy
        if held is not None and held.signs == _signs(held.signs):
            return held
        self._retire(slot)
        manifest = os.fspath(self.folder(name) / NAMES.manifest)
        signs = _signs([manifest])  # read first: if it is replaced right now, the next request opens it again
        index = open_index(
            self._only.get(name, name), home=self.home.path, threads=self.threads, engine=self._engine
        )
        index.warm()
        index.cache_documents(CHARACTERS_KEPT)
        slot.copy = _Copy(index, {**_signs(_arrays(index)), **signs})
        return slot.copy

    def _retire(self, slot: _Slot) -> None:
        """Take a copy out of its slot; it is closed when nobody has it any more."""
        copy, slot.copy = slot.copy, None
        if copy is None:
            return
        with self._lock:
            copy.is_retired = True
            is_free = copy.lent == 0
        if is_free:
            copy.index.close()

    def _give_back(self, copy: _Copy) -> None:
        with self._lock:
            copy.lent -= 1
            is_free = copy.is_retired and copy.lent == 0
        if is_free:
            copy.index.close()


def _arrays(index: Index) -> list[str]:
    """The files that are mapped. To read a page of one that was cut meanwhile would end the process."""
    return [
        os.fspath(index.folder / part.path / name)
        for part in index.manifest.parts
        for name in part.files
        if name.endswith(".npy")
    ]


def _signs(paths: Iterable[str]) -> dict[str, Sign | None]:
    """What tells each file from any other at its path; None if there is none."""
    return {path: _sign(path) for path in paths}


def _refuse_cut(signs: Mapping[str, Sign | None]) -> None:
    """Refuse what was read of files that were cut meanwhile: see `service.mapped`."""
    for path, sign in signs.items():
        now = _sign(path)
        if sign is not None and now is not None and now[:2] == sign[:2] and now[2] < sign[2]:
            raise IndexFormatError(
                f"{path} was cut to {now[2]:,} of {sign[2]:,} bytes while it was searched: `rsearch verify` "
                "tells more, `rsearch repair` mends what follows from the full dimension"
            )


def _sign(path: str) -> Sign | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
