"""Query texts as vectors: from the cache, or by the embedder of the index.

The cache is an SQLite file, keyed by fingerprint and a hash of the text. A query never fails because of it.
Embedders that work on this machine have none, since they are as fast, unless they take seconds to load.
"""

import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, clean
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.errors import EmbedderMismatchError, QueryError, RsearchError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES
from resizable_search.text import clipped, quoted

MOST_BYTES = 256_000_000  # of the cache
ROW_BYTES = 200  # what a vector takes beside its numbers
BUSY_SECONDS = 1.0  # how long another process may hold the cache

_SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, text_sha256 BLOB NOT NULL, vector BLOB NOT NULL,
    UNIQUE (fingerprint, text_sha256)
) STRICT
"""


class QueryCache:
    """The newest raw query vectors by (fingerprint, text), in a file; one connection for all threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._status: os.stat_result | None = None
        self._close: Callable[[], object] = lambda: None

    def get(self, fingerprint: str, text: str, width: int) -> NDArray[np.float32] | None:
        """The (width,) float32 vector of a text, or None."""
        with self._lock, suppress(sqlite3.Error, OSError):
            if self._path.is_file():
                query = "SELECT vector FROM vectors WHERE fingerprint = ? AND text_sha256 = ?"
                row = self._opened().execute(query, (fingerprint, _key(text))).fetchone()
                if row is not None and len(row[0]) == 4 * width:
                    return np.frombuffer(row[0], "<f4").astype(np.float32)
        return None

    def put(self, fingerprint: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Store the (width,) vectors of texts: all of them, or none if the disk refuses."""
        rows = [(fingerprint, _key(text), row.astype("<f4").tobytes()) for text, row in vectors.items()]
        most = MOST_BYTES // (ROW_BYTES + len(rows[0][2]))
        with self._lock, suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as db:
                db.execute(_SCHEMA)
                insert = "INSERT OR REPLACE INTO vectors (fingerprint, text_sha256, vector) VALUES (?, ?, ?)"
                db.executemany(insert, rows)
                db.execute(
                    "DELETE FROM vectors WHERE number <= (SELECT max(number) FROM vectors) - ?", [most]
                )

    def _opened(self) -> sqlite3.Connection:
        """The connection, made again if the file is another one. Raises sqlite3.Error, OSError."""
        is_there = self._status and self._path.exists() and os.path.samestat(self._status, self._path.stat())
        if self._db is None or not is_there:
            self._close()
            self._db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, check_same_thread=False)
            self._close = weakref.finalize(self, self._db.close)
            for earlier in ("queries", "ages"):  # tables of earlier versions
                self._db.execute(f"DROP TABLE IF EXISTS {earlier}")
            self._status = self._path.stat()
        return self._db


query_cache = lru_cache(8)(QueryCache)  # the cache at a path: one for this process


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class QueryEmbedder:
    """Embeds queries of an index, for any thread. Raises EmbedderMismatchError for another vector space."""

    def __init__(
        self,
        name: str,
        folder: Path,
        spec: EmbedderSpec,
        cache: QueryCache,
        trust: TrustedEndpoints,
        embedder: Embedder | None,  # None: that of `spec`, opened for the first text not in the cache
    ) -> None:
        self.embedder = embedder
        self._name = name
        self._folder = folder
        self._spec = spec
        self._cache = cache
        self._trust = trust
        self._lock = threading.Lock()
        if embedder is not None:
            self._refuse_other_space(embedder.spec)

    @property
    def is_free(self) -> bool:
        """Whether texts are embedded on this machine, so that they cost nothing."""
        kind = self._kind()
        return kind is not None and kind.embeds and not kind.remote

    def _kind(self) -> Embedder | type[Embedder] | None:
        from resizable_search.embedders.registry import embedder_class

        with suppress(UsageError):  # its package is not installed here
            return self.embedder or embedder_class(self._spec.kind)
        return None

    def _is_cached(self) -> bool:
        kind = self._kind()
        return not self.is_free or (kind is not None and kind.loads_slowly)

    def load(self) -> None:
        """Read the files of a fitted embedder now. Errors are raised when a text is embedded."""
        with suppress(RsearchError):
            self._opened()

    def cached(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """The raw vectors (m, width) of these texts if the cache has all of them, else None."""
        if not self._is_cached():
            return None
        rows = [self._cache.get(self._spec.fingerprint, text, self._spec.width) for text in texts]
        return None if any(row is None for row in rows) else np.array(rows, np.float32)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw vectors of these texts, (m, width) float32. Raises UsageError, QueryError and EmbedderError."""
        if not isinstance(texts, str) and any(not text.strip() for text in texts):
            raise UsageError("the query is blank: give it a word or more")
        out, known = self.embed_known(texts)
        if not known.all():
            unknown = int(np.argmin(known))
            raise QueryError(
                f"no word of {quoted(texts[unknown])} occurs in {self._name}, "
                f"whose embedder ({clipped(self._spec.kind)}) knows no others: try other words",
                unknown,
            )
        return out

    def embed_known(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As `embed`, and which texts (m,) have a vector that is not zero; blank texts have none."""
        if isinstance(texts, str):
            raise UsageError("embed_queries takes a list of texts, not one text: put it into a list")
        out = np.zeros((len(texts), self._spec.width), np.float32)
        fingerprint = self._spec.fingerprint
        missing, is_cached = [], self._is_cached()
        for i, text in enumerate(texts):
            if text.strip():
                cached = self._cache.get(fingerprint, text, self._spec.width) if is_cached else None
                if cached is None:
                    missing.append(i)
                else:
                    out[i] = cached
        if missing:
            from resizable_search.embedders.request_pool import embed_all

            out[missing] = embed_all(self._opened(), [clean(texts[i]) for i in missing], "search_query")
            if is_cached:
                self._cache.put(fingerprint, {texts[i]: out[i] for i in missing})
        return out, np.array(out.any(axis=1))

    def _opened(self) -> Embedder:
        with self._lock:
            if self.embedder is None:
                from resizable_search.embedders import registry

                embedder = registry.reopen(self._spec, self._folder / NAMES.embedder)
                self._trust.require(embedder, self._name)
                self._refuse_other_space(embedder.spec)
                self.embedder = embedder
            return self.embedder

    def _refuse_other_space(self, other: EmbedderSpec) -> None:
        if other.space != self._spec.space:
            raise EmbedderMismatchError(
                f"{self._name} was embedded by {_described(self._spec)}; vectors of {_described(other)} "
                "cannot be compared with those: query it with its own embedder"
            )


def embedder_elsewhere(
    spec: EmbedderSpec, kind: str | None, model: str | None, options: Mapping[str, str | int | None]
) -> Embedder:
    """An embedder of the model of `spec` elsewhere, where it may be named `model`. Raises UsageError."""
    from resizable_search.embedders import registry

    overrides = {name: value for name, value in options.items() if value is not None}
    if kind is None:
        if "base_url" not in spec.options and "base_url" not in overrides:
            raise UsageError("give `base_url` or `embedder`: what is to embed the query?")
        kind = spec.kind if "base_url" in spec.options else "openai"
    cls = registry.embedder_class(kind)
    if cls.needs_fit or not cls.embeds:
        raise UsageError(f"`embedder`: {kind} cannot run the model of an index at another place")
    if kind == spec.kind and "served_as" in spec.options:
        recorded = dict(spec.options)
        if "base_url" in overrides:
            recorded.pop("api_key_env", None)  # whoever made the index chose it for that address
        if model is not None:
            recorded["served_as"] = model
        return registry.create(kind, spec.model, {**recorded, **overrides})
    return registry.create(kind, model or spec.model, overrides)


def _described(spec: EmbedderSpec) -> str:
    """An embedder's model in words, with what tells it apart from others of its name."""
    fitted = f" as fitted ({spec.state_checksum[:8]})" if spec.state_checksum else ""
    return f"{clipped(spec.model)} ({spec.width} dimensions){fitted}"
