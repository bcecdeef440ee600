"""An embedder turns texts into vectors. This is the contract.

`embed` is the one required method: a short list of texts in, an (n, width) float32 array out, row i for text
i. `request_pool` calls it for any number of texts.

- `embed` sends one request of at most `batch_size` texts, or fewer if `fit_in` says so. No text is blank,
  or has NUL or lone surrogates.
  Several threads may call it at once if `concurrency` is above 1.
- It does not retry. It raises `ServiceError` if another try may help, else another `EmbedderError`.
- Rows are the model's own: not centred, not truncated, not normalised. The index does that.
- The same text and task give the same row, except for the service's own noise.
- `spec` describes the embedder; an index's manifest stores it. It holds no secret.
- The constructor sets `_spec`. It takes keywords only, all with defaults: `model`, and the options of the
  spec. The command line passes `base_url`, `api_key_env`, `document_prefix` and `query_prefix` to those that
  have them.
- If `needs_fit`, it learns from the corpus before the first row and is frozen then. Its state is a folder
  of JSON and .npy files; `load` reads it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.models import truncation_remark
from resizable_search.errors import BadAnswerError, NoEmbedderError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.text import without_surrogates

Task = Literal["search_document", "search_query"]  # what a text is for, in words of Nomic's models

QUERY_SECONDS = 30.0  # how long one request of a query may take: somebody waits for it
MORE_SECONDS = 2.0  # and for each further text of the request
UNKNOWN_MODEL = "unknown"  # the model of precomputed vectors, if nobody named it


def ignore(*_: object) -> None:
    """Do nothing: an embedder's hooks until a request pool sets them."""


class Embedder(ABC):
    """Texts to vectors. The module's docstring is the contract."""

    kind: ClassVar[str]
    needs_fit: ClassVar[bool] = False  # whether it must learn from the corpus first
    remote: ClassVar[bool] = False  # whether a request costs money or time at a service
    loads_slowly: ClassVar[bool] = False  # whether a process needs seconds before its first text
    embeds: ClassVar[bool] = True  # whether it can embed texts at all
    known_models: ClassVar[Collection[str]] = ()  # models that belong to this kind by their name alone
    widest: int | None = None  # the most dimensions it may have, if only `fit` tells its width
    max_state_bytes: ClassVar[int] = 0  # the most bytes of a fitted state
    batch_size: int = 100  # the most texts in one call of `embed`
    concurrency: int = 1  # the most calls of `embed` at once
    workers: int = 1  # processes that embed, each of which may have as many texts under way as one alone
    requests_per_minute: float | None = None  # the service's rate limit
    before_repeat: Callable[[], None] = staticmethod(ignore)  # call it before repeats: it waits, or raises
    on_usage: Callable[[int], None] = staticmethod(ignore)  # call it with the tokens that were billed
    on_note: Callable[[str], None] = staticmethod(ignore)  # call it with what the user should know
    check_costs: ClassVar[str] = ""  # what `check` costs at the service, in words
    remark: ClassVar[str] = ""  # what users must know of its vectors, in one line

    _cuts: Iterator[int]  # set by the constructor of one that cuts
    _spec: EmbedderSpec  # set by the constructor, unless the class overrides `spec`

    @property
    def spec(self) -> EmbedderSpec:
        """What describes and rebuilds it. May raise EmbedderError."""
        return self._spec

    @abstractmethod
    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed 1 to `batch_size` texts. Returns (n, width) float32, finite. Raises EmbedderError."""

    def fit_in(self, texts: Sequence[str]) -> int:
        """How many of these texts, from the first on, fit into one call of `embed`; at least 1 of them."""
        return min(len(texts), self.batch_size)

    def note_cut(self, model: str, part: str) -> None:
        """Tell that a text was cut to its first `part`, if it is the 1st, 10th or 100th, and so on."""
        count = next(self._cuts)
        if str(count).strip("0") == "1":
            which = "a text" if count == 1 else f"the {count:,}th text"
            self.on_note(f"{which} is too long for {model}: only the first {part} are embedded")

    @property
    def key_destination(self) -> tuple[str, str] | None:
        """The address that gets a secret, and the secret's variable, if the options name them."""
        return None

    @classmethod
    def remark_on(cls, spec: EmbedderSpec) -> str:
        """What users must know of the vectors of this spec, in one line; '' if nothing."""
        return cls.remark or truncation_remark(spec.model)

    def check(self) -> str:
        """Check that it can work, at next to no cost; why it can, in a few words. Raises EmbedderError."""
        return f"{self.kind} needs no credentials"

    def status(self) -> str:
        """How its work goes, in a few words; '' if there is nothing to say."""
        return ""

    def fit(self, texts: Iterable[str], state: Path) -> None:
        """Learn from the texts, which are read once, and write the state into the folder `state`."""
        raise TypeError(f"{self.kind} has nothing to fit")

    @classmethod
    def load(cls, state: Path) -> "Embedder":
        """The fitted embedder whose state is in the folder `state`. Raises IndexFormatError."""
        raise TypeError(f"{cls.kind} has no state to load")


