"""The indexes of a home, opened once and lent to threads; an index that changes on disk is reopened."""

import os
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resizable_search.embedders.base import PrecomputedEmbedder
from resizable_search.errors import IndexNotFoundError, RsearchError, UsageError
from resizable_search.search.index import Index, open_index
from resizable_search.service.schemas import EmbedderModel, IndexDetailModel, TunedPlanModel
from resizable_search.store.executor import EngineMaker
from resizable_search.store.layout import FAVOURITE, INDEX_VARIABLE, NAMES, Home, none_yet, resolve_index
from resizable_search.store.tuned_plans import read_curve
from resizable_search.system import thread_count
from resizable_search.text import plain, quoted

FileId = tuple[int, int, int, int]  # device, inode, size and time of change: they identify a file
QUESTIONS, DRAWN, MOST_QUESTION = 3, 30, 80  # titles to show, documents to draw them from, and characters
CACHED_CHARACTERS = 1 << 24  # of documents in memory: reading ten takes as long as a scan of one-bit codes


@dataclass(slots=True)
class _OpenIndex:
    """`users`: those who borrow it, and its slot."""

    index: Index
    files: dict[str, FileId | None]
    users: int = 1


@dataclass(slots=True)
class _Slot:
    """The room of one name. Its lock is held while the index is opened, so that one thread does it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    opened: _OpenIndex | None = None


class IndexPool:
    """The indexes of a home, or only those (also folders elsewhere) of `only`; safe from any thread.

    Each request looks at the disk, so a changed or mended index is noticed by the next one. Names in
    requests are looked up, never made into paths. Raises IndexNotFoundError, UsageError for `only`.
    """

    def __init__(
        self,
        home: Home,
        only: Sequence[str] = (),
        *,
        threads: int | None = None,
        engine: str | EngineMaker = "auto",
    ) -> None:
        self.home = home
        self.threads = thread_count(threads)  # of a scan
        self.engine = engine
        self._only: dict[str, Path] = {}
        for name in only:
            folder = resolve_index(name, home)
            known = folder.resolve().name
            if self._only.setdefault(known, folder) != folder:
                raise UsageError(f"two indexes are called {quoted(known)}: serve one of them")
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The names of the indexes, sorted. Raises StorageError for an unreadable home."""
        return sorted(self._only) if self._only else self.home.names()

    def folder(self, name: str) -> Path:
        """The folder of an index."""
        return self._only.get(name, self.home.index(name))

    @staticmethod
    def default_of(names: Sequence[str]) -> str | None:
        """The index of a request that names none; None: it must name one."""
        for favourite in (os.environ.get(INDEX_VARIABLE), FAVOURITE):
            if favourite in names:
                return favourite
        return names[0] if len(names) == 1 else None

    def resolve(self, name: str | None) -> str:
        """The index that a request means. Raises IndexNotFoundError with the known names."""
        if name is not None and name in self._slots:
            return name
        if not (names := self.names()):
            raise none_yet(self.home)
        known = self.default_of(names) if name is None else name
        if known in names:
            return known
        problem = "which index? name one" if name is None else f"no index {quoted(name)}"
        raise IndexNotFoundError(f"{problem}: there are {', '.join(names)}")

    def fingerprint(self, name: str) -> str | None:
        """The fingerprint of an open index's embedder; None if the index is not open. Reads nothing."""
        slot = self._slots.get(name)
        opened = slot.opened if slot is not None else None
        return opened.index.fingerprint if opened is not None else None

    @contextmanager
    def lend(self, name: str | None) -> Iterator[Index]:
        """The index of that name as it is now, open until the block ends. Raises what `open_index` raises."""
        opened = self._current(self.resolve(name))
        try:
            yield opened.index
        finally:
            self._release(opened)

    def close(self) -> None:
        """Close every index as soon as nobody uses it."""
        with self._lock:
            slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            with slot.lock:
                self._empty(slot)

    def _current(self, name: str) -> _OpenIndex:
        """The open index of a name, with one more user. It is reopened if its files have changed."""
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
        with slot.lock:
            opened = slot.opened
            if opened is None or opened.files != _file_ids(opened.files):
                self._empty(slot)
                try:
                    opened = slot.opened = self._open(name)
                except RsearchError:
                    if not self.folder(name).exists():
                        with self._lock:
                            self._slots.pop(name, None)
                    raise
            with self._lock:
                opened.users += 1
            return opened

    def _open(self, name: str) -> _OpenIndex:
        manifest = os.fspath(self.folder(name) / NAMES.manifest)
        files = _file_ids([manifest])  # first: if it is replaced now, the next request opens it again
        index = open_index(
            self._only.get(name, name), home=self.home.path, threads=self.threads, engine=self.engine
        )
        try:
            index.warm()
        except BaseException:
            index.close()
            raise
        index.cache_documents(CACHED_CHARACTERS)
        arrays = [
            os.fspath(index.folder / part.path / file)
            for part in index.manifest.parts
            for file in part.files
            if file.endswith(".npy")
        ]
        return _OpenIndex(index, {**_file_ids(arrays), **files})

    def _empty(self, slot: _Slot) -> None:
        """Empty a slot. Its lock is held."""
        opened, slot.opened = slot.opened, None
        if opened is not None:
            self._release(opened)

    def _release(self, opened: _OpenIndex) -> None:
        with self._lock:
            opened.users -= 1
            is_free = opened.users == 0
        if is_free:
            opened.index.close()


