"""What runs in a worker process of a Ray cluster: an embedder.

Its answers are plain values, also where it fails: an error that crosses processes may not be what it was.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resizable_search import __version__, errors
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import RsearchError
from resizable_search.specs import EmbedderSpec


class Reply(NamedTuple):
    """The value of a call, or the error (its class's name, message and fields), and what was counted."""

    value: Any
    error: tuple[str, str, dict[str, Any]] | None = None
    tokens: int = 0
    repeats: int = 0
    notes: tuple[str, ...] = ()

    def result(self) -> Any:
        """The value. Raises the RsearchError."""
        if self.error is None:
            return self.value
        name, message, fields = self.error
        cls = getattr(errors, name, RsearchError)
        error = cls.__new__(cls)
        Exception.__init__(error, message)
        error.__dict__.update(fields)
        raise error


class EmbedWorker:
    """Embeds texts with the embedder of this spec (JSON), which it opens once.

    `environment` holds one reference to variables such as keys: Ray shows the arguments of an actor, but not
    what a reference inside of them leads to.
    """

    def __init__(self, spec: Mapping[str, Any], environment: Sequence[Any]) -> None:
        import ray

        os.environ.update(ray.get(environment[0]))
        self._spec = spec
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()
        self._tokens = self._repeats = 0
        self._notes: list[str] = []

    def ready(self, check: bool) -> Reply:
        """Open the embedder, and `check` it; (version of rsearch, host, process)."""
        reply = self._replied(lambda: self._opened(check))
        if reply.error is None:
            return reply
        name, message, fields = reply.error
        words = f"on {socket.gethostname()}: "
        fields |= {"message": words + fields["message"]} if "message" in fields else {}
        return reply._replace(error=(name, words + message, fields))

    def embed(self, texts: Sequence[str], task: Task) -> Reply:
        """The (n, width) float32 vectors of the texts."""
        return self._replied(lambda: self._open().embed(texts, task))

    def _opened(self, check: bool) -> tuple[str, str, int]:
        if check:
            self._open().check()
        return __version__, socket.gethostname(), os.getpid()

    def _open(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = registry.reopen(EmbedderSpec.from_json(self._spec), Path())
                self._embedder.before_repeat = self._repeated
                self._embedder.on_usage = self._billed
                self._embedder.on_note = self._notes.append
            return self._embedder

    def _repeated(self) -> None:
        with self._lock:
            self._repeats += 1

    def _billed(self, tokens: int) -> None:
        with self._lock:
            self._tokens += tokens

    def _replied(self, work: Callable[[], Any]) -> Reply:
        value = error = None
        try:
            value = work()
        except RsearchError as raised:
            cls = next(cls for cls in type(raised).__mro__ if cls.__module__ == errors.__name__)
            error = cls.__name__, str(raised), dict(raised.__dict__)
        with self._lock:
            counted = self._tokens, self._repeats, tuple(self._notes)
            self._tokens = self._repeats = 0
            self._notes.clear()
        return Reply(value, error, *counted)
