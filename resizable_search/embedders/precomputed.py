"""The embedder of vectors that somebody else made: it says of which model they are, and embeds nothing."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import EmbedderError, UsageError
from resizable_search.specs import EmbedderSpec

UNKNOWN = "unknown"
"""The name of a model that was not told."""


class PrecomputedEmbedder(Embedder):
    """Stands for the model of vectors that were adopted; they are not centred.

    `model` is its name, if it is known, and `width` that of the vectors. Its index is queried with
    vectors, or with an embedder of the same model that the caller brings.
    """

    kind: ClassVar[str] = "given"
    embeds: ClassVar[bool] = False
    remark: ClassVar[str] = (
        "its vectors were given, without an embedder: search it with vectors (index.scan in Python)"
    )

    def __init__(self, *, model: str = UNKNOWN, width: int | None = None) -> None:
        if width is None:
            raise UsageError(
                "'given' embeds no texts: adopt vectors with `rsearch build vectors FILE.npy`, "
                "or choose another --embedder"
            )
        self._spec = EmbedderSpec(self.kind, model, width, options={"width": width})

    @property
    def spec(self) -> EmbedderSpec:
        """The model's name and the width of its vectors."""
        return self._spec

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Raise EmbedderError, which says how such an index is searched."""
        raise EmbedderError(
            f"no text can be embedded for given vectors (model: {self._spec.model}): build the index "
            "again with --model and --embedder, or search it with vectors from Python (index.scan)"
        )