def _file_ids(paths: Iterable[str]) -> dict[str, FileId | None]:
    ids: dict[str, FileId | None] = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            ids[path] = None
        else:
            ids[path] = status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
    return ids


def describe(pool: IndexPool, name: str, *, fully: bool = False) -> IndexDetailModel:
    """An index, damaged or not; `fully`: with what a first visit needs."""
    try:
        with pool.lend(name) as index:
            is_precomputed = index.manifest.embedder["kind"] == PrecomputedEmbedder.kind
            return IndexDetailModel(
                name=name,
                problem=PrecomputedEmbedder.remark if is_precomputed else None,
                generation=index.manifest.state,
                rows=index.rows,
                full_dim=index.full_dim,
                dims=index.dims,
                columns=index.columns(),
                embedder=EmbedderModel.model_validate(index.manifest.embedder),
                tuned=[TunedPlanModel.model_validate(plan) for plan in index.plans.all()],
                local=index.embeds_for_free,
                questions=_questions(index) if fully else (),
                curve=read_curve(index.folder, index.manifest) if fully else None,
            )
    except RsearchError as error:
        return IndexDetailModel(name=name, problem=plain(str(error)))


def example(pool: IndexPool) -> dict[str, Any]:
    """An index that can be searched by texts, and a question, a document and a dimension of it; {}: none."""
    names = pool.names()
    for name in dict.fromkeys([pool.default_of(names) or names[0], *names] if names else ()):
        with suppress(RsearchError), pool.lend(name) as index:
            row = int(index.live_rows()[0])
            document = index.documents([row])[0]
            if index.manifest.embedder["kind"] != PrecomputedEmbedder.kind:
                question = (_questions(index) or [document.text[:MOST_QUESTION]])[0]
                return {"index": name, "row": row, "id": document.id, "q": question, "dim": index.dims[0]}
    return {}


def _questions(index: Index) -> list[str]:
    """Titles of a few documents, or their first words: the same ones for as long as the index stays."""
    live = index.live_rows()
    drawn = random.Random(index.manifest.state).sample(range(len(live)), min(DRAWN, len(live)))
    documents = index.documents(live[drawn])
    starts = (document.text[:MOST_QUESTION].rpartition(" ")[0] for document in documents)
    texts = (" ".join(plain(text).split()) for text in (*(d.title for d in documents), *starts))
    questions = list(dict.fromkeys(text for text in texts if 3 <= len(text) <= MOST_QUESTION))
    if index.manifest.embedder.get("state_checksum"):  # a fitted embedder may know no word of some
        _, known = index.embed_known(questions)
        questions = [question for question, is_known in zip(questions, known, strict=True) if is_known]
    return questions[:QUESTIONS]
