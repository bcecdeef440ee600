"""What an embedder is: texts in, one row of floats a text out.

An embedder turns a short list of texts into an (n, width) float32 array, in their order. That one
method is all it must have; single texts, batches and many requests at once derive from it.

- `embed` does one request: at most `batch_size` texts (fewer where `fit_in` says so), none of them
  blank. It may be called from several threads at once when `concurrency` is above 1. It does not
  retry what the network lost: it raises `ServiceError` for what another try may cure and another
  `EmbedderError` for what it will not, and the caller decides.
- The rows are the model's own: not centred, not truncated, not normalised. The index does that.
- The same text and task give the same row, up to the service's own noise.
- A text is embedded for a task: a document to be found, or a query that looks for one.
- An embedder is described by an `EmbedderSpec`, which an index's manifest keeps. `fingerprint` says
  when two vectors may be compared, and it is the key of the query cache. Neither holds a secret.
- Its constructor takes keywords alone, all with defaults: `model`, and what its spec's options hold.
  Of those, the command line passes `base_url`, `api_key_env`, `document_prefix` and `query_prefix`.
- An embedder that learns from the corpus (`needs_fit`) is fitted before the first row and frozen
  then; its state is files of JSON and .npy in a folder, from which `load` brings it back.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.models import truncation_remark
from resizable_search.errors import BadAnswerError
from resizable_search.specs import EmbedderSpec

Task = Literal["search_document", "search_query"]
"""What a text is embedded for; the names are those of nomic's models."""


class Embedder(ABC):
    """Texts to vectors. See the module's docstring for the contract."""

    kind: ClassVar[str]
    needs_fit: ClassVar[bool] = False
    """Whether it must learn from the corpus before it can embed."""
    remote: ClassVar[bool] = False
    """Whether a request costs money or time at a service, so that answers are journalled on arrival."""
    embeds: ClassVar[bool] = True
    """Whether it can embed a text at all."""
    known_models: ClassVar[Collection[str]] = ()
    """Models that are meant by their name alone, whoever made vectors with them."""
    widest: int | None = None
    """The most dimensions that one which learns from the corpus may come to; None where `spec` tells."""
    most_state_bytes: ClassVar[int] = 0
    """What the files of one that learns from the corpus may take."""
    batch_size: int = 100
    """The most texts one call of `embed` takes."""
    concurrency: int = 1
    """How many calls of `embed` may run at once."""
    requests_per_minute: float | None = None
    """The service's limit, None where there is none."""
    before_repeat: Callable[[], None] | None = None
    """Called before a request that a client repeats by itself; may wait, or raise to have it not sent."""
    on_usage: Callable[[int], None] | None = None
    """Called with the tokens that an answer says it has cost; a service may tell none."""
    tell: Callable[[str], None] | None = None
    """Called with what a user should know of the work that is under way: a text that was cut, say."""
    check_costs: ClassVar[str] = ""
    """What `check` has a service bill, in words; '' if nothing."""
    remark: ClassVar[str] = ""
    """What a user must know of its vectors, in one line; '' if nothing."""

    @property
    @abstractmethod
    def spec(self) -> EmbedderSpec:
        """What rebuilds it, and when its vectors may be compared."""

    @abstractmethod
    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed 1 to `batch_size` texts, none of them blank.

        Returns (n, width) float32, finite, row i for text i. Raises EmbedderError.
        """

    def fit_in(self, texts: Sequence[str]) -> int:
        """How many of these texts, from the first on, one call of `embed` takes: 1 at least, 0 of none."""
        return min(len(texts), self.batch_size)

    @property
    def entrusts(self) -> tuple[str, str] | None:
        """The address that it sends a secret to and the variable that holds it, if its options name both.

        Whoever made an index chose those options: the secret is sent only where its owner said so.
        """
        return None

    @classmethod
    def remark_on(cls, spec: EmbedderSpec) -> str:
        """What a user must know of the vectors of a spec of this kind, in one line; '' if nothing."""
        return cls.remark or truncation_remark(spec.model)

    def check(self) -> str:
        """Make sure, embedding next to nothing, that it can work; in a few words, why it can.

        A remote one asks its service whether it takes the key. Raises EmbedderError.
        """
        return f"{self.kind} needs no credentials"

    def fit(self, texts: Iterable[str], state: Path) -> None:
        """Learn from the corpus's texts (read once) and write the state's files into the folder `state`."""
        raise TypeError(f"{self.kind} has nothing to fit")

    @classmethod
    def load(cls, state: Path) -> "Embedder":
        """The frozen embedder whose state `fit` wrote into the folder `state`. Raises IndexFormatError."""
        raise TypeError(f"{cls.kind} has no state to load")


def checked(vectors: NDArray[Any], n: int, width: int, who: str) -> NDArray[np.float32]:
    """The answer as (n, width) float32, or a BadAnswerError that says what is wrong with it."""
    if vectors.ndim != 2 or len(vectors) != n:
        raise BadAnswerError(
            f"{who} answered {len(vectors)} vectors for {n} texts; try again later",
            again=True,
        )
    if vectors.shape[1] != width:
        raise BadAnswerError(
            f"{who} answered vectors of {vectors.shape[1]} dimensions where {width} were expected; "
            "check that the endpoint serves the model that was named"
        )
    if not np.isfinite(vectors).all():
        raise BadAnswerError(
            f"{who} answered a vector with NaN or infinity in it; try again later", again=True
        )
    return np.ascontiguousarray(vectors, np.float32)


def billed_tokens(answer: Mapping[str, Any]) -> int:
    """The tokens that a service's JSON answer says were billed; 0 if it says nothing that makes sense."""
    usage = answer.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and tokens > 0 else 0


def clean(text: str) -> str:
    """The text with what no service and no database takes, NUL and lone surrogates, as U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
