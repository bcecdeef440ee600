"""Nomic's models on this machine, through Nomic's client and gpt4all.

Free and without a key. gpt4all downloads the model (about 270 MB) on first use, and asks gpt4all.io
for its list of models whenever a process loads one, even when the file is there.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task
from resizable_search.embedders.nomic import DEFAULT_MODEL, WIDTH, nomic_spec, nomic_vectors
from resizable_search.embedders.nomic_client import reason
from resizable_search.errors import EmbedderError, RefusedTextError
from resizable_search.specs import EmbedderSpec


class NomicLocalEmbedder(Embedder):
    """A model of Nomic's run by gpt4all; its vectors may be compared with the hosted service's."""

    kind: ClassVar[str] = "nomic-local"
    batch_size = 64
    concurrency = 1

    def __init__(self, *, model: str = DEFAULT_MODEL) -> None:
        self._spec = nomic_spec(self.kind, model)
        self._file = f"{model}.f16.gguf"
        self._fetched = False

    @property
    def spec(self) -> EmbedderSpec:
        """The model, its tasks and its full width."""
        return self._spec

    def check(self) -> str:
        """Make sure that gpt4all is installed and works here; the model is not loaded for it."""
        _client()
        return "gpt4all is installed"

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to 64 texts. Returns (n, 768) float32; raises EmbedderError.

        The first call loads the model, and downloads it if need be, with gpt4all's own bar on stderr.
        """
        embed = _client()
        if not self._fetched:
            self._fetch()
        try:
            with _silent_thread():
                answer = embed.text(
                    list(texts),
                    model=self._spec.model,
                    task_type=task,
                    dimensionality=WIDTH,
                    long_text_mode="truncate",
                    inference_mode="local",
                )
        except UnicodeEncodeError:
            raise RefusedTextError(
                "a text holds characters that are not Unicode (lone surrogates); "
                "correct it, or leave it out with `--on-bad-text skip`"
            ) from None
        except Exception as error:
            raise EmbedderError(
                f"gpt4all cannot embed with {self._file}: {reason(error)}; "
                "delete it from ~/.cache/gpt4all to have it downloaded again, or use `--embedder nomic`"
            ) from error
        return nomic_vectors(answer, len(texts), self._spec, "gpt4all")

    def _fetch(self) -> None:
        """See that the model's file is there, as loading it does again: so a failure to get it has a name."""
        from gpt4all import GPT4All

        try:
            GPT4All.retrieve_model(self._file)
        except Exception as error:
            raise EmbedderError(
                f"gpt4all cannot fetch {self._file}: {reason(error)}; connect to the network, which it needs "
                "whenever it loads a model, or build with `--embedder lsa`, which needs none"
            ) from error
        self._fetched = True


def _client() -> Any:
    """`nomic.embed`, if it has gpt4all to run models with."""
    missing = (
        'gpt4all is {}: `pip install "resizable_search[local]"` (in a clone: `pip install ".[local]"`), '
        "or use `--embedder nomic`"
    )
    try:
        import nomic.embed
    except OSError as error:  # gpt4all loads its native library when it is imported
        raise EmbedderError(missing.format("of no use on this machine")) from error
    if nomic.embed.Embed4All is None:
        raise EmbedderError(missing.format("not installed"))
    return nomic.embed


@contextlib.contextmanager
def _silent_thread() -> Iterator[None]:
    """Drop what this thread writes to stderr: the client draws a bar for each call and has no switch for it.

    Other threads' output, such as the progress of a build, goes on as before.
    """
    muted = _Muted(sys.stderr)
    with contextlib.redirect_stderr(muted):
        yield


class _Muted:
    """A stream that is deaf to the thread that made it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return len(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