class PrecomputedEmbedder(Embedder):
    """Stands for `width` wide vectors of `model` that somebody else computed. It embeds nothing."""

    kind: ClassVar[str] = "given"
    embeds: ClassVar[bool] = False
    remark: ClassVar[str] = "it has no embedder: search it with vectors (index.scan in Python)"

    def __init__(self, *, model: str = UNKNOWN_MODEL, width: int | None = None) -> None:
        if width is None:
            raise UsageError(
                "the embedder 'given' embeds no texts: make an index of your vectors with `build vectors`, "
                "or choose another `embedder`"
            )
        self._spec = EmbedderSpec(self.kind, model, width, options={"width": width})

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Raise NoEmbedderError."""
        raise NoEmbedderError(
            f"no embedder is known for these vectors (model: {self._spec.model}): build the index again with "
            "`model` and `embedder`, or search it with vectors from Python (index.scan)"
        )


def seconds_for(task: Task, texts: int, most: float) -> float:
    """How long a request of so many texts may take: `most` for documents, less for queries."""
    if task == "search_document":
        return most
    return min(most, QUERY_SECONDS + (texts - 1) * MORE_SECONDS)


def checked(rows: Iterable[Any], n: int, width: int, who: str) -> NDArray[np.float32]:
    """A service's rows as (n, width) float32; `width` 0 takes any. Raises BadAnswerError."""
    try:
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused below
            vectors = np.array(list(rows), np.float32)
    except (TypeError, ValueError):
        vectors = np.empty(0, np.float32)
    remedy, again = "try again later", True
    if vectors.ndim != 2 or not vectors.shape[1]:
        problem = "embeddings that are not rows of numbers"
    elif len(vectors) != n:
        problem = f"{len(vectors)} vectors for {n} texts"
    elif width and vectors.shape[1] != width:
        problem = f"vectors of {vectors.shape[1]} dimensions where {width} were expected"
        remedy, again = "check that it serves the right model", False
    elif not np.isfinite(vectors).all():
        problem = "a vector with NaN or infinity in it"
    elif not vectors.any(axis=1).all():
        problem, remedy = "a vector of zeros", "check that it serves an embedding model"
    else:
        return vectors
    raise BadAnswerError(f"{who} answered {problem}; {remedy}", again=again)


def billed_tokens(answer: Mapping[str, Any]) -> int:
    """The billed tokens of a service's JSON answer; 0 if it does not tell."""
    usage = answer.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and tokens > 0 else 0


def clean(text: str) -> str:
    """The text with NUL and lone surrogates, which no service and no database takes, as U+FFFD."""
    return without_surrogates(text.replace("\0", "\ufffd"))
